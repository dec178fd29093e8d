"""The rows of a matrix as blocks of coordinates, which are searched in turn.

Products and squared norms are summed in float64, a block of fixed size on one thread, and of equal
values those of the lowest row numbers are kept: no result depends on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lplr.parallel import run_blocks
from lplr.progress import counter

__all__ = ["PANEL", "Index", "Known", "Nearest", "Screen", "Weights"]

PANEL = 1 << 19  # entries of each array that a thread works on: 4 MB of float64
_QUERIES = 256  # that a thread multiplies at a time
_FEW = 4  # queries for which a screen is cheaper than one pass over all blocks

Weights = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Screen = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Known:
    """What searches have found out about a matrix: NaN where it is not known yet.

    ``norms`` are the squared norms of rows, (n,); ``sizes`` are what the screen needs to know about
    each block.
    """

    norms: np.ndarray
    sizes: np.ndarray

    @classmethod
    def nothing(cls, rows: int, blocks: int) -> Known:
        """About so many rows in so many blocks."""
        return cls(np.full(rows, np.nan), np.full(blocks, np.nan))


class Nearest:
    """The k least values of each of m queries so far, and their row numbers.

    It does not depend on the order in which rows are looked at.

    Attributes
    ----------
    values : ndarray of shape (m, k), float64
    indices : ndarray of shape (m, k), int64
    """

    def __init__(self, m: int, k: int) -> None:
        self.values, self.indices = np.full((m, k), np.inf), np.full((m, k), -1, np.int64)
        self._lock = threading.Lock()

    def keep(
        self,
        query: int,
        products: np.ndarray,
        scale: np.ndarray,
        offset: np.ndarray,
        numbers: np.ndarray,
    ) -> None:
        """Look at products of the queries from ``query`` on, one a row, with rows of numbers."""
        from lplr.kernels.nearest import keep_least

        part = slice(query, query + len(products))
        products = np.ascontiguousarray(products)
        with self._lock:
            keep_least(products, scale, offset, numbers, self.values[part], self.indices[part])


@dataclass(frozen=True, eq=False)
class Index:
    """Rows r of a matrix, in blocks of coordinates c.

    Parameters
    ----------
    shape : (int, int)
    width : int
        How many coordinates there are.
    blocks : int
    numbers : callable
        ``numbers(b)`` are those of the rows of block b, ascending.
    read : callable
        ``read(b)`` gives their coordinates C, float64 (m, width).
    measure : callable
        ``measure(b, C)`` gives their squared norms, (m,), and the size of the block.
    project : callable
        Coordinates of queries, float64 (q, width), from float64 (q, d).
    mix : callable
        ``mix(b, P)`` turns products of projected queries with c, (q, m), into products with r.
    known : Known
    screen : callable, optional
        ``screen(p, sizes)`` gives products of a projected query with all rows, quickly, and a bound
        of their error in each block.
    """

    shape: tuple[int, int]
    width: int
    blocks: int
    numbers: Callable[[int], np.ndarray]
    read: Callable[[int], np.ndarray]
    measure: Callable[[int, np.ndarray], tuple[np.ndarray, float]]
    project: Callable[[np.ndarray], np.ndarray]
    mix: Callable[[int, np.ndarray], np.ndarray]
    known: Known
    screen: Screen | None = None

    @property
    def norms(self) -> np.ndarray:
        """Squared norms of rows, as far as they are known."""
        return self.known.norms

    def search(self, X: np.ndarray, k: int, weights: Weights) -> Nearest:
        """The k least of ``offset + scale * product`` for each query, with their row numbers.

        ``weights`` gives scale and offset from the squared norms of rows.
        """
        found = Nearest(len(X), k)
        self.add_to(found, X, weights, counter(len(X)))
        return found

    def add_to(
        self,
        found: Nearest,
        X: np.ndarray,
        weights: Weights,
        count: Callable[[float], None],
        first: int = 0,
    ) -> None:
        """Look for less in the rows of this index, which are those from ``first`` on of a matrix.

        What is counted adds up to the number of queries.
        """
        k = min(found.values.shape[1], self.shape[0])
        screened = len(X) <= _FEW and self.screen and not np.isnan(self.known.sizes).any()
        most = 1 if screened else max(_QUERIES, PANEL // self.width)
        for start in range(0, len(X), most):
            P = self.project(X[start : start + most].astype(np.float64, copy=False))
            blocks = self._promising(P[0], k, weights) if screened else range(self.blocks)
            self._search(P, list(blocks), weights, found, start, count, first)

    def _search(
        self,
        P: np.ndarray,
        blocks: list[int],
        weights: Weights,
        found: Nearest,
        query: int,
        count: Callable[[float], None],
        first: int,
    ) -> None:
        def search(i: int, _: int) -> None:
            C, numbers = self.read(blocks[i]), self.numbers(blocks[i])
            scale, offset = weights(self._norms(blocks[i], numbers, C))
            for start in range(0, len(P), _QUERIES):
                products = self.mix(blocks[i], P[start : start + _QUERIES] @ C.T)
                found.keep(query + start, products, scale, offset, numbers + first)
            count(len(P) / len(blocks))

        run_blocks(search, len(blocks), 1)

    def _norms(self, b: int, numbers: np.ndarray, C: np.ndarray) -> np.ndarray:
        """Squared norms of the rows of a block, which are computed once."""
        if np.isnan(self.known.sizes[b]):
            squares, size = self.measure(b, C)
            self.known.norms[numbers] = np.maximum(squares, 0.0)  # rounding may leave some below
            self.known.sizes[b] = size
        return self.known.norms[numbers]

    def _promising(self, p: np.ndarray, k: int, weights: Weights) -> np.ndarray:
        """The blocks that may hold one of the k least values."""
        assert self.screen is not None
        products, errors = self.screen(p, self.known.sizes)
        owner = np.empty(len(products), np.int64)
        for b in range(self.blocks):
            owner[self.numbers(b)] = b
        scale, offset = weights(self.known.norms)
        values, slack = offset + scale * products, np.abs(scale) * errors[owner]
        bound = np.partition(values + slack, k - 1)[k - 1]  # k values are at most this
        # Not "<= bound": if float32 overflowed, nothing is known.
        return np.unique(owner[~(values - slack > bound)])
