"""Code words that stand for themselves: how those of scalar and lattice codebooks are packed."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Words"]

_SPAN = 512  # neighbours in a vector that one thread codes; a multiple of every group


class Words:
    """What codebooks share whose code words do not depend on each other.

    Subclasses have ``group``, the entries of a word, and ``width``, its bits. Words are packed in
    C order of the array that they form, see `lplr.quantizers.packing`.
    """

    group: int
    width: int

    def span(self, n: int) -> int:
        """Entries of a vector of n that are coded together; see `Codebook.span`."""
        return _SPAN

    def nbytes(self, length: int, count: int) -> int:
        """Bytes of ``count`` vectors of ``length`` entries; see `Codebook.nbytes`."""
        from lplr.quantizers.packing import packed_nbytes

        return packed_nbytes(-(-length // self.group) * count, self.width)

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """The packed array of code words; see `Codebook.pack`."""
        from lplr.quantizers.packing import pack

        return pack(codes, self.width)

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse what is not a packed array; see `Codebook.check_packed`."""
        from lplr.quantizers.packing import check_packed

        return check_packed(packed, self.width, -(-length // self.group) * count)
