"""LDL feedback (LDLQ): its loss exactly, in the mean, and beside plain rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import HessianError, InputError
from lplr.theory.bounds._checks import check_hessian_matrix
from lplr.validation import check_choice, check_integer, check_matrix, check_real

__all__ = [
    "ldl_pivots",
    "ldlq_expected_loss",
    "ldlq_loss",
    "ldlq_ratio",
    "rounding_expected_loss",
    "rounding_worst_loss",
]

ORDERS = ("natural", "min-pivot")


def ldl_pivots(hessian: Any, *, order: str = "natural") -> np.ndarray:
    """D of ``H = L D L^T``, L unit lower triangular: what a unit of rounding error costs.

    Parameters
    ----------
    hessian : array_like of shape (d, d)
        Symmetric positive definite.
    order : {"natural", "min-pivot"}
        Columns as they are, or in the order that this package's quantizers take, which starts
        the factorization with the smallest.

    Returns
    -------
    ndarray of shape (d,), float64
        By column of the matrix, whatever the order.

    Raises
    ------
    InputError
        If the Hessian is not a finite real square matrix.
    HessianError
        If it is not symmetric positive definite.

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
    from lplr.linalg.ldl import ldl, min_pivot_ldl

    H = check_hessian_matrix(hessian)
    check_choice(order, "order", ORDERS)
    try:
        if order == "natural":
            return ldl(H)[1]
        places, _, D = min_pivot_ldl(H)
    except np.linalg.LinAlgError:
        raise HessianError(
            "hessian: is assumed positive definite; add a share of its mean diagonal"
        ) from None
    pivots = np.empty_like(D)
    pivots[places] = D
    return pivots


def ldlq_loss(rounding_errors: Any, hessian: Any, *, order: str = "natural") -> float:
    """``tr((W - Q) H (W - Q)^T)`` of LDL feedback, from its rounding errors: an identity.

    ``tr(eta D eta^T) = sum_k D_k |eta_k|^2``

    Parameters
    ----------
    rounding_errors : array_like of shape (n, d)
        eta: column k is what was to be rounded less the result, feedback included, when column k
        was quantized. In units of W.
    hessian : array_like of shape (d, d)
        Symmetric positive definite.
    order : {"natural", "min-pivot"}
        As in `ldl_pivots`.

    Returns
    -------
    float
        In squared units of W times those of H.

    Raises
    ------
    InputError, HessianError
        If an argument is out of range or an assumption fails; the message names it.

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
    eta = check_matrix(rounding_errors, "rounding_errors", dtype=np.float64)
    D = ldl_pivots(hessian, order=order)
    if eta.shape[1] != len(D):
        raise InputError(
            f"rounding_errors: must have {len(D)} columns, one a row of the Hessian, "
            f"found {eta.shape[1]}"
        )
    return float(np.square(eta).sum(axis=0) @ D)


def ldlq_expected_loss(hessian: Any, n: int, variance: float, *, order: str = "natural") -> float:
    """Mean loss of LDL feedback over n rows: ``n variance tr(D)``.

    Parameters
    ----------
    hessian : array_like of shape (d, d)
        Symmetric positive definite.
    n : int
        Rows of W.
    variance : float
        Mean squared rounding error of an entry: ``step^2/4`` makes this a bound in any case,
        ``step^2/12`` is the value at high rate (`nearest_high_rate_error`).
    order : {"natural", "min-pivot"}
        As in `ldl_pivots`.

    Returns
    -------
    float
        In squared units of W times those of H.

    Raises
    ------
    InputError, HessianError
        If an argument is out of range or an assumption fails; the message names it.

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


def rounding_expected_loss(hessian: Any, n: int, variance: float) -> float:
    """Mean loss of rounding without feedback over n rows: ``n variance tr(H)``.

    Parameters
    ----------
    hessian : array_like of shape (d, d)
        Symmetric; positive semi-definite if it is a second moment, which is not used.
    n : int
        Rows of W.
    variance : float
        Mean squared rounding error of an entry; ``step^2/4`` makes this a bound for dithered
        rounding, ``step^2/12`` is the value for nearest rounding at high rate.

    Returns
    -------
    float
        In squared units of W times those of H.

    Raises
    ------
    InputError, HessianError
        If an argument is out of range or an assumption fails; the message names it.

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
    return float(n * variance * np.trace(check_hessian_matrix(hessian)))


def rounding_worst_loss(hessian: Any, n: int, step: float) -> float:
    """Bound on the loss of nearest rounding without feedback: ``n step^2/4 sum_ij |H_ij|``.

    Parameters
    ----------
    hessian : array_like of shape (d, d)
        Symmetric; positive semi-definite if it is a second moment, which is not used.
    n : int
        Rows of W.
    step : float
        In units of W.

    Returns
    -------
    float
        In squared units of W times those of H.

    Raises
    ------
    InputError, HessianError
        If an argument is out of range or an assumption fails; the message names it.

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
    return float(n * step**2 / 4 * np.abs(check_hessian_matrix(hessian)).sum())


def ldlq_ratio(hessian: Any, *, order: str = "natural") -> float:
    """``tr(D) / tr(H)``: the mean loss of feedback over that of rounding without it.

    Parameters
    ----------
    hessian : array_like of shape (d, d)
        Symmetric positive definite.
    order : {"natural", "min-pivot"}
        As in `ldl_pivots`.

    Returns
    -------
    float
        Above 0, at most 1; 1 for a diagonal H only. Never below the ratio of the geometric to
        the arithmetic mean of the eigenvalues.

    Raises
    ------
    InputError, HessianError
        If an argument is out of range or an assumption fails; the message names it.

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
    return float(ldl_pivots(hessian, order=order).sum() / np.trace(check_hessian_matrix(hessian)))
