"""Trellis codes of vectors of any length, which are cut into segments."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from lplr.parallel import run_blocks
from lplr.quantizers.packing import check_bytes, check_padding
from lplr.quantizers.trellis import Trellis
from lplr.quantizers.trellis_parts import Parts

__all__ = ["TrellisCodebook", "segment_length", "trellis_codebook"]

_SEGMENT = 512  # entries, about: longer segments gain nothing, and threads share the segments
_WHOLE_BYTES = 32  # this many entries fill whole bytes at every rate


def segment_length(n: int) -> int:
    """Entries per segment of a vector of n entries; the last segment may be shorter."""
    count = max(1, round(n / _SEGMENT))
    return -(-n // (count * _WHOLE_BYTES)) * _WHOLE_BYTES


class TrellisCodebook:
    """A trellis code as a codebook: vectors are cut into segments of about 512 entries.

    Each segment is a sequence of its own, coded by one thread. The packed stream of a matrix holds
    the first segment of all vectors, then the second one of all vectors, and so on; each of these
    parts starts on a byte.
    """

    group = 1
    entrywise = False

    def __init__(self, trellis: Trellis, whole: int | None = None) -> None:
        self.trellis, self._whole = trellis, whole
        self._known: dict[int, tuple[int, int, int]] = {}
        self.name, self.bits, self.dtype = trellis.name, trellis.bits, trellis.dtype
        self.gaussian_scale, self.gaussian_mse = trellis.gaussian_scale, trellis.gaussian_mse
        self.panel = trellis.panel  # whose rows are segments

    def segment_length(self, n: int) -> int:
        """As `segment_length`; for pieces of longer vectors, that of these."""
        return segment_length(n if self._whole is None else self._whole)

    def for_pieces(self, n: int) -> TrellisCodebook:
        """The same code for pieces of vectors of n entries, cut where segments end."""
        return TrellisCodebook(self.trellis, n)

    def segments(self, n: int) -> list[slice]:
        """The segments of a vector of n entries."""
        length = self.segment_length(n)
        return [slice(i, min(i + length, n)) for i in range(0, n, length)]

    def _streams(
        self, packed: np.ndarray, length: int, count: int, start: int, stop: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The segments that hold the entries ``start`` to ``stop``, each with its stream."""
        size = self.segment_length(length)
        nbytes = self.trellis.nbytes((count, size))  # of all segments but the last
        for number in range(start // size, -(-stop // size)):
            segment = slice(number * size, min(number * size + size, length))
            at = number * nbytes
            used = self.trellis.nbytes((count, segment.stop - segment.start))
            yield segment, packed[at : at + used]

    def nbytes(self, length: int, count: int) -> int:
        """Bytes of ``count`` vectors of ``length`` entries; see `Codebook.nbytes`."""
        whole, size, rest = self._bits(length)
        return whole * -(-count * size // 8) - (-count * rest // 8)

    def _bits(self, length: int) -> tuple[int, int, int]:
        """The whole segments of a vector, and the bits of one and of the rest; often asked for."""
        if length not in self._known:
            size, bits = self.segment_length(length), self.trellis.sequence_bits
            self._known[length] = length // size, bits(size), bits(length % size)
        return self._known[length]

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """The stream of a matrix of symbols, its vectors along ``axis``; see `Codebook.pack`."""
        codes = codes if axis == 1 else codes.T
        segments = self.segments(codes.shape[1])
        parts: list[np.ndarray] = [np.empty(0)] * len(segments)

        def pack(i: int, _: int) -> None:
            parts[i] = self.trellis.pack(codes[:, segments[i]])

        run_blocks(pack, len(segments), 1)
        return np.concatenate(parts)

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse what is not the stream of ``count`` vectors; see `Codebook.check_packed`."""
        content = f"{count} vectors of {length} entries of {self.bits} bits"
        packed = check_bytes(packed, self.nbytes(length, count), content)
        for s, stream in self._streams(packed, length, count, 0, length):
            check_padding(stream, count * self.trellis.sequence_bits(s.stop - s.start))
        return packed

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Symbols, uint8 of shape (..., n), of vectors ``x`` of shape (..., n, 1)."""
        parts = [self.trellis.encode(x[..., s, :]) for s in self.segments(x.shape[-2])]
        return np.concatenate(parts, axis=-1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values, float32 of shape (..., n, 1), of symbols of shape (..., n)."""
        parts = [self.trellis.decode(codes[..., s]) for s in self.segments(codes.shape[-1])]
        return np.concatenate(parts, axis=-2)

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Values of some rows of a packed matrix; see `Codebook.unpack`."""
        length, count = words if axis == 0 else words[::-1]
        first, last = (rows.start, rows.stop) if axis == 0 else (0, length)
        vectors = slice(0, count) if axis == 0 else rows
        out = np.empty((vectors.stop - vectors.start, last - first), np.float32)
        for s, stream in self._streams(packed, length, count, first, last):
            start, stop = max(s.start, first), min(s.stop, last)
            place = s.stop - s.start, vectors.start, start - s.start
            self.trellis.unpack_into(stream, *place, out, start - first, stop - first)
        return out.T if axis == 0 else out

    def parts(
        self,
        packed: np.ndarray,
        words: tuple[int, int],
        columns: bool,
        entries: slice | None = None,
        source: int = 0,
        target: int = 0,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        """Packed vectors as parts of a product, see `Parts`: one for each segment of all of them.

        ``words`` is the number of entries of each vector and that of vectors; ``entries`` are those
        of each that count, whole segments, by default all. With ``columns`` the vectors are
        columns of what multiplies, else they are its rows. The options are other fields of a part.
        """
        entries = entries or slice(0, words[0])
        for s, stream in self._streams(packed, *words, entries.start, entries.stop):
            along = s.start - entries.start
            where = {"source": source + (not columns) * along, "target": target + columns * along}
            place = {"columns": columns, **where, **options}
            yield self.trellis.part(stream, s.stop - s.start, words[1], **place)

    def dot(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, x: np.ndarray
    ) -> np.ndarray:
        """Product of some segments of all columns with a vector; see `E8P.dot`."""
        parts = list(self.parts(packed, words, True, rows, target=len(x)))
        return Parts(parts).product(x, rows.stop - rows.start)

    def dot_many(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, X: np.ndarray
    ) -> np.ndarray:
        """Products of some segments of all columns with vectors; see `E8P.dot_many`."""
        n = rows.stop - rows.start
        out = np.zeros((X.shape[1], -(-n // _WHOLE_BYTES) * _WHOLE_BYTES), np.float32)
        Parts(list(self.parts(packed, words, True, rows))).add_many(X, out)
        return out[:, :n]

    def dot_transposed(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, y: np.ndarray
    ) -> np.ndarray:
        """Product of the transpose of some segments with a vector; see `E8P.dot_transposed`."""
        parts = list(self.parts(packed, words, False, rows, target=len(y)))
        return Parts(parts).product(y, words[1])


@cache
def trellis_codebook(state_bits: int, bits: float) -> TrellisCodebook:
    """The trellis codebook of 2**state_bits states, with the table that comes with the package."""
    return TrellisCodebook(Trellis.stored(state_bits, bits))
