"""The nearest rows of a matrix, compressed or not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.row_parts import RowParts
from lplr.neighbours.coordinates import index_of
from lplr.neighbours.parts import PartsIndex
from lplr.parallel import reproducible
from lplr.progress import Progress, tracked
from lplr.streaming.limits import memory_bytes
from lplr.validation.arguments import check_choice, check_integer
from lplr.validation.matrices import as_array, check_matrix

__all__ = ["METRICS", "Neighbours", "check_query", "refuse_zero", "search"]

METRICS = ("euclidean", "cosine", "inner")


class Neighbours(NamedTuple):
    """The nearest rows of a database, nearest first.

    Parameters
    ----------
    distances : ndarray of shape (m, k), float64
        Euclidean, or one minus the cosine; for the metric "inner" the inner products themselves,
        which fall from the left to the right.
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


def search(
    f: Any,
    queries: Any,
    k: int,
    *,
    metric: str = "euclidean",
    memory_limit: int | str | None = None,
    progress: Progress = False,
) -> Neighbours:
    """The k nearest rows of each query; of equally near rows, the first come first.

    Parameters
    ----------
    f : packed matrix, array_like or LinearOperator of shape (n, d)
        The database: what `lplr.compress` and all others return, or an array.
    queries : array_like of shape (m, d)
    k : int
        From 1 to n; time grows with it beyond some hundreds.
    metric : {"euclidean", "cosine", "inner"}
        ``"inner"`` finds the rows of the largest inner products.
    memory_limit : int or str, optional
        Of a matrix in parts: bytes, or a text such as ``"2GB"``, that this may take; by default a
        quarter of the memory that is available. The result does not depend on it.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    Neighbours
        A pair ``distances, indices`` of arrays of shape (m, k), as ``kneighbors`` of scikit-learn
        returns it; for ``"inner"`` the first has inner products, the largest first.

    Raises
    ------
    InputError
        If an argument is outside what is offered, or a row is zero and the metric is the cosine.

    Notes
    -----
    The rows are those that f stands for, and ``|x - r|^2 = |x|^2 - 2 x.r + |r|^2``, in float64.
    Blocks of rows are decoded in turn, and each meets all queries (up to 2048 of them). With L R
    for the database, the products are ``(x R^T) l``, as many as the rank; with U^T (Q + L R) V,
    those of V x and R V x with Q and L, which U^T then mixes. The norms of the rows of a packed
    matrix are computed in its first search and kept as long as it lives. From then on up to four
    queries meet the packed codes, in float32, and only blocks that may hold a neighbour, by the
    error of that at worst, are decoded: the result is the same up to rounding. The parts of a
    `RowParts` are opened one after the other, or one by each thread where there are many, and
    searched like that; their files are read anew each time, if they are more than two. The dense
    matrix is
    formed only of a `QPlusLowRank` whose rows are not mixed in blocks (an older file, or less than
    4096 rows), and of an operator. No result depends on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> A = lplr.datasets.synthetic(200, 100, "power", exponent=1.0, rng=0)
    >>> f = lplr.compress(A, bits_per_entry=2, rng=0)
    >>> distances, indices = lplr.search(f, A[:3], k=5)
    >>> indices[:, 0], distances.shape
    (array([0, 1, 2]), (3, 5))
    """
    check_choice(metric, "metric", METRICS)
    in_parts = isinstance(f, RowParts)
    if memory_limit is not None and not in_parts:
        raise InputError("memory_limit: goes with a matrix in parts; leave it out")
    with tracked(progress, "search"), reproducible():
        index = PartsIndex(f, memory_bytes(memory_limit)) if in_parts else index_of(f)
        X, k = check_query(queries, k, index.shape)
        lengths = np.einsum("ij,ij->i", X, X, dtype=np.float64)[:, None]
        if metric == "cosine":
            refuse_zero(lengths, "queries")
        found = index.search(X, k, _WEIGHTS[metric])
        values, indices = found.values, found.indices
        if metric == "inner":
            return Neighbours(-values, indices)
        if metric == "euclidean":
            return Neighbours(np.sqrt(np.maximum(values + lengths, 0.0)), indices)
        refuse_zero(index.norms, "f")
        return Neighbours(np.clip(1 + values / np.sqrt(lengths), 0.0, 2.0), indices)


def _inverse(norms: np.ndarray) -> np.ndarray:
    """1 / |r|; 0 where there is no cosine."""
    return np.divide(1.0, np.sqrt(norms), out=np.zeros(len(norms)), where=norms > 0)


# What is least for the nearest row r is ``offset + scale * x.r``; from the squared norms of rows.
_WEIGHTS = {
    "euclidean": lambda norms: (np.full(len(norms), -2.0), norms),
    "cosine": lambda norms: (-_inverse(norms), np.zeros(len(norms))),
    "inner": lambda norms: (np.full(len(norms), -1.0), np.zeros(len(norms))),
}


def check_query(queries: Any, k: Any, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The queries, float32 or float64, and k, if they fit a database of this shape."""
    if as_array(queries, "queries").ndim == 1:
        raise InputError(
            f"queries: must have shape (m, {shape[1]}), found one row; use queries.reshape(1, -1)"
        )
    double = getattr(queries, "dtype", None) == np.float64
    X = check_matrix(queries, "queries", dtype=np.float64 if double else np.float32)
    if X.shape[1] != shape[1]:
        raise InputError(f"queries: must have the {shape[1]} columns of f, found {X.shape[1]}")
    return X, check_integer(k, "k", 1, shape[0])


def refuse_zero(norms: np.ndarray, name: str) -> None:
    """An error if a norm is zero: the row has no cosine."""
    if not norms.all():
        raise InputError(
            f"{name}: row {int(np.argmin(norms))} is zero and has no direction; leave such rows "
            "out, or use metric='euclidean'"
        )
