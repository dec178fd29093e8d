"""The moments of rows that come in batches and are not kept."""

from __future__ import annotations

import numpy as np

from lplr.parallel import matmul
from lplr.streaming.moments import Extrema, Moments, sample_size
from lplr.validation.matrices import check_block, check_magnitude

__all__ = ["GrowingMoments"]

_TILE = 2048  # rows that are summed up together


class GrowingMoments:
    """Takes batches of any sizes and has the `Moments` of all their rows.

    Rows are summed up in tiles, and every 2^j-th row is in the sample, by their numbers in all of
    them: nothing depends on where a batch ends.

    Parameters
    ----------
    d : int
        Entries of a row.

    Attributes
    ----------
    rows : int
        How many there were.
    """

    def __init__(self, d: int) -> None:
        self.rows = 0
        self._gram, self._sums = np.zeros((d, d)), np.zeros(d)
        self._extrema = Extrema()
        self._sample, self._stride = np.empty((0, d), np.float32), 1
        self._rest = np.empty((0, d), np.float32)  # rows of the tile that is not full yet

    def add(self, X: np.ndarray, name: str, first_row: int = 0) -> None:
        """Take the rows X, float32 (m, d); InputError refuses all of them.

        ``name`` is what messages call the matrix in which ``first_row`` is the first of these.
        """
        check_magnitude(max(check_block(X, name, first_row), self._extrema.largest), name)
        self._extrema.include(float(X.min()), float(X.max()))
        first = -self.rows % self._stride  # of these rows, the first one of the sample
        self._sample = np.concatenate([self._sample, X[first :: self._stride]])
        while len(self._sample) > 2 * sample_size(X.shape[1]):
            self._sample, self._stride = self._sample[::2].copy(), 2 * self._stride
        self.rows += len(X)
        X = np.concatenate([self._rest, X])
        full = len(X) // _TILE * _TILE
        for start in range(0, full, _TILE):
            _sum_up(X[start : start + _TILE], self._gram, self._sums)
        self._rest = X[full:].copy()

    def moments(self, name: str) -> Moments:
        """Those of all rows so far; ``name`` is what messages call the matrix."""
        gram, sums, sample = self._gram.copy(), self._sums.copy(), self._sample.copy()
        _sum_up(self._rest, gram, sums)
        shape = self.rows, len(sums)
        return Moments.of(shape, gram, sums, sample, self._extrema, name)


def _sum_up(X: np.ndarray, gram: np.ndarray, sums: np.ndarray) -> None:
    x = X.astype(np.float64)
    gram += matmul(x.T, x)
    sums += x.sum(axis=0)
