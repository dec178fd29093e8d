"""Codebooks whose code words can be read one by one, and how those words are packed."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.quantizers.packing import check_packed, pack, packed_nbytes

__all__ = ["BlockCodebook"]

_SEGMENT = 512  # a multiple of every group; enough work for a thread


class BlockCodebook:
    """What scalar and lattice codebooks share: each block of entries has a code word of its own.

    A subclass sets ``group``, the entries per code word, and ``width``, the bits per code word.
    Code words are packed in C order of the array that they form, see `lplr.quantizers.packing`.
    """

    group: int
    width: int

    def segment_length(self, n: int) -> int:
        """Entries that one thread codes at a time; see `Codebook.segment_length`."""
        return _SEGMENT

    def nbytes(self, length: int, count: int) -> int:
        """Bytes of ``count`` vectors of ``length`` entries; see `Codebook.nbytes`."""
        return packed_nbytes(self._code_words(length, count), self.width)

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """The packed array of code words; see `Codebook.pack`."""
        return pack(codes, self.width)

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse what is not a packed array; see `Codebook.check_packed`."""
        return check_packed(packed, self.width, self._code_words(length, count))

    def _code_words(self, length: int, count: int) -> int:
        return -(-length // self.group) * count
