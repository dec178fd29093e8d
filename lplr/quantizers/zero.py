"""The codebook whose only point is zero, for columns that are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.quantizers.block_codebook import BlockCodebook
from lplr.quantizers.packing import check_bytes

__all__ = ["Zero"]


class Zero(BlockCodebook):
    """Zero bits per entry: every entry is coded as 0, and nothing is stored.

    Below one bit per entry, compression leaves out the columns whose errors the other columns can
    correct best. Users cannot choose this codebook: they would get a matrix of zeros.
    """

    name = "zero"
    bits = width = 0
    group = 1
    entrywise = True
    dtype = np.dtype(np.uint8)
    gaussian_scale = gaussian_mse = 1.0

    def nbytes(self, length: int, count: int) -> int:
        """No bytes; see `Codebook.nbytes`."""
        return 0

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """No bytes; see `Codebook.pack`."""
        return np.empty(0, np.uint8)

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse what is not an empty array of bytes; see `Codebook.check_packed`."""
        return check_bytes(packed, 0, "columns that are left out")

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Zeros, uint8 of shape (...), for ``x`` of shape (..., 1)."""
        return np.zeros(x.shape[:-1], np.uint8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Zeros, float32 of shape (..., 1)."""
        return np.zeros((*codes.shape, 1), np.float32)

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Rows of zeros; see `Codebook.unpack`."""
        return np.zeros((rows.stop - rows.start, words[1]), np.float32)

    def panel(self, *arrays: np.ndarray) -> None:
        """The error of an entry is the entry itself; see `Codebook.panel`."""
        _, base, _, _, error, codes = arrays
        error[:] = base
        codes[:] = 0
