"""The codebook of one point: columns that are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.words import Words

__all__ = ["Zero"]


class Zero(Words):
    """Zero bits an entry: everything is coded as 0, and nothing is stored.

    Below one bit an entry, a backbone leaves out the columns whose errors the others can correct
    best; it is not offered to callers, who would get a matrix of zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.quantizers.zero import Zero
    >>> Zero().pack(np.zeros((3, 4), np.uint8), axis=0).size
    0
    """

    name = "zero"
    bits = 0
    group = 1
    width = 0
    entrywise = True
    dtype = np.dtype(np.uint8)
    gaussian_scale = 1.0
    gaussian_mse = 1.0

    def nbytes(self, length: int, count: int) -> int:
        """None; see `Codebook.nbytes`."""
        return 0

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """No bytes; see `Codebook.pack`."""
        return np.empty(0, np.uint8)

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse what is not an empty array of bytes; see `Codebook.check_packed`."""
        if not isinstance(packed, np.ndarray) or packed.dtype != np.uint8 or packed.size:
            raise InputError("codes: must be an empty array of uint8 for zero bits an entry")
        return packed.reshape(-1)

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

    def panel(
        self,
        target: np.ndarray,
        base: np.ndarray,
        coeff: np.ndarray,
        scale: np.ndarray,
        error: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        """Everything is its own error; see `Codebook.panel`."""
        error[:] = base
        codes[:] = 0
