"""Bounds and limits: each result is a function that returns its right-hand side."""

from lplr.theory import bounds
from lplr.theory.distortion import Distortion, distortion_table, quantizer_distortion
from lplr.theory.limits import gaussian_limit, rate_distortion_limit

__all__ = [
    "Distortion",
    "bounds",
    "distortion_table",
    "gaussian_limit",
    "quantizer_distortion",
    "rate_distortion_limit",
]
