"""Orthonormal bases of tall matrices."""

from __future__ import annotations

import numpy as np

from lplr.parallel import reproducible, run_blocks

__all__ = ["haar", "orthonormal_basis", "thin_qr"]


def haar(
    n: int, k: int, rng: np.random.Generator, dtype: type[np.floating] = np.float64
) -> np.ndarray:
    """The k <= n first columns of a Haar-distributed orthogonal matrix (n, k).

    They are Q of a Gaussian matrix, once the signs make the diagonal of its R positive (Mezzadri
    2007).
    """
    from scipy.linalg import qr

    G = rng.standard_normal((n, k)).astype(dtype, copy=False)
    with reproducible():
        Q, R = qr(G, mode="economic", overwrite_a=True, check_finite=False)
    return Q * np.copysign(dtype(1), np.diagonal(R))


def orthonormal_basis(Y: np.ndarray) -> np.ndarray:
    """Orthonormal columns, (n, min(n, m)) of the dtype of Y, whose span contains that of Y (n, m).

    Y is finite and of any rank. Cholesky QR with the Gram matrix in float64 (a float32 Gram matrix
    loses orthogonality at a condition number of 10^3) is repeated once where a single pass would
    not reach the precision of Y; Householder QR serves where Y is too ill-conditioned,
    rank-deficient or not tall. The bits are the same at any number of threads.
    """
    return thin_qr(Y)[0]


def thin_qr(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``Y = Q R``: Q (n, r) of Y's dtype with orthonormal columns, R (r, m) float64."""
    from scipy.linalg import qr

    n, m = Y.shape
    first = _cholesky_qr(Y) if n >= 2 * m else None
    if first is None:
        with reproducible():
            Q, R = qr(Y.astype(np.float64), mode="economic", check_finite=False)
        return np.ascontiguousarray(Q, Y.dtype), R
    Q, R, condition = first
    # One pass is orthogonal to about eps64 * condition^2: enough for float32 up to 1e4.
    if Y.dtype == np.float64 or condition > 1e4:
        second = _cholesky_qr(Q)
        if second is not None:
            return second[0], second[1] @ R
    return Q, R


def _cholesky_qr(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Q, R and an estimate of the condition of the equilibrated R; None if that exceeds 1e7."""
    from scipy.linalg import LinAlgError, cholesky, lapack

    n, m = Y.shape
    block = max(512, -(-n // 16))  # by the shape alone, so that the order of the sum is fixed
    parts = np.empty((-(-n // block), m, m))

    def gram(i: int, j: int) -> None:
        X = Y[i:j].astype(np.float64, copy=False)
        np.matmul(X.T, X, out=parts[i // block])

    run_blocks(gram, n, block)
    G = parts.sum(axis=0)
    norms = np.sqrt(np.diag(G))
    if not norms.all():
        return None
    # Columns of unit length: a difference in scale alone is no ill-conditioning.
    G /= norms
    G /= norms[:, None]
    with reproducible():
        try:
            R = cholesky(G, check_finite=False)
        except LinAlgError:
            return None
        reciprocal, _ = lapack.dtrcon(R)
        if reciprocal < 1e-7:
            return None
        inverse, _ = lapack.dtrtri(R)
    inverse /= norms[:, None]
    Q = np.empty(Y.shape, Y.dtype)

    def solve(i: int, j: int) -> None:
        Q[i:j] = Y[i:j].astype(np.float64, copy=False) @ inverse

    run_blocks(solve, n, block)
    return Q, R * norms, 1 / reciprocal
