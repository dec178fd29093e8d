"""The results of `lplr bench` as one HTML file that needs nothing else: to read, print and mail."""

from lplr.evaluation.report.write import write_report

__all__ = ["write_report"]
