"""CALDERA: the optimum of rank-constrained regression, and the error of Q + L R (paper 2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import HessianError
from lplr.theory.bounds.ldlq import check_rounding_errors, ldl_pivots
from lplr.theory.bounds.quantizer import uniform_step
from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_second_moment
from lplr.validation.arguments import check_integer, check_real
from lplr.validation.matrices import check_matrix

__all__ = [
    "caldera_pivot_bound",
    "caldera_theorem_4_1",
    "caldera_theorem_4_1_spectral",
    "rank_constrained_optimum",
]


@broadcast
def rank_constrained_optimum(A: Any, hessian: Any, k: int) -> float:
    """``min tr((Z - A) H (Z - A)^T)`` over Z of rank at most k: ``sum_(i>k) sigma_i^2(A H^1/2)``.

    Parameters
    ----------
    A : array_like of shape (n, d)
    hessian
        As in `ldl_pivots`, but H may be singular.
    k : int
        From 0 to min(n, d).

    Returns
    -------
    float

    Notes
    -----
    *Assumption*: H positive semi-definite. Source: CALDERA (NeurIPS 2024), Lemma 4.2, which
    inverts H; not needed here.

    Let C be any root, ``H = C C^T``; the loss is ``|Z C - A C|_F^2``. ``Z C`` has rank at most k,
    so by Eckart and Young the loss is at least ``sum_(i>k) sigma_i^2(A C)``. With U the leading k
    left singular vectors of A C, ``Z = U U^T A`` has rank k and ``Z C = U U^T (A C)`` is the best
    approximation of A C, so that this is attained, whether or not C is invertible. The singular
    values do not depend on the root: they are the roots of the eigenvalues of ``A H A^T``.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import rank_constrained_optimum
    >>> round(rank_constrained_optimum(np.diag([2.0, 3.0]), np.diag([9.0, 1.0]), 1), 12)
    9.0
    """
    A = check_matrix(A, dtype=np.float64)
    H = check_second_moment(hessian, A.shape[1])
    k = check_integer(k, "k", 0, min(A.shape))
    values, vectors = np.linalg.eigh(H)
    if values[0] < -1e-8 * values[-1]:
        raise HessianError(
            f"hessian: is assumed positive semi-definite, has the eigenvalue {values[0]:.3g}"
        )
    root = vectors * np.sqrt(np.maximum(values, 0))
    sigma = np.linalg.svd(A @ root, compute_uv=False)
    return float(np.square(sigma[k:]).sum())


@broadcast
def caldera_theorem_4_1_spectral(
    rounding_errors: Any, hessian: Any, k: int, epsilon: float = 0.0, *, order: str = "natural"
) -> float:
    """First form of Theorem 4.1: ``1/n sum_(i>k) lambda_i(eta D eta^T) + epsilon``.

    Parameters
    ----------
    rounding_errors : array_like of shape (n, d)
        The errors eta of LDL feedback on ``W - L_0 R_0``, L_0 R_0 the first low-rank part; see
        `ldlq_loss`.
    hessian
        As in `ldl_pivots`.
    k : int
        Rank of L R, from 0 to min(n, d).
    epsilon : float
        The loss that the quantization of L and R adds, divided by n.
    order
        As in `ldl_pivots`.

    Returns
    -------
    float
        The value for these errors. Its mean is the bound on
        ``1/(n m) E |(Q + L R - W) X^T|_F^2``, X being m calibration inputs.

    Notes
    -----
    *Assumptions*: ``H = X^T X / m`` positive definite; Q by LDL feedback; L R fitted after Q.
    Source: CALDERA (NeurIPS 2024), Theorem 4.1.

    ``|E X^T|_F^2 = m tr(E H E^T)``. By `ldlq_loss`, ``(W' - Q) H (W' - Q)^T = eta D eta^T`` for
    the W' that Q was made from. The best L R of rank k for ``A = W' - Q`` leaves
    ``sum_(i>k) lambda_i(A H A^T)`` (`rank_constrained_optimum`): an equality for ``W' = W`` and
    L R at its optimum, epsilon = 0. If ``W' = W - L_0 R_0`` with a first pair of rank k_0, the
    same holds for a correction of rank k on top of it.

    Examples
    --------
    >>> from lplr.theory.bounds import caldera_theorem_4_1_spectral
    >>> caldera_theorem_4_1_spectral([[0.5, 0.0], [0.0, 1.0]], [[4.0, 2.0], [2.0, 2.0]], 1)
    0.5
    """
    eta, D = check_rounding_errors(rounding_errors, hessian, order)
    n = len(eta)
    k = check_integer(k, "k", 0, min(eta.shape))
    epsilon = check_real(epsilon, "epsilon", strict=False)
    sigma = np.linalg.svd(eta * np.sqrt(D), compute_uv=False)
    return float(np.square(sigma[k:]).sum() / n + epsilon)


@broadcast
def caldera_theorem_4_1(
    hessian: Any, n: int, k: int, bits: int, dynamic_range: float, epsilon: float = 0.0
) -> float:
    """Second form of Theorem 4.1, from the bits of Q alone.

    ``4 d lambda_max R^2 / (pi (2^B - 1)^2) (1 - k/(2n))^2 + epsilon``

    Parameters
    ----------
    hessian
        As in `ldl_pivots`; lambda_max is the largest eigenvalue of H.
    n : int
        Rows of W.
    k : int
        Rank of L R, from 0 to min(n, d).
    bits : int
        Bits B of each entry of Q.
    dynamic_range : float
        The points of the quantizer of Q lie from -R to R.
    epsilon : float
        The loss that the quantization of L and R adds, divided by n.

    Returns
    -------
    float
        Bound on ``1/(n m) E |(Q + L R - W) X^T|_F^2``, X being m calibration inputs.

    Notes
    -----
    *Assumptions*: those of `caldera_theorem_4_1_spectral`; the quantizer of Q unsaturated, with
    mean squared errors of at most ``step^2/4 = R^2/(2^B-1)^2``. Source: CALDERA (NeurIPS 2024),
    Theorem 4.1, where it is stated up to an approximation; here is a proof for any size. The
    n - k smallest of n eigenvalues sum to at most ``(1 - k/n)`` of the trace,
    and ``E tr(eta D eta^T) <= n step^2/4 tr(D) <= n step^2/4 d lambda_max``, since
    ``tr(D) <= tr(H)``. So the first form is at most
    ``(1 - k/n) d lambda_max step^2/4 + epsilon``; and ``1 - x <= (1 - x/2)^2``, ``1 <= 4/pi``.
    `caldera_pivot_bound` stops before the last three of these.

    Examples
    --------
    >>> from lplr.theory.bounds import caldera_theorem_4_1
    >>> round(caldera_theorem_4_1([[1.0, 0.0], [0.0, 1.0]], 4, 1, 2, 3.0), 4)
    1.9496
    """
    H = check_second_moment(hessian)
    variance, k, epsilon = _common(len(H), n, k, bits, dynamic_range, epsilon)
    ldl_pivots(H)  # refuses an H that is not positive definite
    largest = float(np.linalg.eigvalsh(H)[-1])
    return 4 / np.pi * len(H) * largest * variance * (1 - k / (2 * n)) ** 2 + epsilon


@broadcast
def caldera_pivot_bound(
    hessian: Any,
    n: int,
    k: int,
    bits: int,
    dynamic_range: float,
    epsilon: float = 0.0,
    *,
    order: str = "natural",
) -> float:
    """Theorem 4.1 sharpened: ``(1 - k/min(n, d)) tr(D) R^2/(2^B-1)^2 + epsilon``.

    Parameters
    ----------
    hessian, n, k, bits, dynamic_range, epsilon
        As in `caldera_theorem_4_1`.
    order
        As in `ldl_pivots`.

    Returns
    -------
    float
        At most `caldera_theorem_4_1`, and a bound on the same mean.

    Notes
    -----
    *Assumptions*: those of `caldera_theorem_4_1`. The chain there, stopped early: keeping tr(D)
    in place of d lambda_max, and counting only the min(n, d) eigenvalues that are not zero.

    Examples
    --------
    >>> from lplr.theory.bounds import caldera_pivot_bound
    >>> caldera_pivot_bound([[1.0, 0.0], [0.0, 1.0]], 4, 1, 2, 3.0)
    1.0
    """
    D = ldl_pivots(hessian, order=order)
    variance, k, epsilon = _common(len(D), n, k, bits, dynamic_range, epsilon)
    return float((1 - k / min(n, len(D))) * D.sum() * variance + epsilon)


def _common(
    d: int, n: Any, k: Any, bits: Any, dynamic_range: Any, epsilon: Any
) -> tuple[float, int, float]:
    """Largest mean squared rounding error, rank and epsilon, checked."""
    k = check_integer(k, "k", 0, min(check_integer(n, "n", 1), d))
    variance = uniform_step(bits, dynamic_range) ** 2 / 4
    return variance, k, check_real(epsilon, "epsilon", strict=False)
