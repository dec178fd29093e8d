"""Feedback LPLR: R rounded with LDL feedback under the Hessian ``L^T L``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.progress import parts, until
from lplr.theory.bounds.lplr_nested import nested_error
from lplr.theory.bounds.lplr_sharp import sketch_error
from lplr.theory.broadcast import broadcast
from lplr.theory.checks import LplrArguments, check_lplr

__all__ = ["feedback_lplr_bound", "pivot_bounds"]

_NESTED = 24  # numbers of columns for which `nested_error`, which is slow, is computed


@broadcast
def feedback_lplr_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
) -> float:
    """Bound on ``E |L R - A|_F^2`` for LPLR with R quantized by LDL feedback under ``L^T L``.

    ``b_m + d step'^2/4 sum_t (b_t / m + n step^2/4)``, the sum over t = 0 ... m - 1, where b_t
    bounds the least-squares error of t columns, that is `lplr_nested_bound` without its last term,
    for a sketch of t columns and a step ``sqrt(m/t)`` times as large; b_0 is ``|A|_F^2``

    Parameters
    ----------
    singular_values, shape, m, steps
        As in `lplr_bound`.

    Returns
    -------
    float
        At most `lplr_nested_bound`, hence at most `lplr_sharp_bound` and `lplr_bound`, at the same
        arguments.

    Notes
    -----
    *Assumptions*: those of `lplr_bound` on S and L; R by LDL feedback in an order that does not
    depend on the values (last row first, say); the quantizer of R dithered or nearest, unsaturated
    on what it rounds, which is W* plus what is fed back. Neither paper has this statement.

    *Step 1.* As in `lplr_bound`, ``|L R - A|^2 = |L W* - A|^2 + |L (R - W*)|^2``, and the first
    term has mean at most b_m (`lplr_nested_bound`).

    *Step 2, the LDLQ identity.* With ``L^T L = U D U^T``, U unit lower triangular, feedback from
    the last row to the first makes ``U^T (W* - R) = eta``, the rounding errors (m x d), so that
    ``|L (R - W*)|^2 = tr(eta^T D eta) = sum_j D_j |eta_j|^2``. Each entry of eta has, given L,
    a mean square of at most ``step'^2/4``, so the mean is at most ``d step'^2/4 E tr D``.

    *Step 3, the pivots.* D_j is the squared distance of column j of L from the span of the
    columns before it; let P be the projector onto that span. Column j is ``A s_j + e_j``, the
    dither of one column being independent of the others, hence independent of P. Given P,
    its second moment is ``A A^T / m`` plus a diagonal of at most ``step^2/4``: the cross term is
    zero because e_j has mean zero given s_j. Hence
    ``E D_j = E tr((I - P)(A A^T/m + diag)) <= E |(I - P) A|_F^2 / m + n step^2/4``.

    *Step 4, back to the sketch.* ``|(I - P) A|^2`` is the least-squares error of the
    t = j - 1 columns before column j. Their span does not change when they are multiplied by
    ``sqrt(m/t)``, which makes them a sketch with entries of variance 1/t, rounded with step
    ``step sqrt(m/t)``. So its mean is at most b_t.

    *Never larger than without feedback.* ``b_t <= |A|_F^2``, because no phi_j of
    `lplr_nested_bound` exceeds 1. So the sum over the m columns is at most
    ``|A|_F^2 + n m step^2/4``, which stands in its place in `lplr_nested_bound`; the first terms
    are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import feedback_lplr_bound, lplr_nested_bound
    >>> sigma = 1 / np.arange(1.0, 101)
    >>> round(feedback_lplr_bound(sigma, (200, 100), 20, (0.01, 0.1)), 3)
    0.317
    >>> round(lplr_nested_bound(sigma, (200, 100), 20, (0.01, 0.1)), 3)
    0.607
    """
    given = check_lplr(singular_values, shape, m, steps)
    with until(1 / _NESTED):
        sketched = nested_error(given.sigma, given.n, given.m, given.m, given.left)
    return float(sketched + given.d * given.right * _pivots(given).sum())


@broadcast
def pivot_bounds(singular_values: Any, shape: tuple[int, int], m: int, step: float) -> np.ndarray:
    """Bound on the mean of each pivot of ``L^T L = U D U^T``, L the quantized sketch.

    Parameters
    ----------
    singular_values, shape, m
        As in `lplr_bound`.
    step : float
        Step of the quantizer of L.

    Returns
    -------
    ndarray of shape (m,)
        For the pivots j = 1 ... m, in squared units of A. The values do not increase with j; the
        first is an equality when the step is 0.

    Notes
    -----
    ``b_t / m + n step^2/4``, t = j - 1: steps 3 and 4 of `feedback_lplr_bound`, and its
    assumptions. Where m is above 24, b_t is computed for 24 values of t only. For a t between
    them, b_t is the bound of `lplr_sharp_bound` or that of the next smaller computed t, whichever
    is less.

    Examples
    --------
    >>> from lplr.theory.bounds import pivot_bounds
    >>> pivot_bounds([2.0, 0.0], (3, 2), 4, 0.0).round(12)
    array([1., 0., 0., 0.])
    """
    return _pivots(check_lplr(singular_values, shape, m, step))


def _pivots(given: LplrArguments) -> np.ndarray:
    sigma, n, _, m, variance, _ = given
    error = np.array([sketch_error(sigma, n, m, t, variance) for t in range(m)])
    # Whatever bounds the error of fewer columns bounds that of more.
    for t in parts(np.unique(np.linspace(0, m - 1, _NESTED).astype(int))):
        error[t] = nested_error(sigma, n, m, int(t), variance)
    return np.minimum.accumulate(error) / m + n * variance
