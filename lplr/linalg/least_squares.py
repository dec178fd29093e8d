"""Least squares through Gram matrices in float64."""

from __future__ import annotations

import numpy as np

from lplr.linalg.copies import copied
from lplr.linalg.ldl import ldl
from lplr.linalg.operators import InputOperator, Matrix, Operator, multiply
from lplr.parallel import matmul, run_blocks

__all__ = ["gram", "least_squares", "loss_change", "rank_constrained", "solve"]

_BLOCK = 512  # right-hand sides that one thread solves for at a time
_ROWS = 2048  # of a Gram matrix's long side that one thread takes at a time
_NARROW = 512  # rows of X up to which threads share the columns
_TILE = 128  # beyond, rows of the Gram matrix that one thread takes at a time
_WIDE_BLOCK = 64  # the same, where they are float64 and as long as columns of A
# Largest ratio of pivots at which a right-hand side in float32 will do. Its errors of 6e-8 reach
# |L W| times the condition of L, the root of this ratio: up to 1e3, any code loses more than that.
_PIVOT_RATIO = 1e6
_SMALLEST = 1e-12  # eigenvalue, over the largest, that a Gram matrix in float64 can tell from zero


def gram(X: np.ndarray) -> np.ndarray:
    """X X^T in float64, exactly symmetric, for a wide X of any float dtype."""
    k, n = X.shape
    if k > _NARROW:
        return _wide_gram(X)
    parts = np.empty((-(-n // _ROWS), k, k))

    def block(start: int, stop: int) -> None:
        x = np.ascontiguousarray(X[:, start:stop], np.float64)
        np.matmul(x, x.T, out=parts[start // _ROWS])  # a symmetric product: half the work

    run_blocks(block, n, _ROWS)
    return parts.sum(axis=0)  # in this order at any number of threads


def _wide_gram(X: np.ndarray) -> np.ndarray:
    """The same for many rows, where a sum for each thread would take too much memory."""
    k, n = X.shape
    G = np.zeros((k, k))
    for start in range(0, n, _ROWS):
        x = copied(X[:, start : start + _ROWS], np.float64)

        def rows(i: int, j: int, x: np.ndarray = x) -> None:
            G[i:j, :j] += x[i:j] @ x[:j].T

        run_blocks(rows, k, _TILE)

    def mirror(i: int, j: int) -> None:
        G[:i, i:j] = G[i:j, :i].T
        G[i:j, i:j] = (G[i:j, i:j] + G[i:j, i:j].T) / 2

    run_blocks(mirror, k, _TILE)
    return G


def solve(G: np.ndarray, B: np.ndarray) -> np.ndarray:
    """G^-1 B, float32, for a positive definite float64 G and a float32 B.

    LinAlgError says that G is not positive definite to working precision.
    """
    from scipy.linalg import cho_solve, cholesky

    # One product with the inverse is faster than two triangular solves, and as exact as float32
    # can tell: the callers see to condition numbers below 1e7, of float64's 1e16.
    factor = cholesky(G, lower=True, check_finite=False)
    inverse = cho_solve((factor, True), np.eye(len(G)), check_finite=False)
    out = np.empty(B.shape, np.float32)

    def block(start: int, stop: int) -> None:
        out[:, start:stop] = inverse @ B[:, start:stop].astype(np.float64)

    run_blocks(block, B.shape[1], _BLOCK)
    return out


def loss_change(A: InputOperator, L: np.ndarray, R: np.ndarray, dtype: type = np.float64) -> float:
    """``|A - L R|^2 - |A|^2``, without L R: L is (n, k), R (k, d).

    Sums are float64. Of products with A in float32 they lose some 1e-9, since rounding of the many
    entries averages out.
    """
    LL, RR = gram(L.T), gram(R)
    return float(np.vdot(LL, RR)) - 2 * A.inner(L, R, dtype)


def least_squares(L: np.ndarray, A: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W = argmin |L W - A|_F, of least norm where L is rank deficient, with L^T L and L^T A.

    L^T L is float64, all else float32. W comes from the Cholesky factor of the Gram matrix where
    its condition allows; else from its eigenvectors, with L^T A in float64 and without what
    rounding cannot tell from zero. No pseudo-inverse of L is formed.
    """
    from scipy.linalg import eigh

    G = gram(np.ascontiguousarray(L.T))
    B = multiply(L.T, A)
    try:
        _, D = ldl(G)
        if D.max() <= _PIVOT_RATIO * D.min():
            return solve(G, B), G, B
    except np.linalg.LinAlgError:
        pass
    w, V = eigh(G, check_finite=False)
    keep = w > _SMALLEST * w[-1]
    w, V = w[keep, None], V[:, keep]
    LV = L @ V
    if isinstance(A, Operator):
        return (V @ (multiply(LV.T, A) / w)).astype(np.float32), G, B
    W = np.empty(B.shape, np.float32)

    def block(start: int, stop: int) -> None:
        W[:, start:stop] = V @ (LV.T @ A[:, start:stop].astype(np.float64) / w)

    run_blocks(block, A.shape[1], _WIDE_BLOCK)
    return W, G, B


def rank_constrained(A: np.ndarray, H: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """argmin of tr((Z - A) H (Z - A)^T) over Z of a given rank, as a product Z = U V.

    Parameters
    ----------
    A : ndarray of shape (n, d), float32 or float64
    H : ndarray of shape (d, d), float64, symmetric positive semi-definite
    rank : int, from 1 to min(n, d)

    Returns
    -------
    U : ndarray of shape (n, rank), float64, orthonormal columns
    V : ndarray of shape (rank, d), float64, ``U^T A``

    Notes
    -----
    Lemma 4.2 of CALDERA (Saha et al., NeurIPS 2024): U holds the leading left singular vectors
    of A H^(1/2), here the eigenvectors of A H A^T or, where that is the larger matrix, those of
    the d x d Gram matrix mapped back. Nothing is inverted, so H may be singular. The least loss
    is the sum of the squared singular values that are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.least_squares import rank_constrained
    >>> A, H = np.diag([2.0, 3.0]), np.diag([9.0, 1.0])
    >>> U, V = rank_constrained(A, H, 1)
    >>> np.abs(U @ V)
    array([[2., 0.],
           [0., 0.]])
    """
    from scipy.linalg import eigh, qr

    A = A.astype(np.float64)
    n, d = A.shape
    if n <= d:
        M = matmul(matmul(A, H), A.T)
        U = _leading_eigenvectors((M + M.T) / 2, rank)
    else:
        w, V = eigh(H, check_finite=False)
        B = matmul(A, V * np.sqrt(np.maximum(w, 0.0)))
        M = matmul(B.T, B)
        V = _leading_eigenvectors((M + M.T) / 2, rank)
        # QR keeps the columns orthonormal where the rank of A H^(1/2) is below the asked one.
        U, _ = qr(matmul(B, V), mode="economic", check_finite=False)
    return np.ascontiguousarray(U), matmul(U.T, A)


def _leading_eigenvectors(M: np.ndarray, count: int) -> np.ndarray:
    """The eigenvectors of the largest eigenvalues of a symmetric matrix, the largest first."""
    from scipy.linalg import eigh

    _, V = eigh(M, subset_by_index=(len(M) - count, len(M) - 1), check_finite=False)
    if V.shape[1] < count:  # LAPACK may find none among eigenvalues that are equal up to rounding
        V = eigh(M, check_finite=False)[1][:, -count:]
    return V[:, ::-1]
