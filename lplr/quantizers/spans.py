"""Trellis codes of vectors of any length: cut into spans, each a sequence of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.trellis import Trellis

__all__ = ["Spans", "spans"]

_LENGTH = 512  # entries of a span, about: longer ones gain nothing, and threads share the spans
_WHOLE = 32  # entries that are whole bytes at every rate


class Spans:
    """A trellis code as a codebook: vectors are cut into sequences of about 512 entries.

    The stream of a matrix holds, for one span after the other, the sequences of all vectors; each
    span starts on a byte. A span is what one thread codes.

    Parameters
    ----------
    trellis : Trellis

    Attributes
    ----------
    name, bits, group, dtype, gaussian_scale, gaussian_mse
        Those of the trellis.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.quantizers import get_codebook
    >>> book = get_codebook("trellis-8", 2)
    >>> book.span(1500), book.nbytes(length=1500, count=3)
    (512, 1125)
    >>> x = np.random.default_rng(0).standard_normal((3, 1500, 1)).astype(np.float32)
    >>> bool(np.mean((book.decode(book.encode(x)) - x) ** 2) < 0.08)
    True
    """

    group = 1
    entrywise = False

    def __init__(self, trellis: Trellis) -> None:
        self.trellis = trellis
        self.name, self.bits, self.dtype = trellis.name, trellis.bits, trellis.dtype
        self.gaussian_scale, self.gaussian_mse = trellis.gaussian_scale, trellis.gaussian_mse
        self.panel = trellis.panel  # of rows that are spans

    def span(self, n: int) -> int:
        """Entries of a span of a vector of n; the last one may be shorter."""
        count = max(1, round(n / _LENGTH))
        return -(-n // (count * _WHOLE)) * _WHOLE

    def _cut(self, n: int) -> list[slice]:
        length = self.span(n)
        return [slice(i, min(i + length, n)) for i in range(0, n, length)]

    def _streams(self, packed: np.ndarray, length: int, count: int) -> list[np.ndarray]:
        """The parts of a stream that hold each span."""
        cuts = [self.trellis.nbytes((count, s.stop - s.start)) for s in self._cut(length)]
        return np.split(packed, np.cumsum(cuts)[:-1])

    def nbytes(self, length: int, count: int) -> int:
        """Bytes of ``count`` vectors of ``length`` entries; see `Codebook.nbytes`."""
        whole, rest = divmod(length, self.span(length))
        size = whole * self.trellis.nbytes((count, self.span(length)))
        return size + self.trellis.nbytes((count, rest))

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """The stream of a matrix of symbols, its vectors along ``axis``; see `Codebook.pack`."""
        codes = codes if axis == 1 else codes.T
        return np.concatenate([self.trellis.pack(codes[:, s]) for s in self._cut(codes.shape[1])])

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse what is not the stream of ``count`` vectors; see `Codebook.check_packed`."""
        size = self.nbytes(length, count)
        if (
            not isinstance(packed, np.ndarray)
            or packed.dtype != np.uint8
            or packed.shape != (size,)
        ):
            raise InputError(
                f"codes: must be uint8 of shape ({size},) for {count} vectors of {length} entries "
                f"of {self.bits} bits"
            )
        streams = self._streams(packed, length, count)
        for part, stream in zip(self._cut(length), streams, strict=True):
            used = count * self.trellis.sequence_bits(part.stop - part.start) % 8
            if used and stream[-1] >> used:
                raise InputError("codes: non-zero bits after the last code of a span; damaged")
        return np.ascontiguousarray(packed)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Symbols, uint8 of shape (..., n), of vectors ``x`` of shape (..., n, 1)."""
        parts = [self.trellis.encode(x[..., s, :]) for s in self._cut(x.shape[-2])]
        return np.concatenate(parts, axis=-1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values, float32 of shape (..., n, 1), of symbols of shape (..., n)."""
        parts = [self.trellis.decode(codes[..., s]) for s in self._cut(codes.shape[-1])]
        return np.concatenate(parts, axis=-2)

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Values of some rows of a packed matrix; see `Codebook.unpack`."""
        out = np.empty((rows.stop - rows.start, words[1]), np.float32)
        length, count = words if axis == 0 else words[::-1]
        streams = self._streams(packed, length, count)
        for part, stream in zip(self._cut(length), streams, strict=True):
            shape = count, part.stop - part.start
            if axis == 1:
                out[:, part] = self.trellis.unpack(stream, shape, rows, slice(0, shape[1]))
                continue
            inside = _overlap(part, rows)
            if inside is not None:
                entries = slice(inside.start - part.start, inside.stop - part.start)
                values = self.trellis.unpack(stream, shape, slice(0, count), entries)
                out[inside.start - rows.start : inside.stop - rows.start] = values.T
        return out

    def dot(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, x: np.ndarray
    ) -> np.ndarray:
        """Product of some rows of a matrix, vectors down its columns, with a vector.

        Parameters
        ----------
        packed : ndarray, uint8
        words : (n, d)
        rows : slice
            One span.
        x : ndarray of shape (d,), float32

        Returns
        -------
        ndarray of shape (rows,), float32, in code units
        """
        n = rows.stop - rows.start
        return self.trellis.dot(self._at(packed, words, rows), (words[1], n), slice(0, n), x)

    def dot_transposed(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, y: np.ndarray
    ) -> np.ndarray:
        """Product of the transpose of some rows with a vector; see `dot`.

        Parameters
        ----------
        packed, words, rows : as in `dot`
        y : ndarray of shape (rows,), float32

        Returns
        -------
        ndarray of shape (d,), float32, in code units
        """
        shape = words[1], rows.stop - rows.start
        stream = self._at(packed, words, rows)
        return self.trellis.dot_transposed(stream, shape, slice(0, words[1]), y)

    def _at(self, packed: np.ndarray, words: tuple[int, int], rows: slice) -> np.ndarray:
        """The stream of a span of the columns of a matrix."""
        return self._streams(packed, *words)[rows.start // self.span(words[0])]


def _overlap(a: slice, b: slice) -> slice | None:
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start, stop) if start < stop else None


@cache
def spans(state_bits: int, bits: float) -> Spans:
    """The trellis codebook of 2**state_bits states.

    Parameters
    ----------
    state_bits : int, 6 to 14
    bits : int or float, 1 to 6 in steps of 1/4

    Returns
    -------
    Spans
    """
    return Spans(Trellis(state_bits, bits))
