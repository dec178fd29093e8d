"""LDL feedback (LDLQ): its loss exactly, in the mean, and beside plain rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import HessianError, InputError
from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_second_moment
from lplr.validation.arguments import check_choice, check_integer, check_real
from lplr.validation.matrices import check_matrix

__all__ = [
    "check_rounding_errors",
    "ldl_pivots",
    "ldlq_expected_loss",
    "ldlq_loss",
    "ldlq_ratio",
    "pivots_of",
    "rounding_expected_loss",
    "rounding_worst_loss",
]

ORDERS = ("natural", "min-pivot")


@broadcast
def ldl_pivots(hessian: Any, *, order: str = "natural") -> np.ndarray:
    """D of ``H = L D L^T``, L unit lower triangular: the loss for a unit of rounding error.

    Parameters
    ----------
    hessian : array_like of shape (d, d), (d,) or (m, d)
        A symmetric positive definite H, its diagonal, or m > d calibration inputs X, for
        ``H = X^T X / m``.
    order : {"natural", "min-pivot"}
        ``"natural"`` factorizes the columns as they are. ``"min-pivot"`` takes them in the order
        of this package's quantizers: at each step, the smallest pivot comes next.

    Returns
    -------
    ndarray of shape (d,), float64
        Entry k belongs to column k of the matrix, whatever the order.

    Notes
    -----
    *Assumption*: H positive definite. D_k is the Schur complement of entry k given those before
    it, so ``0 < D_k <= H_kk``, and ``prod D = det H`` in any order.

    Examples
    --------
    >>> from lplr.theory.bounds import ldl_pivots
    >>> ldl_pivots([[4.0, 2.0], [2.0, 2.0]])
    array([4., 1.])
    >>> ldl_pivots([[4.0, 2.0], [2.0, 2.0]], order="min-pivot")
    array([2., 2.])
    """
    return pivots_of(hessian, order)


def pivots_of(hessian: Any, order: str, name: str = "hessian") -> np.ndarray:
    """`ldl_pivots` of the argument of this name."""
    from lplr.linalg.ldl import ldl, min_pivot_ldl

    H = check_second_moment(hessian, name=name)
    check_choice(order, "order", ORDERS)
    try:
        if order == "natural":
            return ldl(H)[1]
        places, _, D = min_pivot_ldl(H)
    except np.linalg.LinAlgError:
        raise HessianError(
            f"{name}: is assumed positive definite; add a share of its mean diagonal"
        ) from None
    pivots = np.empty_like(D)
    pivots[places] = D
    return pivots


def check_rounding_errors(
    rounding_errors: Any, hessian: Any, order: str
) -> tuple[np.ndarray, np.ndarray]:
    """The rounding errors eta, shape (n, d), and the pivots D, shape (d,).

    Parameters
    ----------
    rounding_errors, hessian, order
        As in `ldlq_loss`.
    """
    eta = check_matrix(rounding_errors, "rounding_errors", dtype=np.float64)
    D = ldl_pivots(hessian, order=order)
    if eta.shape[1] != len(D):
        raise InputError(
            f"rounding_errors: must have {len(D)} columns, as the Hessian has, found {eta.shape[1]}"
        )
    return eta, D


@broadcast
def ldlq_loss(rounding_errors: Any, hessian: Any, *, order: str = "natural") -> float:
    """``tr((W - Q) H (W - Q)^T)`` of LDL feedback, from its rounding errors: an identity.

    ``tr(eta D eta^T) = sum_k D_k |eta_k|^2``

    Parameters
    ----------
    rounding_errors : array_like of shape (n, d)
        Column k of eta is what was rounded when column k was quantized, feedback included, minus
        the result.
    hessian, order
        As in `ldl_pivots`.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: H positive definite; columns processed from the last to the first of the order.
    No assumption on the quantizer: this is algebra. Source: QuIP (Chee et al. 2023), Theorem 1;
    CALDERA (NeurIPS 2024), Section 4.

    Column k is rounded from ``y_k = W_k + sum_(j>k) (W_j - Q_j) L_jk``, ``H = L D L^T``. Its
    rounding error is ``eta_k = y_k - Q_k = (W_k - Q_k) + sum_(j>k) (W_j - Q_j) L_jk``, which is
    column k of ``(W - Q) L`` because L is unit lower triangular. So
    ``(W - Q) H (W - Q)^T = (W - Q) L D L^T (W - Q)^T = eta D eta^T``.

    Examples
    --------
    >>> from lplr.theory.bounds import ldlq_loss
    >>> ldlq_loss([[0.5, 1.0]], [[4.0, 2.0], [2.0, 2.0]])
    2.0
    """
    eta, D = check_rounding_errors(rounding_errors, hessian, order)
    return float(np.square(eta).sum(axis=0) @ D)


@broadcast
def ldlq_expected_loss(hessian: Any, n: int, variance: float, *, order: str = "natural") -> float:
    """Mean loss of LDL feedback over n rows: ``n variance tr(D)``.

    Parameters
    ----------
    hessian
        As in `ldl_pivots`.
    n : int
        Rows of W.
    variance : float
        Mean squared rounding error of each entry. With ``step^2/4`` the result is an upper bound
        in any case; with ``step^2/12`` it is the value at high rate (`nearest_high_rate_error`).
    order
        As in `ldl_pivots`.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: those of `ldlq_loss`; every rounding error has mean square ``variance`` (or at
    most that, then a bound). Unsaturated uniform quantizers have at most ``step^2/4``, dithered
    in the mean, nearest always. The mean of `ldlq_loss`, term by term; errors need be neither
    independent nor of mean zero.

    Examples
    --------
    >>> from lplr.theory.bounds import ldlq_expected_loss
    >>> ldlq_expected_loss([[4.0, 2.0], [2.0, 2.0]], 10, 0.25)
    12.5
    """
    n = check_integer(n, "n", 1)
    variance = check_real(variance, "variance", strict=False)
    return float(n * variance * ldl_pivots(hessian, order=order).sum())


@broadcast
def rounding_expected_loss(hessian: Any, n: int, variance: float) -> float:
    """Mean loss of rounding without feedback over n rows: ``n variance tr(H)``.

    Parameters
    ----------
    hessian
        As in `ldl_pivots`, but H may be singular.
    n : int
        Rows of W.
    variance : float
        Mean squared rounding error of each entry. With ``step^2/4`` the result is an upper bound
        for dithered rounding; with ``step^2/12`` it is the value for nearest rounding at high rate.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: the errors of a row are uncorrelated and have mean zero and variance
    ``variance``: true of dithered rounding, with at most that; of nearest rounding at high rate,
    nearly; not of nearest rounding in general, see `rounding_worst_loss`. Source: QuIP (Chee et
    al. 2023), Section 3.

    With E = W - Q the loss is ``sum_rows e H e^T``, of mean ``sum_ij H_ij E e_i e_j``, in which
    only i = j remains.

    Examples
    --------
    >>> from lplr.theory.bounds import rounding_expected_loss
    >>> rounding_expected_loss([[4.0, 2.0], [2.0, 2.0]], 10, 0.25)
    15.0
    """
    n = check_integer(n, "n", 1)
    variance = check_real(variance, "variance", strict=False)
    return float(n * variance * np.trace(check_second_moment(hessian)))


@broadcast
def rounding_worst_loss(hessian: Any, n: int, step: float) -> float:
    """Bound on the loss of nearest rounding without feedback: ``n step^2/4 sum_ij |H_ij|``.

    Parameters
    ----------
    hessian
        As in `ldl_pivots`, but H may be singular.
    n : int
        Rows of W.
    step : float
        Step of the quantizer, in units of W.

    Returns
    -------
    float

    Notes
    -----
    *Assumption*: unsaturated. ``|e_i e_j| <= step^2/4`` for each pair of errors of a row, so
    ``e H e^T <= step^2/4 sum_ij |H_ij|``. Nearest rounding may be that bad: its errors can all
    point along the leading eigenvector. With feedback, ``n step^2/4 tr(D)`` holds always.

    Examples
    --------
    >>> from lplr.theory.bounds import rounding_worst_loss
    >>> rounding_worst_loss([[4.0, 2.0], [2.0, 2.0]], 10, 1.0)
    25.0
    """
    n = check_integer(n, "n", 1)
    step = check_real(step, "step", strict=False)
    return float(n * step**2 / 4 * np.abs(check_second_moment(hessian)).sum())


@broadcast
def ldlq_ratio(hessian: Any, *, order: str = "natural") -> float:
    """``tr(D) / tr(H)``: the mean loss of feedback over that of rounding without it.

    Parameters
    ----------
    hessian, order
        As in `ldl_pivots`.

    Returns
    -------
    float
        Above 0 and at most 1; it is 1 for a diagonal H only. It is at least the geometric mean of
        the eigenvalues over their arithmetic mean.

    Notes
    -----
    *Assumption*: equal mean squared rounding errors with and without feedback. ``D_k <= H_kk``
    gives at most 1; ``tr(D)/d >= (prod D)^(1/d) = (det H)^(1/d)`` gives the lower end. Source:
    QuIP (Chee et al. 2023), Theorem 1.

    Examples
    --------
    >>> from lplr.theory.bounds import ldlq_ratio
    >>> round(ldlq_ratio([[4.0, 2.0], [2.0, 2.0]]), 4)
    0.8333
    """
    return float(ldl_pivots(hessian, order=order).sum() / np.trace(check_second_moment(hessian)))
