"""What an estimator says about its data and factors: singular pairs, errors, variances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.utils.extmath import svd_flip

from lplr.linalg.operators import InputOperator
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ratio_of_norms
from lplr.matrices.low_rank import LowRank
from lplr.parallel import matmul, reproducible
from lplr.sources import Source
from lplr.streaming.limits import memory_bytes
from lplr.streaming.measured import stated_error
from lplr.streaming.moments import FirstPass, Moments
from lplr.streaming.room import open_passes

__all__ = ["LONG", "Spread", "error_and_spread", "singular_pairs", "spread_of_moments"]

_COLUMNS = 16  # of a projected operator that are held at a time
LONG = 1 << 13  # rows of a long factor that are decomposed at a time
_ROUNDING = 1e-12  # of a sum of squares in float64, generously


class Spread(NamedTuple):
    """Of X and X V^T: the norm of X, the sum of the variances of its columns, those of X V^T."""

    norm: float
    total: float
    variance: np.ndarray


def error_and_spread(
    X: np.ndarray | InputOperator | Source,
    factors: LowRank,
    V: np.ndarray,
    first: FirstPass,
    memory_limit: int | str | None,
) -> tuple[float, Spread]:
    """The relative error of L R, and the spread of the data.

    Of a source they follow from what two passes found, where that is all there; else another pass
    measures them.
    """
    if isinstance(X, Source):
        history = factors.meta.get("history")
        if first.moments is not None and history:
            return history[-1], spread_of_moments(first.moments, V)
        error, spread = _of_source(X, factors, V, memory_bytes(memory_limit))
        return stated_error(factors, X, error), spread
    spread = _of_array(X, V) if isinstance(X, np.ndarray) else _of_operator(X, V)
    return factors.relative_error(X) if spread.norm else 0.0, spread


def _of_source(X: Source, factors: LowRank, V: np.ndarray, limit: int) -> tuple[float, Spread]:
    passes = open_passes(X, limit, rank=len(V), stored=factors.nbytes, with_gram=False)
    (n, d), read, V = X.shape, factors._row_reader(), V.T.astype(np.float64)
    squares, sums = np.zeros(2), np.zeros(d)
    projected = np.zeros((2, V.shape[1]))

    def work(start: int, A: np.ndarray) -> tuple[np.ndarray, ...]:
        A = A.astype(np.float64)
        E = A - read(start, start + len(A))
        error = np.vdot(E, E)
        Z = A @ V
        moments = np.array([Z.sum(axis=0), np.square(Z).sum(axis=0)])
        return np.array([error, np.vdot(A, A)]), A.sum(axis=0), moments

    def take(found: tuple[np.ndarray, ...]) -> None:
        for total, part in zip((squares, sums, projected), found, strict=True):
            np.add(total, part, out=total)

    passes.each(work, take, "error")
    error, square = squares.tolist()
    mean, of_squares = projected / n
    variance = np.maximum(of_squares - np.square(mean), 0.0)
    return ratio_of_norms(error, square), _spread(square, sums / n, n, variance)


def _of_array(X: np.ndarray, V: np.ndarray) -> Spread:
    norm = float(np.linalg.norm(X.astype(np.float64, copy=False)))
    total = float(np.var(X, axis=0, dtype=np.float64).sum())
    return Spread(norm, total, np.var(X @ V.T, axis=0, dtype=np.float64))


def _of_operator(X: InputOperator, V: np.ndarray) -> Spread:
    variance = np.empty(len(V))
    for i in range(0, len(V), _COLUMNS):
        Z = X.times(V[i : i + _COLUMNS].T)
        variance[i : i + _COLUMNS] = np.var(Z, axis=0, dtype=np.float64)
    n = X.shape[0]
    mean = X.T.times(np.ones((n, 1))) / n
    return _spread(X.squared_norm(), mean, n, variance)


def spread_of_moments(moments: Moments, V: np.ndarray) -> Spread:
    """That of the rows which gave the moments."""
    n, V = moments.shape[0], V.astype(np.float64)
    mean = moments.sums / n
    squares = np.einsum("ij,ij->i", matmul(V, moments.gram), V)
    variance = np.maximum(squares / n - np.square(V @ mean), 0.0)
    spread = _spread(moments.energy, mean, n, variance)
    u = moments.unit
    return Spread(u * spread.norm, u * u * spread.total, u * u * spread.variance)


def _spread(square: float, mean: np.ndarray, n: int, variance: np.ndarray) -> Spread:
    total = square / n - float(np.vdot(mean, mean))
    # What rounding leaves of a matrix of equal rows is no variance.
    return Spread(
        float(np.sqrt(square)), total if n * total > _ROUNDING * square else 0.0, variance
    )


def singular_pairs(factors: LowRank, step: int = LONG) -> tuple[np.ndarray, np.ndarray]:
    """Singular values and right singular vectors of L R without forming it, float64.

    L is decomposed ``step`` rows at a time.
    """
    from scipy.linalg import qr, svd

    with reproducible():
        T = _triangle(factors.left, step)
        right = factors.right.to_dense().T.astype(np.float64)
        Q, S = qr(right, mode="economic", overwrite_a=True)
        U, s, Wt = svd(T @ S.T)
        Vt = Wt @ Q.T
    return s, svd_flip(U, Vt, u_based_decision=False)[1]


def _triangle(L: PackedMatrix, step: int) -> np.ndarray:
    """R of the QR decomposition of a tall matrix, float64."""
    from scipy.linalg import qr

    n, k = L.shape
    R = np.empty((0, k))
    for start in range(0, n, step):
        rows = L.rows(start, min(start + step, n))
        R = qr(np.vstack([R, rows], dtype=np.float64), mode="r", overwrite_a=True)[0][:k]
    return R
