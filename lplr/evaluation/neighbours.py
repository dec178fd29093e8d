"""Nearest neighbours among compressed rows, from the factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.evaluation.rows import rows_of
from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.parallel import matmul, run_blocks
from lplr.validation import check_choice, check_integer, check_matrix

__all__ = ["ENGINES", "METRICS", "Neighbours", "nearest"]

METRICS = ("cosine", "euclidean")
ENGINES = ("factors", "scikit-learn", "faiss")

_PANEL = 1 << 19  # entries of each array that a thread works on: 4 MB of float64
_QUERIES = 256  # that a thread multiplies at a time
_ROWS = 2048  # of the database that they meet at a time, at most


class Neighbours(NamedTuple):
    """The nearest rows of a database, nearest first.

    Parameters
    ----------
    distances : ndarray of shape (m, k), float64
        Euclidean, or one minus the cosine.
    indices : ndarray of shape (m, k), int64
    """

    distances: np.ndarray
    indices: np.ndarray

    def first(self, k: int) -> Neighbours:
        """The k nearest of them.

        Parameters
        ----------
        k : int
        """
        return Neighbours(self.distances[:, :k], self.indices[:, :k])


def nearest(
    database: Any, queries: Any, k: int, *, metric: str = "euclidean", engine: str = "factors"
) -> Neighbours:
    """The k nearest database rows of each query; of equally near rows, the first come first.

    Parameters
    ----------
    database : array_like, packed matrix or LinearOperator of shape (n, d)
    queries : array_like of shape (m, d)
    k : int
        From 1 to n; time grows with it beyond some hundreds.
    metric : {"euclidean", "cosine"}
    engine : {"factors", "scikit-learn", "faiss"}
        ``"factors"`` decodes blocks of rows in turn, or of the left factor. The others search the
        dense float32 matrix, faiss that of as many columns as there are components: scikit-learn's
        brute force, and the flat index of faiss (extra ``bench``), which calculate in float32 where
        rows are equally near.

    Returns
    -------
    Neighbours

    Raises
    ------
    InputError
        If an argument is outside what is offered, or a row is zero and the metric is the cosine.
    MissingPackageError
        If faiss is asked for and not installed.

    Notes
    -----
    With L R for the database, ``|x - r_i|^2 = |x|^2 - 2 (x R^T) l_i + l_i (R R^T) l_i^T``: queries
    are projected once, and each distance costs as many products as the rank, in float64. The dense
    matrix is formed only of a `QPlusLowRank` whose rows a transform has mixed, and of an operator.
    No result depends on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.neighbours import nearest
    >>> found = nearest([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0]], k=2)
    >>> found.indices, found.distances
    (array([[0, 2]]), array([[0., 1.]]))
    """
    check_choice(metric, "metric", METRICS)
    check_choice(engine, "engine", ENGINES)
    double = getattr(queries, "dtype", None) == np.float64
    X = check_matrix(queries, "queries", dtype=np.float64 if double else np.float32)
    index = _low_rank(database) if isinstance(database, LowRank) else _rows(database)
    n, d = index.shape
    if X.shape[1] != d:
        raise InputError(f"queries: must have the {d} columns of database, found {X.shape[1]}")
    k = check_integer(k, "k", 1, n)
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    norms = np.sqrt(np.maximum(index.squared_norms(), 0.0))  # rounding may leave some below zero
    if metric == "cosine":
        _refuse_zero(lengths, "queries")
        _refuse_zero(norms, "database")
    if engine == "scikit-learn":
        return _by_scikit_learn(_dense(database), X, k, metric)
    if engine == "faiss":
        return _by_faiss(*_narrow(database, X), lengths, k, metric)
    if metric == "cosine":
        values, indices = index.search(X, k, -1 / norms, np.zeros(n))
        return Neighbours(np.clip(1 + values / lengths[:, None], 0.0, 2.0), indices)
    values, indices = index.search(X, k, np.full(n, -2.0), norms**2)
    return Neighbours(np.sqrt(np.maximum(values + (lengths**2)[:, None], 0.0)), indices)


@dataclass(frozen=True)
class _Coordinates:
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


def _rows(database: Any) -> _Coordinates:
    """Any database but factors, as its rows."""
    if isinstance(database, LinearOperator) and not isinstance(database, PackedMatrix):
        if not np.issubdtype(database.dtype, np.floating) or 0 in database.shape:
            raise InputError(f"database: must be real and not empty, found {database!r}")
        database = np.asarray(database.matmat(np.eye(database.shape[1])))
        if not np.isfinite(database).all():
            raise InputError("database: gives products that are not finite")
    rows = rows_of(database, "database")
    return _Coordinates(rows.shape, rows.read)


def _low_rank(A: LowRank) -> _Coordinates:
    """Coordinates L; a shift is one component more, of ones in L."""
    R, rows = A.right.to_dense().astype(np.float64), A.left.rows
    if not A.shift:
        return _Coordinates(A.shape, lambda i, j: rows(i, j).astype(np.float64), R)
    shifted = np.vstack((R, np.full((1, R.shape[1]), A.shift)))
    return _Coordinates(
        A.shape,
        lambda i, j: np.hstack((rows(i, j).astype(np.float64), np.ones((j - i, 1)))),
        shifted,
    )


def _refuse_zero(norms: np.ndarray, name: str) -> None:
    if not norms.all():
        raise InputError(
            f"{name}: row {int(np.argmin(norms))} is zero and has no direction; leave such rows "
            "out, or use metric='euclidean'"
        )


def _dense(database: Any) -> np.ndarray:
    if isinstance(database, PackedMatrix):
        return database.to_dense()
    return rows_of(database, "database").all().astype(np.float32)


def _by_scikit_learn(A: np.ndarray, X: np.ndarray, k: int, metric: str) -> Neighbours:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(A)
    distances, indices = search.kneighbors(X.astype(np.float32, copy=False))
    return Neighbours(distances.astype(np.float64), indices.astype(np.int64))


def _narrow(database: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 rows and queries with the inner products, and norms of rows, of the given ones.

    Rows L R = (L T^T) B^T, where R^T = B T and B is orthonormal, have as many coordinates as
    components; what of a query x is orthogonal to B meets none of them.
    """
    if not isinstance(database, LowRank) or database.rank + 1 >= database.shape[1]:
        return _dense(database), X.astype(np.float32)
    L, R = database.left.to_dense(), database.right.to_dense()
    if database.shift:
        L = np.hstack((L, np.ones((len(L), 1), L.dtype)))
        R = np.vstack((R, np.full((1, R.shape[1]), database.shift, R.dtype)))
    B, T = np.linalg.qr(R.T.astype(np.float64))
    return L @ T.T.astype(np.float32), (X @ B).astype(np.float32)


def _by_faiss(A: np.ndarray, X: np.ndarray, lengths: np.ndarray, k: int, metric: str) -> Neighbours:
    """By the flat index of faiss; ``lengths`` are the norms of the queries before `_narrow`."""
    from lplr.evaluation.extras import optional

    faiss = optional("faiss", "engine='faiss'")
    if metric == "cosine":
        A = A / np.linalg.norm(A, axis=1, keepdims=True)
    index = (faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2)(A.shape[1])
    index.add(np.ascontiguousarray(A))
    found, indices = index.search(np.ascontiguousarray(X), k)
    found = found.astype(np.float64)
    if metric == "cosine":
        return Neighbours(1 - found / lengths[:, None], indices.astype(np.int64))
    beyond = lengths**2 - np.einsum("ij,ij->i", X, X, dtype=np.float64)
    distances = np.sqrt(np.maximum(found + beyond[:, None], 0.0))
    return Neighbours(distances, indices.astype(np.int64))
