"""The codes of a tall matrix, packed tile by tile: vectors down its columns, or along its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.matrices.quantized import Quantized
from lplr.quantizers.base import Codebook
from lplr.quantizers.trellis_codebook import TrellisCodebook

__all__ = ["PackedColumns", "PackedRows"]


class _Packed:
    """What both have in common. Tiles begin where code words and segments do, and on a byte.

    Attributes
    ----------
    piece : Codebook
        The codebook for a tile.
    """

    axis: int

    def __init__(self, n: int, m: int, book: Codebook, nbytes: int) -> None:
        self.shape, self._book, self.piece = (n, m), book, book
        self._packed = np.empty(nbytes, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        """For a process that packs and fills nothing in: without the bytes of all rows."""
        return vars(self) | {"_packed": np.empty(0, np.uint8)}

    def matrix(self, scale: np.ndarray, offset: np.ndarray | None = None) -> Quantized:
        """The packed matrix; nothing can be filled in after this."""
        for array in (self._packed, scale, offset):
            if array is not None:
                array.flags.writeable = False  # else each would be copied
        return Quantized(
            shape=self.shape,
            quantizer=self._book.name,
            bits=self._book.bits,
            codes=self._packed,
            scale=scale,
            offset=offset,
            axis=self.axis,
        )


class PackedColumns(_Packed):
    """Codes of a matrix (n, m) whose code words lie down the columns."""

    axis = 0

    def __init__(self, n: int, m: int, book: Codebook) -> None:
        super().__init__(n, m, book, book.nbytes(n, m))
        self.piece = book.for_pieces(n) if isinstance(book, TrellisCodebook) else book

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """The bytes of the code words of a tile, (m, words)."""
        return self.piece.pack(np.ascontiguousarray(codes.T), axis=0)

    def fill(self, start: int, packed: np.ndarray) -> None:
        """Put the bytes of the tile whose first row is ``start`` in their place."""
        at = self.piece.nbytes(start, self.shape[1]) if start else 0
        self._packed[at : at + len(packed)] = packed


class PackedRows(_Packed):
    """Codes of a matrix (n, m) whose code words lie along the rows.

    Those of a trellis are stored segment by segment, each for all rows.
    """

    axis = 1

    def __init__(self, n: int, m: int, book: Codebook) -> None:
        super().__init__(n, m, book, book.nbytes(m, n))
        long = isinstance(book, TrellisCodebook)
        self._segments = book.segments(m) if long else [slice(0, m)]  # type: ignore[attr-defined]

    def _nbytes(self, segment: slice, rows: int) -> int:
        return self._book.nbytes(segment.stop - segment.start, rows) if rows else 0

    def pack(self, codes: np.ndarray) -> list[np.ndarray]:
        """The bytes of the code words of a tile, (rows, words), of each segment."""
        if len(self._segments) == 1:
            return [self._book.pack(codes, axis=1)]
        return [self._book.pack(codes[:, s], axis=1) for s in self._segments]

    def fill(self, start: int, packed: list[np.ndarray]) -> None:
        """Put the bytes of the tile whose first row is ``start`` in their place."""
        before = 0
        for segment, part in zip(self._segments, packed, strict=True):
            at = before + self._nbytes(segment, start)
            self._packed[at : at + len(part)] = part
            before += self._nbytes(segment, self.shape[0])
