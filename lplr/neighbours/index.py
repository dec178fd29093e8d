"""A matrix as coordinates of its rows, block by block, whose products with queries are searched.

Products and squared norms are summed in float64, a block of fixed size on one thread, and of equal
values the one of the lowest row number is kept: no result depends on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.rows import rows_of
from lplr.parallel import matmul, run_blocks
from lplr.progress import counter

__all__ = ["Index", "index_of"]

_PANEL = 1 << 19  # entries of each array that a thread works on: 4 MB of float64
_QUERIES = 256  # that a thread multiplies at a time
_ROWS = 2048  # of the database that they meet at a time, at most

Weights = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
ReadFloats = Callable[[int, int], np.ndarray]  # rows from start to stop, float64


@dataclass(frozen=True, eq=False)
class Index:
    """Rows r of a matrix, in blocks of coordinates c.

    Parameters
    ----------
    shape : (int, int)
    width : int
        Coordinates of a row.
    numbers : callable
        The numbers of the rows of block b, ascending.
    read : callable
        Their coordinates, float64 (m, width).
    project : callable
        Coordinates of queries, float64 (q, width), from float64 (q, d).
    mix : callable
        ``mix(b, P)`` turns the products (q, m) of the projected queries with c into those of the
        queries with r.
    squares : callable
        ``squares(b, C)`` gives |r|^2, (m,).
    blocks : int
    norms : ndarray of shape (n,)
        |r|^2 where it is known, else NaN; what a search finds out is kept here.
    """

    shape: tuple[int, int]
    width: int
    numbers: Callable[[int], np.ndarray]
    read: Callable[[int], np.ndarray]
    project: Callable[[np.ndarray], np.ndarray]
    mix: Callable[[int, np.ndarray], np.ndarray]
    squares: Callable[[int, np.ndarray], np.ndarray]
    blocks: int
    norms: np.ndarray

    def search(
        self, X: np.ndarray, k: int, weights: Weights | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k least of ``offset + scale * product`` for each query, with their row numbers.

        ``weights`` gives scale and offset from the squared norms of rows; without it they are -1
        and 0, and the norms stay unknown.
        """
        values = np.full((len(X), k), np.inf)
        indices = np.full((len(X), k), -1, np.int64)
        most = max(_QUERIES, _PANEL // self.width)
        count = counter(self.blocks * len(X))
        for start in range(0, len(X), most):
            part = slice(start, start + most)
            self._search(X[part], weights, values[part], indices[part], count)
        return values, indices

    def _search(
        self,
        X: np.ndarray,
        weights: Weights | None,
        values: np.ndarray,
        indices: np.ndarray,
        count: Callable[[float], None],
    ) -> None:
        from lplr.kernels.nearest import keep_least

        P = self.project(X.astype(np.float64, copy=False))
        lock = threading.Lock()

        def block(b: int, _: int) -> None:
            C, numbers = self.read(b), self.numbers(b)
            if weights is None:
                scale, offset = np.full(len(C), -1.0), np.zeros(len(C))
            else:
                norms = self.norms[numbers]
                if np.isnan(norms).any():  # rounding may leave some below zero
                    norms = self.norms[numbers] = np.maximum(self.squares(b, C), 0.0)
                scale, offset = weights(norms)
            for i in range(0, len(P), _QUERIES):
                part = slice(i, i + _QUERIES)
                products = np.ascontiguousarray(self.mix(b, P[part] @ C.T))
                with lock:
                    keep_least(products, scale, offset, numbers, values[part], indices[part])
            count(len(P))

        run_blocks(block, self.blocks, 1)


_norms: WeakKeyDictionary[PackedMatrix, np.ndarray] = WeakKeyDictionary()


def index_of(f: Any) -> Index:
    """The rows of any matrix by the coordinates that cost least."""
    if isinstance(f, LowRank):
        return _low_rank(f)
    if isinstance(f, QPlusLowRank) and f.left is not None and f.left.blocks > 1:
        return _in_row_blocks(f)
    return _rows(f)


def _squared_norms(f: Any, n: int) -> np.ndarray:
    """Those of a packed matrix are kept as long as it lives; it never changes."""
    if not isinstance(f, PackedMatrix):
        return np.full(n, np.nan)
    return _norms.setdefault(f, np.full(n, np.nan))


def _in_order(
    f: Any,
    shape: tuple[int, int],
    width: int,
    read: ReadFloats,
    project: Callable[[np.ndarray], np.ndarray] = lambda X: X,
    squares: Callable[[np.ndarray], np.ndarray] = lambda C: np.einsum("ij,ij->i", C, C),
) -> Index:
    """Rows in their order; blocks are multiples of 8, so that no lattice group is cut."""
    n, size = shape[0], max(8, min(_ROWS, _PANEL // width // 8 * 8))
    return Index(
        shape,
        width,
        numbers=lambda b: np.arange(b * size, min(b * size + size, n)),
        read=lambda b: read(b * size, min(b * size + size, n)),
        project=project,
        mix=lambda b, P: P,
        squares=lambda b, C: squares(C),
        blocks=-(-n // size),
        norms=_squared_norms(f, n),
    )


def _rows(f: Any) -> Index:
    """Any matrix, as its rows."""
    A = f
    if isinstance(f, LinearOperator) and not isinstance(f, PackedMatrix):
        if not np.issubdtype(f.dtype, np.floating) or 0 in f.shape:
            raise InputError(f"f: must be real and not empty, found {f!r}")
        A = np.asarray(f.matmat(np.eye(f.shape[1])))
        if not np.isfinite(A).all():
            raise InputError("f: gives products that are not finite")
    rows = rows_of(A, "f")
    return _in_order(f, rows.shape, rows.shape[1], rows.read)


def _low_rank(A: LowRank) -> Index:
    """Coordinates L."""
    L, R = _factors(A)
    gram = matmul(R, R.T)
    return _in_order(
        A,
        A.shape,
        len(R),
        L,
        project=lambda X: matmul(X, R.T),
        squares=lambda C: np.einsum("ij,ij->i", C @ gram, C),
    )


def _factors(A: LowRank) -> tuple[ReadFloats, np.ndarray]:
    """Rows of L, and R, float64; a shift is one component more, of ones in L."""
    L, R = A.left._row_reader(), A.right.to_dense().astype(np.float64)
    if not A.shift:
        return lambda i, j: L(i, j).astype(np.float64), R
    R = np.vstack((R, np.full((1, R.shape[1]), A.shift)))
    return lambda i, j: np.pad(L(i, j).astype(np.float64), ((0, 0), (0, 1)), constant_values=1), R


def _in_row_blocks(A: QPlusLowRank) -> Index:
    """U^T (Q + L R) V with a U in blocks: coordinates are those of Q and, beside them, L.

    U is undone on the products with queries, which are fewer than the columns.
    """
    left, right, (n, d) = A.left, A.right, A.shape
    assert left is not None
    Q, R = A.backbone._row_reader(), np.empty((0, d))
    if A.low_rank is not None:
        L, R = _factors(A.low_rank)

    def read(b: int) -> np.ndarray:
        rows = left.inside(b)
        C = np.empty((rows.stop - rows.start, d + len(R)))
        C[:, :d] = Q(rows.start, rows.stop)
        if len(R):
            C[:, d:] = L(rows.start, rows.stop)
        return C

    def project(X: np.ndarray) -> np.ndarray:
        Y = X if right is None else right.apply(X, axis=1)
        return np.hstack((Y, matmul(Y, R.T)))

    def squares(b: int, C: np.ndarray) -> np.ndarray:
        rows = left.undo_block(b, C[:, :d] + C[:, d:] @ R)
        return np.einsum("ij,ij->i", rows, rows)

    return Index(
        A.shape,
        d + len(R),
        numbers=lambda b: np.r_[left.outside(b)],
        read=read,
        project=project,
        mix=lambda b, P: left.undo_block(b, P, axis=1),
        squares=squares,
        blocks=left.blocks,
        norms=_squared_norms(A, n),
    )
