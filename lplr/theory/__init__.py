"""Bounds and limits, each a function that returns its right-hand side, and tests of them."""

from lplr.theory import bounds
from lplr.theory.compare import compare_bounds
from lplr.theory.comparison import Comparison
from lplr.theory.distortion import Distortion, distortion_table, quantizer_distortion
from lplr.theory.limits import gaussian_limit, rate_distortion_limit
from lplr.theory.own_quantizer import Quantizer

__all__ = [
    "Comparison",
    "Distortion",
    "Quantizer",
    "bounds",
    "compare_bounds",
    "distortion_table",
    "gaussian_limit",
    "quantizer_distortion",
    "rate_distortion_limit",
]
