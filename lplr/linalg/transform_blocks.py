"""Which entries of a vector the blocks of a transform mix, and which they make.

With a block size b and ``c = max(1, n // b)`` blocks, block i makes the entries i b to i b + b of
V x, the last block all m from there on. It takes the same entries of x. Interleaved, the last
block takes the entries ``j n // m`` for j from 0 to m - 1, and the others are dealt to the other
blocks in turn.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

__all__ = ["TransformBlocks"]


class TransformBlocks:
    """The blocks of a transform that has a size, a block size, and is interleaved or not."""

    n: int
    block: int | None
    interleaved: bool

    @property
    def _size(self) -> int:
        """Of all blocks but the last, which may be larger."""
        return min(self.n, self.block or self.n)

    @property
    def blocks(self) -> int:
        """How many blocks V has."""
        return self.n // self._size

    def inside(self, b: int) -> slice:
        """The entries of V x that block b makes.

        Parameters
        ----------
        b : int
            From 0 to ``blocks - 1``.

        Returns
        -------
        slice
        """
        stop = (b + 1) * self._size if b + 1 < self.blocks else self.n
        return slice(b * self._size, stop)

    def outside(self, b: int) -> slice | np.ndarray:
        """The entries of x that block b mixes, ascending, in the order of its columns.

        Parameters
        ----------
        b : int

        Returns
        -------
        slice or ndarray of int
        """
        return self._dealt[self.inside(b)] if self.interleaved else self.inside(b)

    def block_of(self, i: np.ndarray) -> np.ndarray:
        """The blocks that mix some entries of x.

        Parameters
        ----------
        i : ndarray of int
            Their numbers.

        Returns
        -------
        ndarray of int of the same shape

        Examples
        --------
        >>> from lplr.linalg.transforms import RandomizedTransform
        >>> RandomizedTransform(9, seed=0, block=4).block_of(np.array([0, 3, 4, 8]))
        array([0, 0, 1, 1])
        """
        last = self.blocks - 1
        if last == 0 or not self.interleaved:
            return np.minimum(i // self._size, last)
        m = self.n - last * self._size
        before = -(-i * m // self.n)  # entries of the last block below i: those j n // m below
        return np.where(before * self.n // m == i, last, (i - before) % last)

    @cached_property
    def _dealt(self) -> np.ndarray:
        """The entries of x, those of each block together."""
        return np.argsort(self.block_of(np.arange(self.n)), kind="stable")
