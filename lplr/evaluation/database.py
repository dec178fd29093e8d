"""Inner products of queries with the rows of a database, a part at a time, in float64.

Whatever the database is, its dense matrix does not exist meanwhile, and what is calculated at a
time depends on the shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from lplr.evaluation.rows import rows_of
from lplr.exceptions import InputError
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.parallel import matmul, run_blocks

__all__ = ["Database", "Keep", "database_of"]

_PANEL = 1 << 19  # entries of each array that a thread works on: 4 MB of float64
_QUERIES = 256  # that a thread multiplies at a time
_ROWS = 2048  # of the database that they meet at a time, at most
_PRODUCTS = 5 << 20  # of some queries with all rows, where those come together only
_UNDONE = 2  # of those queries, for which a thread undoes the transform at a time

# ``keep(i, j, start, stop, products)``: of queries i to j with database rows start to stop.
Keep = Callable[[int, int, int, int, np.ndarray], None]
Block = Callable[[int, int], np.ndarray]


class Database(Protocol):
    """What queries are compared with."""

    shape: tuple[int, int]
    queries: int  # at most this many are given to `scan`

    def squared_norms(self) -> np.ndarray:
        """Squared norms of all rows; rounding may leave some below zero."""

    def scan(self, X: np.ndarray, keep: Keep) -> None:
        """Call ``keep`` for all products, for each query in the order of the rows."""


def database_of(A: Any) -> Database:
    """The database that an argument stands for.

    Parameters
    ----------
    A : array_like, Artefact or LinearOperator of shape (n, d)

    Returns
    -------
    Database

    Raises
    ------
    InputError
        If it is not a finite real matrix.

    Examples
    --------
    >>> from lplr.evaluation.database import database_of
    >>> database_of([[3.0, 4.0], [0.0, 1.0]]).squared_norms()
    array([25.,  1.])
    """
    from scipy.sparse.linalg import LinearOperator

    from lplr.matrices.base import Artefact

    if isinstance(A, LowRank):
        return _low_rank(A)
    if isinstance(A, QPlusLowRank):
        rotated = _rotated(A)
        return rotated if A.left is None else _Mixed(rotated, A.left)
    if isinstance(A, LinearOperator) and not isinstance(A, Artefact):
        if not np.issubdtype(A.dtype, np.floating) or 0 in A.shape:
            raise InputError(f"database: must be real and not empty, found {A!r}")
        return _Products(A)
    rows = rows_of(A, "database")
    return _Coordinates(rows.shape, rows.shape[1], rows.read)


class _Coordinates:
    """Rows whose products with x are those of their coordinates with the projection of x.

    Parameters
    ----------
    shape : (n, d)
    width : int
        Coordinates of a row.
    read : callable
        ``read(start, stop)``: coordinates of these rows, (stop - start, width), float64.
    project : callable, optional
        From (m, d) to (m, width), float64; where left out, the identity.
    squares : callable, optional
        From coordinates, (b, width), to squared norms, (b,); by default their sum of squares.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        width: int,
        read: Block,
        project: Callable[[np.ndarray], np.ndarray] | None = None,
        squares: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.shape, self.width, self.read = shape, width, read
        self.project, self._squares = project or (lambda X: X), squares or _row_squares
        self.block = max(8, min(_ROWS, _PANEL // width // 8 * 8))  # no lattice group is cut
        self.queries = max(_QUERIES, _PANEL // width)

    def squared_norms(self) -> np.ndarray:
        out = np.empty(self.shape[0])

        def block(start: int, stop: int) -> None:
            out[start:stop] = self._squares(self.read(start, stop))

        run_blocks(block, self.shape[0], self.block)
        return out

    def scan(self, X: np.ndarray, keep: Keep) -> None:
        P = self.project_blocks(X)
        for start in range(0, self.shape[0], self.block):
            stop = min(start + self.block, self.shape[0])
            C = self.read(start, stop)
            run_blocks(
                lambda i, j: keep(i, j, start, stop, P[i:j] @ C.T),  # noqa: B023
                len(P),
                _QUERIES,
            )

    def project_blocks(self, X: np.ndarray) -> np.ndarray:
        P = np.empty((len(X), self.width))

        def block(i: int, j: int) -> None:
            P[i:j] = self.project(X[i:j].astype(np.float64, copy=False))

        run_blocks(block, len(X), _QUERIES)
        return P


def _row_squares(X: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", X, X)


def _factors(A: LowRank) -> tuple[Block, np.ndarray]:
    """How to read rows of L, and R, float64; a shift is one component more, of ones in L."""
    R = A.right.to_dense().astype(np.float64)
    rows = A.left.rows

    def read(start: int, stop: int) -> np.ndarray:
        L = rows(start, stop).astype(np.float64)
        return np.hstack((L, np.ones((len(L), 1)))) if A.shift else L

    return read, np.vstack((R, np.full((1, R.shape[1]), A.shift))) if A.shift else R


def _low_rank(A: LowRank) -> _Coordinates:
    """Coordinates L; queries x go to R x."""
    read, R = _factors(A)
    gram = matmul(R, R.T)
    return _Coordinates(
        A.shape,
        len(R),
        read,
        project=lambda X: X @ R.T,
        squares=lambda C: np.einsum("ij,ij->i", C @ gram, C),
    )


def _rotated(A: QPlusLowRank) -> _Coordinates:
    """Coordinates Q and L; queries x go through the transform V of the columns, to V x and R V x.

    Before the transform of the rows is undone, if there is one.
    """
    d = A.shape[1]
    rows, right = A.backbone.rows, A.right
    read_low, R = (None, np.empty((0, d))) if A.low_rank is None else _factors(A.low_rank)

    def read(start: int, stop: int) -> np.ndarray:
        Q = rows(start, stop).astype(np.float64)
        return Q if read_low is None else np.hstack((Q, read_low(start, stop)))

    def project(X: np.ndarray) -> np.ndarray:
        Y = X if right is None else right.apply(X, axis=1)
        return np.hstack((Y, Y @ R.T))

    def squares(C: np.ndarray) -> np.ndarray:
        return _row_squares(C[:, :d] + C[:, d:] @ R)

    return _Coordinates(A.shape, d + len(R), read, project, squares)


class _Mixed:
    """Rows that an orthogonal transform of size n has mixed: all of them come together.

    Parameters
    ----------
    before : _Coordinates
        Rows before they were mixed.
    transform : RandomizedTransform
        To be undone.
    """

    def __init__(self, before: _Coordinates, transform: Any) -> None:
        self._before, self._undo, self.shape = before, transform.undo, before.shape
        # Each time all rows are decoded, so that the queries should be as many as fit.
        self.queries = min(before.queries, max(8, _PRODUCTS // self.shape[0]))  # in float32

    def squared_norms(self) -> np.ndarray:
        # The sum of the squared products with all unit vectors.
        n, d = self.shape
        out = np.zeros(n)
        for start in range(0, d, self.queries):
            unit = np.eye(min(self.queries, d - start), d, start)
            self._add_squares(self._before.project_blocks(unit), out)
        return out

    def _add_squares(self, P: np.ndarray, out: np.ndarray) -> None:
        products = self._undone(P)
        for i in range(0, len(P), _UNDONE):
            part = products(i, min(i + _UNDONE, len(P)))
            out += np.einsum("ij,ij->j", part, part)

    def scan(self, X: np.ndarray, keep: Keep) -> None:
        products = self._undone(self._before.project_blocks(X))
        run_blocks(lambda i, j: keep(i, j, 0, self.shape[0], products(i, j)), len(X), _UNDONE)

    def _undone(self, P: np.ndarray) -> Block:
        """Products of queries i to j with all rows; the transform is undone a few at a time."""
        n = self.shape[0]
        # Rounded to float32, as the entries of a decoded matrix would be.
        out = np.empty((len(P), n), np.float32)

        def block(start: int, stop: int) -> None:
            out[:, start:stop] = P @ self._before.read(start, stop).T

        run_blocks(block, n, max(8, self._before.block // 16 * 8))
        return lambda i, j: self._undo(out[i:j].astype(np.float64), axis=1)


class _Products:
    """Rows of an operator that are met only by its products with blocks of vectors."""

    def __init__(self, operator: Any) -> None:
        self._operator, self.shape = operator, operator.shape
        self.queries = max(8, _PRODUCTS // 2 // self.shape[0])  # in float64

    def squared_norms(self) -> np.ndarray:
        n, d = self.shape
        out = np.zeros(n)
        for start in range(0, d, self.queries):
            columns = self._multiply(np.eye(d, min(self.queries, d - start), -start))
            out += np.einsum("ij,ij->i", columns, columns)
        return out

    def scan(self, X: np.ndarray, keep: Keep) -> None:
        products = self._multiply(X.T.astype(np.float64, copy=False)).T
        run_blocks(lambda i, j: keep(i, j, 0, self.shape[0], products[i:j]), len(X), _UNDONE)

    def _multiply(self, X: np.ndarray) -> np.ndarray:
        out = np.asarray(self._operator.matmat(X))
        if not np.isfinite(out).all():
            raise InputError("database: gives products that are not finite")
        return out.astype(np.float64, copy=False)
