"""What theory says: each result a function that returns its right-hand side."""

from lplr.theory.limits import rate_distortion_limit

__all__ = ["rate_distortion_limit"]
