"""The bounds of both papers: each statement is a function that returns its right-hand side.

Arguments are numbers and arrays: singular values or a matrix, sizes, and the steps of the
quantizers (`uniform_step` gives the step of a number of bits and a range). Each docstring names
assumptions and source, and derives the bound step by step.

Wherever singular values are asked for, the matrix itself will do, and its shape may then be left
out; wherever a number is asked for, an array of numbers will do, and arrays are broadcast as in
NumPy: ``lplr_bound(A, m=[16, 32, 64], steps=0.1)`` has three values. A tuple of two steps is for L
and for R, and each may be an array. Many values, or a large matrix, may take seconds: each function
also takes ``progress``, which `lplr.progress` explains.

Notation: n and d are the rows and columns of the matrix, m is the sketch size, k the rank of the
best approximation A_k that an error is compared with. ``|A|`` is the Frobenius norm and ``L^+`` the
pseudo-inverse. Errors are squared Frobenius norms, hence in squared units of A; losses under a
Hessian H, ``tr(E H E^T)``, are in those times the units of H.

Every function raises `lplr.exceptions.InputError` if an argument is out of range or an assumption
fails on the arguments, and `lplr.exceptions.HessianError` if H is not what it must be; the message
names both. Whether a quantizer saturates only the data can tell: see `saturated_entries`.
"""

from lplr.theory.bounds.baselines import direct_svd_bound, lplr_svd_bound, naive_bound
from lplr.theory.bounds.bits import lplr_bits, lplr_theorem_3_2
from lplr.theory.bounds.caldera import (
    caldera_pivot_bound,
    caldera_theorem_4_1,
    caldera_theorem_4_1_spectral,
    rank_constrained_optimum,
)
from lplr.theory.bounds.feedback_lplr import feedback_lplr_bound, pivot_bounds
from lplr.theory.bounds.ldlq import (
    ldl_pivots,
    ldlq_expected_loss,
    ldlq_loss,
    ldlq_ratio,
    rounding_expected_loss,
    rounding_worst_loss,
)
from lplr.theory.bounds.lplr import lplr_best_k, lplr_bound
from lplr.theory.bounds.lplr_nested import lplr_nested_bound
from lplr.theory.bounds.lplr_sharp import lplr_sharp_bound
from lplr.theory.bounds.quantizer import (
    dithered_moments,
    dithered_variance_bound,
    nearest_error_bound,
    nearest_high_rate_error,
    uniform_step,
)
from lplr.theory.bounds.range_finder import range_finder_bound, range_finder_spectral_bound
from lplr.theory.bounds.saturation import (
    ldlq_range,
    pilot_range,
    saturated_entries,
    sketch_range,
    solution_range,
)
from lplr.theory.bounds.two_sided import (
    incoherent_pivot_bound,
    two_sided_bound,
    two_sided_expected_loss,
    two_sided_loss,
)

__all__ = [
    "caldera_pivot_bound",
    "caldera_theorem_4_1",
    "caldera_theorem_4_1_spectral",
    "direct_svd_bound",
    "dithered_moments",
    "dithered_variance_bound",
    "feedback_lplr_bound",
    "incoherent_pivot_bound",
    "ldl_pivots",
    "ldlq_expected_loss",
    "ldlq_loss",
    "ldlq_range",
    "ldlq_ratio",
    "lplr_best_k",
    "lplr_bits",
    "lplr_bound",
    "lplr_nested_bound",
    "lplr_sharp_bound",
    "lplr_svd_bound",
    "lplr_theorem_3_2",
    "naive_bound",
    "nearest_error_bound",
    "nearest_high_rate_error",
    "pilot_range",
    "pivot_bounds",
    "range_finder_bound",
    "range_finder_spectral_bound",
    "rank_constrained_optimum",
    "rounding_expected_loss",
    "rounding_worst_loss",
    "saturated_entries",
    "sketch_range",
    "solution_range",
    "two_sided_bound",
    "two_sided_expected_loss",
    "two_sided_loss",
    "uniform_step",
]
