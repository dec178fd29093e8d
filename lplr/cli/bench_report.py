"""``lplr bench report``: the tables and the page of results that were measured before."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli.options import add_command, check_output

__all__ = ["add_report", "run"]


def add_report(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        kinds,
        common,
        "report",
        "print a table of results, and write its report, without measuring anything",
        "lplr bench report bench-all-quick.jsonl --html report.html",
        "Takes what other benchmarks wrote, of an interrupted run as well.",
    )
    parser.add_argument("table", metavar="TABLE", help="results, .jsonl")
    parser.add_argument("--html", metavar="FILE", help="write a report as one HTML file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.bench_tables import print_results
    from lplr.cli.progress import Progress
    from lplr.evaluation.gallery import gallery_path, read_gallery
    from lplr.evaluation.report import write_report
    from lplr.exceptions import InputError
    from lplr.storage.table import read_table

    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite, args.table)
    rows, attrs = read_table(args.table)
    if not rows:
        raise InputError(f"{args.table}: has no results yet; let the benchmark go on")
    samples = read_gallery(gallery_path(args.table))
    print_results(rows, attrs, [args.table, *([args.html] if args.html else [])])
    if args.html:
        with Progress(1.0) as progress:
            how = {"overwrite": args.overwrite, "progress": progress.tell}
            write_report(args.html, rows, attrs, samples, **how)
    return 0
