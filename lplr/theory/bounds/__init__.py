"""The bounds of both papers: each statement a function that returns its right-hand side.

Arguments are concrete: singular values or a matrix, sizes, steps (or bits and ranges, see
`uniform_step`). Each docstring names its assumptions and source, and has the derivation step by
step. Errors are squared Frobenius norms unless it says otherwise; n and d are the rows and columns
of the matrix, m the sketch size, k the rank that an error is compared with. An assumption that
fails on the arguments raises `lplr.exceptions.InputError`; that a quantizer saturates shows in the
data only, see `saturated_entries`.
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
    saturation_p_value,
    sketch_range,
    solution_range,
)

__all__ = [
    "caldera_pivot_bound",
    "caldera_theorem_4_1",
    "caldera_theorem_4_1_spectral",
    "direct_svd_bound",
    "dithered_moments",
    "dithered_variance_bound",
    "feedback_lplr_bound",
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
    "saturation_p_value",
    "sketch_range",
    "solution_range",
    "uniform_step",
]
