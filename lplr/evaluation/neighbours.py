"""Nearest neighbours among compressed rows, from the factors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lplr.evaluation.database import Database, database_of
from lplr.evaluation.rows import rows_of
from lplr.exceptions import InputError
from lplr.matrices.base import Artefact
from lplr.matrices.low_rank import LowRank
from lplr.validation import check_choice, check_integer, check_matrix

__all__ = ["ENGINES", "METRICS", "Neighbours", "nearest"]

METRICS = ("cosine", "euclidean")
ENGINES = ("factors", "scikit-learn", "faiss")


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


def nearest(
    database: Any, queries: Any, k: int, *, metric: str = "euclidean", engine: str = "factors"
) -> Neighbours:
    """The k nearest database rows of each query; of equally near ones those of lowest index.

    Parameters
    ----------
    database : array_like, Artefact or LinearOperator of shape (n, d)
    queries : array_like of shape (m, d)
    k : int
        From 1 to n; time grows with it beyond some hundreds.
    metric : {"euclidean", "cosine"}
    engine : {"factors", "scikit-learn", "faiss"}
        ``"factors"`` never forms the dense matrix. The others search the dense float32 one, faiss
        that of as many columns as there are components: scikit-learn's brute force, and the flat
        index of faiss (extra ``bench``), which calculate in float32 where rows are equally near.

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
    are projected once, and each distance costs as many products as the rank, in float64. Rows of
    a `Quantized` matrix or an array are decoded a block at a time. Those of a `QPlusLowRank` are
    mixed by its transform, which is undone on the products of some queries with all rows; of any
    other operator the products are taken as it gives them. No result depends on the number of
    threads.

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
    index = database_of(database)
    n, d = index.shape
    if X.shape[1] != d:
        raise InputError(f"queries: must have the {d} columns of database, found {X.shape[1]}")
    k = check_integer(k, "k", 1, n)
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    norms = np.sqrt(np.maximum(index.squared_norms(), 0.0))
    if metric == "cosine":
        _refuse_zero(lengths, "queries")
        _refuse_zero(norms, "database")
    if engine == "scikit-learn":
        return _by_scikit_learn(_dense(database), X, k, metric)
    if engine == "faiss":
        return _by_faiss(*_narrow(database, X), lengths, k, metric)
    scale, offset = (
        (-1 / norms, np.zeros(n)) if metric == "cosine" else (np.full(n, -2.0), norms**2)
    )
    values, indices = _scan(index, X, k, scale, offset)
    if metric == "cosine":
        distances = np.clip(1 + values / lengths[:, None], 0.0, 2.0)
    else:
        distances = np.sqrt(np.maximum(values + (lengths**2)[:, None], 0.0))
    return Neighbours(distances, indices)


def _scan(
    index: Database, X: np.ndarray, k: int, scale: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k least of ``offset + scale * product`` for each query, with their indices."""
    from lplr.kernels.nearest import keep_least

    values = np.full((len(X), k), np.inf)
    indices = np.full((len(X), k), -1, np.int64)
    for start in range(0, len(X), index.queries):
        part = slice(start, start + index.queries)
        best, where = values[part], indices[part]

        def keep(i: int, j: int, first: int, stop: int, products: np.ndarray) -> None:
            keep_least(
                np.ascontiguousarray(products),
                scale[first:stop],
                offset[first:stop],
                first,
                best[i:j],  # noqa: B023 - called before the next turn
                where[i:j],  # noqa: B023
            )

        index.scan(X[part], keep)
    return values, indices


def _refuse_zero(norms: np.ndarray, name: str) -> None:
    if not norms.all():
        raise InputError(
            f"{name}: row {int(np.argmin(norms))} is zero and has no direction; leave such rows "
            "out, or use metric='euclidean'"
        )


def _dense(database: Any) -> np.ndarray:
    if isinstance(database, Artefact):
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
    components; of a query x, what is orthogonal to B meets none of them.
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
    """Of queries whose norms, with what `_narrow` took from them, are ``lengths``."""
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
