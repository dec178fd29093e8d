"""The codes of a tall matrix, packed tile by tile."""

from __future__ import annotations

import numpy as np

from lplr.matrices.quantized import Quantized
from lplr.quantizers.base import Codebook
from lplr.quantizers.trellis_codebook import TrellisCodebook

__all__ = ["PackedColumns"]


class PackedColumns:
    """The codes of a matrix (n, m) with one codebook, which are filled in tile by tile.

    Code words lie down the columns. Tiles begin where words and segments do, and on a byte.

    Attributes
    ----------
    piece : Codebook
        The codebook for the columns of a tile.
    packed : ndarray, uint8
        What is filled in.
    """

    def __init__(
        self,
        n: int,
        m: int,
        book: Codebook,
        *,
        scale: np.ndarray,
        offset: np.ndarray | None = None,
    ) -> None:
        self._shape, self._book, self._scale, self._offset = (n, m), book, scale, offset
        self.piece = book.for_pieces(n) if isinstance(book, TrellisCodebook) else book
        self.packed = np.empty(book.nbytes(n, m), np.uint8)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """The bytes of the code words of a tile, (m, words)."""
        return self.piece.pack(np.ascontiguousarray(codes.T), axis=0)

    def fill(self, start: int, packed: np.ndarray) -> None:
        """Put the bytes of the tile whose first row is ``start`` in their place."""
        at = self.piece.nbytes(start, self._shape[1]) if start else 0
        self.packed[at : at + len(packed)] = packed

    def matrix(self) -> Quantized:
        """The packed matrix; nothing can be filled in after this."""
        self.packed.flags.writeable = False
        return Quantized(
            shape=self._shape,
            quantizer=self._book.name,
            bits=self._book.bits,
            codes=self.packed,
            scale=self._scale,
            offset=self._offset,
            axis=0,
        )
