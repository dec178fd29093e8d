"""Rows in coordinates in which blocks of them are mixed, cut into tiles again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lplr.linalg.transforms import RandomizedTransform

__all__ = ["MixedRows", "mixed_range", "needed_rows"]


def needed_rows(V: RandomizedTransform, start: int, stop: int) -> tuple[int, int]:
    """The rows of A, from a first to one before the last, of which those of V A are made.

    >>> needed_rows(RandomizedTransform(100, seed=0, block=10), 35, 40)
    (30, 40)
    """
    first, last = V.block_of(np.array([start, stop - 1])).tolist()
    return V.inside(first).start, V.inside(last).stop


def mixed_range(
    V: RandomizedTransform | None, X: np.ndarray, first: int, start: int, stop: int
) -> np.ndarray:
    """The rows ``start`` to ``stop`` of V A, made of some of A, the first of which is given."""
    if V is None:
        return X[start - first : stop - first]
    b, last = V.block_of(np.array([start, stop - 1])).tolist()
    inside = [V.inside(i) for i in range(b, last + 1)]
    blocks = [
        V.apply_block(b + i, X[rows.start - first : rows.stop - first])
        for i, rows in enumerate(inside)
    ]
    return np.concatenate(blocks)[start - inside[0].start : stop - inside[0].start]


class MixedRows:
    """Takes rows in pieces of any size, mixes whole blocks, and passes tiles on.

    Parameters
    ----------
    V : RandomizedTransform or None
        Mixes blocks of neighbours; None mixes nothing.
    n : int
        Rows that will come.
    tile : int
        Rows of the tiles that go out; of the last one, what is left.
    take : callable
        ``take(start, Z)`` gets each tile, float32, with the number of its first row.
    """

    def __init__(
        self,
        V: RandomizedTransform | None,
        n: int,
        tile: int,
        take: Callable[[int, np.ndarray], None],
    ) -> None:
        self._V, self._n, self._tile, self._take = V, n, tile, take
        self._raw, self._mixed = _Queue(), _Queue()
        self._block = 0
        self._done = 0

    def add(self, X: np.ndarray) -> None:
        """The next rows, float32."""
        if self._V is None:
            self._mixed.put(X)
        else:
            self._raw.put(X)
            while self._block < self._V.blocks:
                inside = self._V.inside(self._block)
                size = inside.stop - inside.start
                if self._raw.rows < size:
                    break
                self._mixed.put(self._V.apply_block(self._block, self._raw.get(size)))
                self._block += 1
        while size := min(self._tile, self._n - self._done):
            if self._mixed.rows < size:
                break
            self._take(self._done, self._mixed.get(size))
            self._done += size


class _Queue:
    """Rows that are put in and got out in pieces of different sizes."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []
        self.rows = 0

    def put(self, X: np.ndarray) -> None:
        self._pieces.append(X)
        self.rows += len(X)

    def get(self, count: int) -> np.ndarray:
        """The first rows, which are there."""
        whole = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
        self._pieces = [whole[count:]] if len(whole) > count else []
        self.rows -= count
        return np.ascontiguousarray(whole[:count])
