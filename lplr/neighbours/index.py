"""A matrix as coordinates of its rows, whose products with queries are calculated by blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.rows import rows_of
from lplr.parallel import matmul, run_blocks

__all__ = ["Index", "index_of"]

_PANEL = 1 << 19  # entries of each array that a thread works on: 4 MB of float64
_QUERIES = 256  # that a thread multiplies at a time
_ROWS = 2048  # of the database that they meet at a time, at most


@dataclass(frozen=True)
class Index:
    """Rows whose products with x are those of their coordinates with the projection of x.

    ``read(start, stop)`` gives coordinates of rows, (stop - start, width), in float64; ``R``
    projects queries, (width, d), and is the identity where it is None.
    """

    shape: tuple[int, int]
    read: Callable[[int, int], np.ndarray]
    R: np.ndarray | None = None

    @property
    def block(self) -> int:
        """Rows to read at a time; a multiple of 8, so that no lattice group is cut."""
        return max(8, min(_ROWS, _PANEL // self._width // 8 * 8))

    @property
    def _width(self) -> int:
        return self.shape[1] if self.R is None else len(self.R)

    def squared_norms(self) -> np.ndarray:
        """Of all rows, (n,)."""
        out = np.empty(self.shape[0])
        gram = None if self.R is None else matmul(self.R, self.R.T)

        def block(start: int, stop: int) -> None:
            C = self.read(start, stop)
            out[start:stop] = np.einsum("ij,ij->i", C if gram is None else C @ gram, C)

        run_blocks(block, self.shape[0], self.block)
        return out

    def search(
        self, X: np.ndarray, k: int, scale: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k least of ``offset + scale * product`` for each query, with their indices."""
        values = np.full((len(X), k), np.inf)
        indices = np.full((len(X), k), -1, np.int64)
        most = max(_QUERIES, _PANEL // self._width)
        for start in range(0, len(X), most):
            part = slice(start, start + most)
            self._search(X[part], scale, offset, values[part], indices[part])
        return values, indices

    def _search(
        self,
        X: np.ndarray,
        scale: np.ndarray,
        offset: np.ndarray,
        values: np.ndarray,
        indices: np.ndarray,
    ) -> None:
        from lplr.kernels.nearest import keep_least

        P = np.empty((len(X), self._width))

        def project(i: int, j: int) -> None:
            x = X[i:j].astype(np.float64, copy=False)
            P[i:j] = x if self.R is None else x @ self.R.T

        run_blocks(project, len(X), _QUERIES)
        for start in range(0, self.shape[0], self.block):
            rows = slice(start, min(start + self.block, self.shape[0]))
            C = self.read(rows.start, rows.stop)

            def keep(i: int, j: int) -> None:
                products = np.ascontiguousarray(P[i:j] @ C.T)  # noqa: B023 - called in this turn
                keep_least(
                    products,
                    scale[rows],  # noqa: B023
                    offset[rows],  # noqa: B023
                    rows.start,  # noqa: B023
                    values[i:j],
                    indices[i:j],
                )

            run_blocks(keep, len(P), _QUERIES)


def _rows(database: Any) -> Index:
    """Any database but factors, as its rows."""
    if isinstance(database, LinearOperator) and not isinstance(database, PackedMatrix):
        if not np.issubdtype(database.dtype, np.floating) or 0 in database.shape:
            raise InputError(f"f: must be real and not empty, found {database!r}")
        database = np.asarray(database.matmat(np.eye(database.shape[1])))
        if not np.isfinite(database).all():
            raise InputError("f: gives products that are not finite")
    rows = rows_of(database, "f")
    return Index(rows.shape, rows.read)


def _low_rank(A: LowRank) -> Index:
    """Coordinates L; a shift is one component more, of ones in L."""
    R, rows = A.right.to_dense().astype(np.float64), A.left.rows
    if not A.shift:
        return Index(A.shape, lambda i, j: rows(i, j).astype(np.float64), R)
    shifted = np.vstack((R, np.full((1, R.shape[1]), A.shift)))
    return Index(
        A.shape,
        lambda i, j: np.hstack((rows(i, j).astype(np.float64), np.ones((j - i, 1)))),
        shifted,
    )


def index_of(f: Any) -> Index:
    """The rows of any matrix by the coordinates that cost least."""
    return _low_rank(f) if isinstance(f, LowRank) else _rows(f)
