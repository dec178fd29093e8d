"""LDL feedback with errors weighed on both sides: ``tr(G E H E^T)``, G over the rows of E.

H is the second moment of the inputs of a layer ``y = W x``. G is that of the gradients of a loss
by its outputs; ``tr(G E H E^T)`` is then what an error E of W adds to that loss, to second order
and up to a factor, if the two moments are independent (K-FAC). G = I gives the bounds of
`lplr.theory.bounds.ldlq`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.theory.bounds.ldlq import pivots_of
from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_second_moment
from lplr.validation.arguments import check_real
from lplr.validation.matrices import check_matrix

__all__ = ["incoherent_pivot_bound", "two_sided_bound", "two_sided_expected_loss", "two_sided_loss"]


@broadcast
def two_sided_loss(
    rounding_errors: Any, hessian: Any, output_hessian: Any, *, order: str = "natural"
) -> float:
    """``tr(G (W - Q) H (W - Q)^T)`` of two-sided feedback, from its rounding errors: an identity.

    ``sum_ij D_G[i] eta[i, j]^2 D_H[j]``

    Parameters
    ----------
    rounding_errors : array_like of shape (n, d)
        Entry (i, j) of eta is what was rounded there, feedback included, minus the result.
    hessian : array_like of shape (d, d), (d,) or (m, d)
        H, as in `ldl_pivots`.
    output_hessian : array_like of shape (n, n), (n,) or (m, n)
        G, likewise, for the rows of W.
    order
        As in `ldl_pivots`, on both sides.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: G and H positive definite; an entry is processed once all those are that follow
    it on both sides. No assumption on the quantizer: this is algebra. Source: QuIP (Chee et al.
    2023), Theorem 1, is the case G = I; both sides are derived here.

    Let ``G = L_G D_G L_G^T`` and ``H = L_H D_H L_H^T``, both L unit lower triangular, and
    ``E = W - Q``. Entry (i, j) is rounded from ``y_ij = W_ij + sum L_G[a, i] E_ab L_H[b, j]`` over
    all (a, b) other than (i, j) with a >= i and b >= j. The term that is left out is E_ij itself,
    since the diagonals are 1. So the rounding error ``eta_ij = y_ij - Q_ij`` is entry (i, j) of
    ``L_G^T E L_H``, and
    ``tr(G E H E^T) = |D_G^1/2 L_G^T E L_H D_H^1/2|_F^2 = sum D_G[i] eta_ij^2 D_H[j]``.

    This is LDLQ of one row, that of all entries of W, under the Kronecker product ``G x H``, whose
    LDL factors are the products of those of G and of H. So what Theorem 1 of QuIP says about LDLQ
    holds here: no other linear feedback has a smaller mean or worst loss.

    Examples
    --------
    >>> from lplr.theory.bounds import two_sided_loss
    >>> H, G = [[4.0, 2.0], [2.0, 2.0]], [[2.0, 1.0], [1.0, 2.0]]  # pivots 4, 1 and 2, 3/2
    >>> round(two_sided_loss([[0.5, 1.0], [0.0, 1.0]], H, G), 12)
    5.5
    """
    eta = check_matrix(rounding_errors, "rounding_errors", dtype=np.float64)
    rows, columns = _both_pivots(hessian, output_hessian, order)
    if eta.shape != (len(rows), len(columns)):
        raise InputError(
            f"rounding_errors: must have shape {(len(rows), len(columns))}, as the weights have, "
            f"found {eta.shape}"
        )
    return float(rows @ np.square(eta) @ columns)


@broadcast
def two_sided_expected_loss(
    hessian: Any, output_hessian: Any, variance: float, *, order: str = "natural"
) -> float:
    """Mean loss of two-sided feedback: ``variance tr(D_G) tr(D_H)``.

    Parameters
    ----------
    hessian, output_hessian
        As in `two_sided_loss`.
    variance : float
        Mean squared rounding error of each entry. With ``step^2/4`` the result is an upper bound,
        in the mean for dithered rounding and always for nearest rounding; with ``step^2/12`` it is
        the value for subtractive dither, and at high rate for nearest rounding.
    order
        As in `ldl_pivots`, on both sides.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: those of `two_sided_loss`; every rounding error has mean square ``variance`` (or
    at most that, then a bound). Uniform quantizers whose grid does not end have, whatever they
    round, so also a value with feedback in it:

    * nearest: ``|eta| <= step/2``, always;
    * dithered: mean square at most ``step^2/4`` given what is rounded (`dithered_variance_bound`);
    * subtractive dither, ``Q(y) = round(y + u) - u`` with u uniform over a step: eta is uniform
      over a step and independent of y, so that its mean square is exactly ``step^2/12``.

    The result is the mean of `two_sided_loss`, term by term.

    *Not valid* where the grid ends: beyond its last level the error of an entry is more than half a
    step, without bound, and what is fed back grows with it. The identity still holds then.

    One-sided feedback, along the rows of W alone, has ``E = eta L_H^-1`` and the mean loss
    ``variance tr(G) tr(D_H)`` for uncorrelated errors; rounding without feedback
    ``variance tr(G) tr(H)``. So `ldlq_ratio` of G is the share that feedback down the columns
    leaves of the loss.

    Examples
    --------
    >>> from lplr.theory.bounds import two_sided_expected_loss
    >>> H, G = [[4.0, 2.0], [2.0, 2.0]], [[2.0, 1.0], [1.0, 2.0]]
    >>> two_sided_expected_loss(H, G, 0.25)
    4.375
    """
    variance = check_real(variance, "variance", strict=False)
    rows, columns = _both_pivots(hessian, output_hessian, order)
    return float(variance * rows.sum() * columns.sum())


@broadcast
def two_sided_bound(hessian: Any, output_hessian: Any, step: float) -> float:
    """Bound on the loss from the roots of both weights: what incoherence is for.

    ``step^2/4  max_i (G^1/2)_ii tr(G^1/2)  max_j (H^1/2)_jj tr(H^1/2)``

    Parameters
    ----------
    hessian, output_hessian
        As in `two_sided_loss`, but G and H may be singular.
    step : float
        Step of the quantizer.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: those of `two_sided_expected_loss` for nearest rounding (then always) or for
    dithered rounding (then in the mean), in any order of the rows and of the columns. This is
    `two_sided_expected_loss` with `incoherent_pivot_bound` for the sums of the pivots.

    Where the diagonals of both roots are flat, as after a randomized Hadamard transform, it is
    about ``n d step^2/4`` times the squared means of the roots of the eigenvalues. Rounding without
    feedback has their mean squares there: more, the more unequal the eigenvalues are.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import two_sided_bound
    >>> round(two_sided_bound(np.ones((2, 2)), np.ones((2, 2)), 1.0), 12)
    0.25
    """
    step = check_real(step, "step", strict=False)
    rows, columns = _root_bound(output_hessian, "output_hessian"), _root_bound(hessian, "hessian")
    return step**2 / 4 * rows * columns


@broadcast
def incoherent_pivot_bound(hessian: Any) -> float:
    """Bound on the sum of the pivots in any order: ``tr(D) <= max_k (H^1/2)_kk tr(H^1/2)``.

    Parameters
    ----------
    hessian : array_like of shape (d, d), (d,) or (m, d)
        H, as in `ldl_pivots`, but H may be singular.

    Returns
    -------
    float

    Notes
    -----
    *Assumption*: H positive semi-definite. Derived here; Lemma 2 of QuIP (Chee et al. 2023), which
    has ``tr(D) <= mu^2/d tr(H^1/2)^2``, follows from it.

    Let ``S = H^1/2 = sum_j s_j u_j u_j^T``, and S = Q R its QR decomposition. D_k is the squared
    distance of column k of S from the span of those before it, which is ``R_kk^2``. With q_k the
    columns of Q and e_k those of I, ``R_kk = q_k^T S e_k``, so that by Cauchy and Schwarz
    ``R_kk^2 <= (e_k^T S e_k) (q_k^T S q_k)``. The first factor is at most the largest diagonal
    entry of S, and the second ones sum to tr S, since the q_k are a basis. Another order of the
    columns permutes the e_k, and nothing changes.

    H is called mu-incoherent if no entry of its eigenvectors u_j exceeds ``mu/sqrt(d)``; then
    ``S_kk = sum_j s_j u_jk^2 <= mu^2/d tr S``. After a randomized Hadamard transform of H,
    ``mu <= sqrt(2 log(2 d^2/delta))`` but for a probability of delta.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import incoherent_pivot_bound, ldl_pivots
    >>> H = np.array([[2.0, 1.9], [1.9, 2.0]])
    >>> for value in (ldl_pivots(H).sum(), incoherent_pivot_bound(H), np.trace(H)):
    ...     print(round(value, 3))
    2.195
    2.624
    4.0
    """
    return _root_bound(hessian, "hessian")


def _root_bound(hessian: Any, name: str) -> float:
    values, vectors = np.linalg.eigh(check_second_moment(hessian, name=name))
    roots = np.sqrt(np.maximum(values, 0))
    return float((np.square(vectors) @ roots).max() * roots.sum())


def _both_pivots(hessian: Any, output_hessian: Any, order: str) -> tuple[np.ndarray, np.ndarray]:
    """D_G and D_H."""
    return pivots_of(output_hessian, order, "output_hessian"), pivots_of(hessian, order)
