"""Range finders and the truncated SVD built on random sketches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.linalg.input_operators import as_matrix, kept_dtype
from lplr.linalg.least_squares import gram
from lplr.linalg.operators import InputOperator, Matrix, multiply
from lplr.linalg.qr import orthonormal_basis, thin_qr
from lplr.linalg.sketches import Sketch
from lplr.parallel import matmul, reproducible, run_blocks
from lplr.validation.arguments import check_integer, check_rank

__all__ = [
    "SVD",
    "ShortSVD",
    "range_finder",
    "short_svd",
    "truncated_svd",
]

SVD = tuple[np.ndarray, np.ndarray, np.ndarray]  # U, s, Vt
ShortSVD = tuple[
    np.ndarray, np.ndarray
]  # s (k,) and the vectors (k, min(n, d)) of the shorter side

_SINGLE = 1024  # sides from which on a float32 Gram matrix is tried first: half of the time
_NARROW = 1024  # columns of a Gram matrix that is decomposed in full, in some 0.2 s
_DROWNED = 1e-3  # of the largest singular value: its float32 Gram matrix knows no smaller ones
_GRAM_WIDTH = 10  # sketch widths up to which one product A^T A is cheaper than iterating with A


def range_finder(
    A: Any,
    m: int,
    *,
    sketch: str = "gaussian",
    n_power_iter: int = 0,
    rng: int | np.random.Generator | None = None,
) -> np.ndarray:
    """``Y`` with m columns whose span is close to the dominant column space of A.

    Parameters
    ----------
    A : array_like of shape (n, d)
    m : int
        Sketch size, from 1 to min(n, d).
    sketch : {"gaussian", "rademacher", "srht", "sparse-sign"}
    n_power_iter : int
        0 returns the raw sketch ``A S`` that Algorithm 1 of LPLR quantizes.
    rng : int, Generator or None

    Returns
    -------
    ndarray of shape (n, m), float64 if A is, else float32

    Raises
    ------
    InputError
        If A is not a finite real matrix, or m, sketch or n_power_iter is not on offer.

    Notes
    -----
    With q power iterations the columns span ``A (A^T A)^q S``, but Y is not that matrix:
    ``Y = A Z`` with Z an orthonormal basis of ``(A^T A)^q S`` (Halko, Martinsson and Tropp,
    arXiv 0909.4061, Algorithm 4.4, which instead returns an orthonormal basis of Y). The raw
    power has the singular values of A to the power 2 q + 1: its columns all lean to the first
    singular vector, and a quantizer whose one range covers the largest entries wipes out the
    rest. Y carries the scale of A once, like ``A S``. Same bits at any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.svd import range_finder
    >>> A = np.outer(np.arange(5.0), np.ones(4))
    >>> range_finder(A, 2, n_power_iter=1, rng=0).shape
    (5, 2)
    """
    A = as_matrix(A, dtype=kept_dtype(A))
    m = check_integer(m, "m", 1, min(A.shape))
    n_power_iter = check_integer(n_power_iter, "n_power_iter", 0)
    Y = _sketched(A, m, sketch, rng, kept_dtype(A))
    return _iterated(A, Y, n_power_iter)[0] if n_power_iter else Y


def _sketched(A: Matrix, m: int, sketch: str, rng: Any, dtype: type) -> np.ndarray:
    """A S."""
    return Sketch(sketch, A.shape[1], m).sample(rng, dtype).apply(A)


def _iterated(A: Matrix, Y: np.ndarray, n_power_iter: int) -> tuple[np.ndarray, np.ndarray]:
    """After one or more power iterations from Y: A Z, and the orthonormal Z."""
    for _ in range(n_power_iter):
        Y = orthonormal_basis(Y)
        Z = orthonormal_basis(multiply(A.T, Y))
        Y = multiply(A, Z)
    return Y, Z


def truncated_svd(
    A: Any,
    k: int,
    *,
    n_oversamples: int | None = None,
    n_power_iter: int = 3,
    sketch: str = "gaussian",
    rng: int | np.random.Generator | None = None,
) -> SVD:
    """Singular value decomposition of (nearly) the best rank-k approximation of A.

    Parameters
    ----------
    A : array_like of shape (n, d)
    k : int
        From 1 to min(n, d).
    n_oversamples : int, optional
        Columns of the sketch beyond k; by default k/4 and at least 10.
    n_power_iter : int
        At least 1. The defaults bring the error of the rank-k approximation within 0.5 % of the
        best one on image and 1/k spectra; slower decay needs more for that.
    sketch : {"gaussian", "rademacher", "srht", "sparse-sign"}
    rng : int, Generator or None

    Returns
    -------
    U : ndarray of shape (n, k)
    s : ndarray of shape (k,), descending
    Vt : ndarray of shape (k, d)
        All float64 if A is, else float32; U and Vt with orthonormal columns and rows.

    Raises
    ------
    InputError
        If A is not a finite real matrix or an option is out of range.

    Notes
    -----
    With Z an orthonormal basis of ``(A^T A)^q S``, the exact SVD of ``A Z`` is that of the
    approximation ``A Z Z^T``: unlike Algorithm 5.1 of Halko et al., no further product with A.
    On a matrix that is not much wider than Z, ``G = A^T A`` is formed once and iterated with; the
    squares of small singular values drown in the rounding of G, so where those found are below
    ``3 sqrt(eps)`` of the largest, A itself is iterated with instead. Where Z would be nearly as
    wide as A the SVD is exact and nothing is random. Same bits at any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.svd import truncated_svd
    >>> U, s, Vt = truncated_svd(np.diag([3.0, 2.0, 1.0]), 2)
    >>> s.round(6)
    array([3., 2.])
    """
    dtype = kept_dtype(A)
    A = as_matrix(A, dtype=dtype)
    k = check_rank(k, A.shape)
    if n_oversamples is None:
        n_oversamples = max(10, k // 4)
    m = k + check_integer(n_oversamples, "n_oversamples", 0)
    n_power_iter = check_integer(n_power_iter, "n_power_iter", 1)
    wide = A.shape[0] < A.shape[1]
    if wide:
        A = A.T
    if 4 * m > 3 * A.shape[1]:
        whole = A.times(np.eye(A.shape[1], dtype=dtype)) if isinstance(A, InputOperator) else A
        U, s, Vt = _exact_svd(whole, k)
    elif isinstance(A, InputOperator):
        Y, Z = _iterated(A, _sketched(A, m, sketch, rng, dtype), n_power_iter)
        U, s, Wt = _exact_svd(Y, k)
        Vt = matmul(Wt, Z.T)
    else:
        S = Sketch(sketch, A.shape[1], m).sample(rng, A.dtype).to_dense()
        U, s, Vt = _randomized_svd(A, k, S, n_power_iter)
    if wide:
        return np.ascontiguousarray(Vt.T), s, np.ascontiguousarray(U.T)
    return U, s, Vt


def short_svd(
    A: np.ndarray | InputOperator,
    k: int,
    *,
    n_oversamples: int | None = None,
    n_power_iter: int = 3,
    sketch: str = "gaussian",
    rng: int | np.random.Generator | None = None,
) -> ShortSVD:
    """The leading singular values, and the singular vectors of the shorter side alone.

    They come from the Gram matrix of that side, in a fraction of the time and memory of a
    `truncated_svd`. Values below 1e-7 of the largest drown in the rounding of that matrix.

    Parameters
    ----------
    A : ndarray or InputOperator of shape (n, d), float32
    k, n_oversamples, n_power_iter, sketch, rng
        As in `truncated_svd`.

    Returns
    -------
    s : ndarray of shape (k,), float32, descending
    V : ndarray of shape (k, min(n, d)), float32
        Orthonormal rows: right singular vectors where n >= d, else left ones.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.svd import short_svd
    >>> s, V = short_svd(np.diag(np.float32([3, 2, 1])), 2)
    >>> s.round(4), np.abs(V).round(4)
    (array([3., 2.], dtype=float32), array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32))
    """
    X = A if A.shape[0] >= A.shape[1] else A.T
    width = X.shape[1]
    m = k + (max(10, k // 4) if n_oversamples is None else n_oversamples)
    if isinstance(X, InputOperator):
        return _short_svd_of_products(X, k, m, sketch, n_power_iter, rng)
    # All eigenvectors take less time than bases of so many columns, or little time anyway. On a
    # flat spectrum a sketch, to three powers, led to factors with up to 0.3 % more error.
    if width <= max(2 * m, _NARROW):
        if width >= _SINGLE:
            s, V = _from_gram(_gram(X), k)
            if s[-1] >= _DROWNED * s[0]:
                return s, V
        return _from_gram(gram(X.T), k)
    Z = Sketch(sketch, width, m).sample(rng, np.float32).to_dense()
    if width <= _GRAM_WIDTH * m:
        G, Y = _gram(X), Z
        for _ in range(n_power_iter):
            Y = orthonormal_basis(matmul(G, Y))
        M = matmul(Y.T, matmul(G, Y)).astype(np.float64)
        s, W = _from_gram((M + M.T) / 2, k)
        if s[-1] >= _DROWNED * s[0]:
            return s, matmul(W, Y.T)
    for _ in range(n_power_iter):
        Z = orthonormal_basis(matmul(X.T, orthonormal_basis(matmul(X, Z))))
    s, W = _from_gram(gram(matmul(X, Z).T), k)
    return s, matmul(W, Z.T)


def _short_svd_of_products(
    X: InputOperator, k: int, m: int, sketch: str, n_power_iter: int, rng: Any
) -> ShortSVD:
    """The same of a tall operator: few columns make a Gram matrix, many are sketched."""
    width = X.shape[1]
    if width <= max(2 * m, X.narrow):
        return _from_gram(X.gram(), k)
    Y, Z = _iterated(X, _sketched(X, m, sketch, rng, np.float32), n_power_iter)
    s, W = _from_gram(gram(Y.T), k)
    return s, matmul(W, Z.T)


def _from_gram(G: np.ndarray, k: int) -> ShortSVD:
    """The roots of the k largest eigenvalues of a Gram matrix, and their vectors."""
    from scipy.linalg import eigh

    with reproducible():
        w, V = eigh(G, driver="evd", overwrite_a=True, check_finite=False)
    s = np.sqrt(np.maximum(w[::-1][:k], 0.0))
    return s.astype(np.float32), np.ascontiguousarray(V[:, ::-1][:, :k].T, np.float32)


def _randomized_svd(A: np.ndarray, k: int, S: np.ndarray, n_power_iter: int) -> SVD:
    def decompose(
        step: Callable[[np.ndarray], np.ndarray],
    ) -> SVD:
        Z = S
        for _ in range(n_power_iter):
            Z = orthonormal_basis(step(Z))
        U, s, Wt = _exact_svd(matmul(A, Z), k)
        return U, s, matmul(Wt, Z.T)

    if A.shape[1] <= _GRAM_WIDTH * S.shape[1]:
        G = _gram(A)
        U, s, Vt = decompose(lambda Z: matmul(G, Z))
        if s[-1] >= 3 * np.sqrt(np.finfo(A.dtype).eps) * s[0]:
            return U, s, Vt
    return decompose(lambda Z: matmul(A.T, orthonormal_basis(matmul(A, Z))))


def _gram(A: np.ndarray) -> np.ndarray:
    """``A^T A``, from the tiles on and below the diagonal."""
    d = A.shape[1]
    G = np.empty((d, d), A.dtype)

    def rows(i: int, j: int) -> None:
        np.matmul(A[:, i:j].T, A[:, :j], out=G[i:j, :j])
        G[:i, i:j] = G[i:j, :i].T

    run_blocks(rows, d, 128)
    return G


def _exact_svd(Y: np.ndarray, k: int) -> SVD:
    """The leading k singular triplets of a matrix that is at least as tall as wide."""
    from scipy.linalg import svd

    Q, R = thin_qr(Y)
    with reproducible():
        U, s, Wt = svd(R, check_finite=False)
    U, s, Wt = (np.ascontiguousarray(part, Y.dtype) for part in (U[:, :k], s[:k], Wt[:k]))
    return matmul(Q, U), s, Wt
