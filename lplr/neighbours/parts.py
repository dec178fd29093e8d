"""Search among rows in parts, which are opened when it is their turn."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.row_parts import RowParts
from lplr.neighbours.coordinates import index_of
from lplr.neighbours.index import Known, Nearest, Weights
from lplr.parallel import n_threads, run_blocks
from lplr.progress import counter
from lplr.streaming.limits import in_words

__all__ = ["PartsIndex"]

_MANY = 4  # parts for each thread, from which on threads share them
_OF_PART = 3  # bytes for each that an open part stores: its file, and what is decoded of it
_OF_THREAD = 1 << 25  # bytes of blocks, and of products with queries

# What is known of the parts, which are opened anew for each search, of a matrix that lives.
_known: WeakKeyDictionary[RowParts, list[Known | None]] = WeakKeyDictionary()


class PartsIndex:
    """The rows of a matrix in parts, like an `Index`, searched within ``limit`` bytes.

    Few parts are searched in turn, each by all threads. Of many, each thread opens and searches one
    at a time, the long ones first. The result is the same: a part is cut into blocks by its shape
    alone, and it does not matter which of them comes first.
    """

    def __init__(self, f: RowParts, limit: int) -> None:
        self.shape, self._f, self._limit = f.shape, f, limit
        self._of_parts = _known.setdefault(f, [None] * len(f.blocks))

    def search(self, X: np.ndarray, k: int, weights: Weights) -> Nearest:
        """As `Index.search`; InputError names the least limit that will do."""
        parts = sorted(range(len(self._f.blocks)), key=lambda i: -self._f.blocks[i].shape[0])
        at_once = self._at_once(len(X) * k)
        shared = len(parts) >= _MANY * n_threads() and at_once >= n_threads()
        kept = len(parts) <= min(at_once, 2)
        found, count = Nearest(len(X), k), counter(len(X))

        def search(i: int, _: int) -> None:
            i = parts[i]
            part = self._f.part(i) if kept else self._opened(i)
            index = index_of(part, self._of_parts[i])
            share = part.shape[0] / self.shape[0]
            first = self._f.edges[i]
            index.add_to(found, X, weights, lambda done: count(share * done), first)
            self._of_parts[i] = index.known

        if shared:
            run_blocks(search, len(parts), 1)
        else:
            for i in range(len(parts)):
                search(i, i)
        return found

    def _at_once(self, results: int) -> int:
        """How many parts may be open, with a thread for each."""
        fixed = 8 * self.shape[0] + 16 * results
        part = _OF_PART * max(block.nbytes for block in self._f.blocks) + _OF_THREAD
        if self._limit < fixed + part:
            raise InputError(
                f"memory_limit: {self._limit:,} bytes are too few for a search among "
                f"{self.shape[0]:,} rows in such parts; use at least {in_words(fixed + part)}"
            )
        return (self._limit - fixed) // part

    def _opened(self, i: int) -> PackedMatrix:
        """A part that is let go when it is searched."""
        block = self._f.blocks[i]
        return block if isinstance(block, PackedMatrix) else block.open()

    @property
    def norms(self) -> np.ndarray:
        """Squared norms of all rows, once they were searched."""
        return np.concatenate([known.norms for known in self._of_parts if known is not None])
