"""Who searches: the package itself, scikit-learn or faiss."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.rows import rows_of
from lplr.neighbours.search import Neighbours, check_query, refuse_zero, search
from lplr.validation.arguments import check_choice

__all__ = ["ENGINES", "search_by"]

ENGINES = ("lplr", "scikit-learn", "faiss")
_METRICS = ("euclidean", "cosine")


def search_by(engine: str, f: Any, queries: Any, k: int, metric: str) -> Neighbours:
    """As `lplr.search`, by an engine of `ENGINES`.

    The others search the dense float32 matrix, faiss that of as many columns as there are
    components: scikit-learn's brute force, and the flat index of faiss (extra ``bench``), which
    calculate in float32 where rows are equally near. They offer the first two metrics alone.

    Parameters
    ----------
    engine : {"lplr", "scikit-learn", "faiss"}
    f : array_like, packed matrix or LinearOperator of shape (n, d)
    queries : array_like of shape (m, d)
    k : int
    metric : {"euclidean", "cosine"}

    Returns
    -------
    Neighbours

    Raises
    ------
    InputError
        As `lplr.search`.
    MissingPackageError
        If faiss is asked for and not installed.
    """
    check_choice(engine, "engine", ENGINES)
    if engine == "lplr":
        return search(f, queries, k, metric=metric)
    check_choice(metric, "metric", _METRICS)
    A = _dense(f)
    X, k = check_query(queries, k, A.shape)
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    if metric == "cosine":
        refuse_zero(lengths, "queries")
        refuse_zero(np.abs(A).max(axis=1), "f")
    if engine == "scikit-learn":
        return _by_scikit_learn(A, X, k, metric)
    return _by_faiss(*_narrow(f, A, X), lengths, k, metric)


def _dense(f: Any) -> np.ndarray:
    if isinstance(f, PackedMatrix):
        return f.to_dense()
    return rows_of(f, "f").all().astype(np.float32)


def _by_scikit_learn(A: np.ndarray, X: np.ndarray, k: int, metric: str) -> Neighbours:
    from sklearn.neighbors import NearestNeighbors

    fitted = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(A)
    distances, indices = fitted.kneighbors(X.astype(np.float32, copy=False))
    return Neighbours(distances.astype(np.float64), indices.astype(np.int64))


def _narrow(f: Any, A: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 rows and queries with the inner products, and norms of rows, of the given ones.

    Rows L R = (L T^T) B^T, where R^T = B T and B is orthonormal, have as many coordinates as
    components; what of a query x is orthogonal to B meets none of them.
    """
    if not isinstance(f, LowRank) or f.rank + 1 >= f.shape[1]:
        return A, X.astype(np.float32)
    L, R = f.left.to_dense(), f.right.to_dense()
    if f.shift:
        L = np.hstack((L, np.ones((len(L), 1), L.dtype)))
        R = np.vstack((R, np.full((1, R.shape[1]), f.shift, R.dtype)))
    B, T = np.linalg.qr(R.T.astype(np.float64))
    return L @ T.T.astype(np.float32), (X @ B).astype(np.float32)


def _by_faiss(A: np.ndarray, X: np.ndarray, lengths: np.ndarray, k: int, metric: str) -> Neighbours:
    """By the flat index of faiss; ``lengths`` are the norms of the queries before `_narrow`."""
    from lplr.extras import optional

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
