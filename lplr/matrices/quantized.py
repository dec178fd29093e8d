"""A packed matrix: the codes of a codebook, its scales, and products that decode by blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Self, cast

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.parallel import reproducible, run_blocks
from lplr.quantizers.base import Codebook, get_codebook
from lplr.quantizers.lattice import E8P
from lplr.quantizers.trellis_codebook import TrellisCodebook

__all__ = ["Quantized", "part"]


@dataclass(frozen=True, eq=False, repr=False)
class Quantized(PackedMatrix):
    """A matrix as packed codes: entry = scale * level + offset.

    Parameters
    ----------
    shape : (int, int)
    quantizer : str
    bits : int or float
        Bits per entry; with the quantizer, the key of the codebook.
    codes : ndarray, uint8
        Code words in C order, packed as `lplr.quantizers.packing.pack` says; those of a lattice
        form an array of shape (ceil(n / 8), d) for axis 0 and (n, ceil(d / 8)) for axis 1. Those
        of a trellis are sequences along ``axis``, see `TrellisCodebook`.
    scale : ndarray of shape (1, 1), (n, 1) or (1, d), float32
    offset : ndarray of shape (1, 1), (n, 1) or (1, d), float32, optional
    axis : {0, 1}
        Along which the entries of one code word lie: down a column or along a row.
    meta : mapping
        JSON-able record of how the object was made.

    Raises
    ------
    InputError
        If the parts do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> q = lplr.quantize(np.arange(64.0).reshape(8, 8), bits=4)
    >>> q
    <Quantized: 8 x 8; 40 bytes, 5 bits per entry; uniform 4 bits>
    >>> (q @ np.ones(8)).shape
    (8,)
    """

    shape: tuple[int, int]
    quantizer: str
    bits: float
    codes: np.ndarray
    scale: np.ndarray
    offset: np.ndarray | None = None
    axis: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("quantized", 1)

    def __post_init__(self) -> None:
        n, d = (int(x) for x in self.shape)
        if n < 1 or d < 1:
            raise InputError(f"shape: must be positive, found {self.shape}")
        if self.axis not in (0, 1):
            raise InputError(f"axis: must be 0 or 1, found {self.axis!r}")
        self._set(shape=(n, d), axis=int(self.axis))
        book = self.codebook
        length, count = (n, d) if self.axis == 0 else (d, n)
        self._set(bits=book.bits, codes=_frozen(book.check_packed(self.codes, length, count)))
        for name in ("scale", "offset"):
            array = getattr(self, name)
            if array is None:
                continue
            if (
                not isinstance(array, np.ndarray)
                or array.dtype != np.float32
                or array.shape not in ((1, 1), (n, 1), (1, d))
                or not np.isfinite(array).all()
            ):
                raise InputError(
                    f"{name}: must be finite float32 of shape (1, 1), ({n}, 1) or (1, {d})"
                )
            self._set(**{name: _frozen(array)})
        self._set(meta=self.meta)

    @cached_property
    def codebook(self) -> Codebook:
        """The codebook that the codes index."""
        return get_codebook(self.quantizer, self.bits)

    @property
    def _words(self) -> tuple[int, int]:
        """Shape of the array of code words."""
        n, d = self.shape
        group = self.codebook.group
        return (-(-n // group), d) if self.axis == 0 else (n, -(-d // group))

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and offsets."""
        offset = 0 if self.offset is None else self.offset.nbytes
        return self.codes.nbytes + self.scale.nbytes + offset

    def parts(self) -> dict[str, PackedMatrix]:
        """The matrix itself, by the name ``matrix``."""
        return {"matrix": self}

    @property
    def code(self) -> str:
        """The quantizer and its bits, in words."""
        return f"{self.quantizer} {self.bits} bits"

    def scaled(self, factor: float) -> Quantized:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float
        """
        unit = np.float32(factor)
        offset = None if self.offset is None else self.offset * unit
        return replace(self, scale=self.scale * unit, offset=offset)

    def _row_reader(self) -> ReadRows:
        def rows(start: int, stop: int) -> np.ndarray:
            out = self._points(start, stop)
            out *= part(self.scale, start, stop)
            if self.offset is not None:
                out += part(self.offset, start, stop)
            return out

        return rows

    def _points(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` in code units, float32, contiguous."""
        book = self.codebook
        group = book.group if self.axis == 0 else 1
        word_rows = slice(start // group, -(-stop // group))
        out = book.unpack(self.codes, self._words, word_rows, self.axis)
        out = out[start % group : start % group + stop - start, : self.shape[1]]
        return np.ascontiguousarray(out)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        packed = X.shape[1] == 1 and X.dtype == np.float32 and self._has_packed_products
        points = self._dot if packed else partial(self._multiply, self._points)
        return self._affine(points, X, _sides)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        packed = Y.shape[1] == 1 and Y.dtype == np.float32 and self._has_packed_products
        points = (
            self._dot_transposed if packed else partial(self._multiply_transposed, self._points)
        )
        return self._affine(points, Y, lambda scale: _sides(scale)[::-1])

    def _affine(
        self,
        points: Callable[[np.ndarray], np.ndarray],
        X: np.ndarray,
        sides: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    ) -> np.ndarray:
        """A product with the points; its scales act on what goes in and out, not on the matrix."""
        with reproducible():
            before, after = sides(self.scale)
            out = after * points(before * X)
            if self.offset is not None:
                before, after = sides(self.offset)
                out = out + after * (before * X).sum(axis=0, keepdims=True)
        return out

    @property
    def _has_packed_products(self) -> bool:
        """Whether a vector is multiplied by the packed codes, which has to lie down columns."""
        return isinstance(self.codebook, (E8P, TrellisCodebook)) and self.axis == 0

    def _dot(self, X: np.ndarray) -> np.ndarray:
        book, (words, _) = cast("E8P | TrellisCodebook", self.codebook), self._words
        x = np.ascontiguousarray(X[:, 0])
        g = book.group
        out = np.empty(g * words, np.float32)

        def block(start: int, stop: int) -> None:
            out[g * start : g * stop] = book.dot(self.codes, self._words, slice(start, stop), x)

        run_blocks(block, words, book.segment_length(self.shape[0]) // g)
        return out[: self.shape[0], None]

    def _dot_transposed(self, Y: np.ndarray) -> np.ndarray:
        book, (words, d) = cast("E8P | TrellisCodebook", self.codebook), self._words
        g, span = book.group, book.segment_length(self.shape[0]) // book.group
        y = np.zeros(g * words, np.float32)
        y[: self.shape[0]] = Y[:, 0]
        parts = np.empty((-(-words // span), d), np.float32)

        def block(start: int, stop: int) -> None:
            rows, part_of_y = slice(start, stop), y[g * start : g * stop]
            parts[start // span] = book.dot_transposed(self.codes, self._words, rows, part_of_y)

        run_blocks(block, words, span)
        return parts.sum(axis=0)[:, None]

    def _state(self) -> dict[str, Any]:
        state = {
            "rows": self.shape[0],
            "columns": self.shape[1],
            "quantizer": self.quantizer,
            "bits": self.bits,
            "axis": self.axis,
            "codes": self.codes,
            "scale": self.scale,
        }
        return state if self.offset is None else {**state, "offset": self.offset}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        state = dict(state)
        shape = (state.pop("rows", 0), state.pop("columns", 0))
        return super()._from_state({**state, "shape": shape})


def _frozen(array: np.ndarray) -> np.ndarray:
    """A contiguous array that nobody can write to: itself if it is one, else a copy."""
    if array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy()
        array.setflags(write=False)
    return array


def part(scale: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Rows ``start`` to ``stop`` of an array; its only row where one stands for all."""
    return scale[start:stop] if scale.shape[0] > 1 else scale


def _sides(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors of the columns and of the rows whose outer product a scale stands for."""
    one = np.ones((1, 1), np.float32)
    return (one, scale) if scale.shape[0] > 1 else (scale.T, one)
