"""A packed matrix: the codes of a codebook, its scales, and products that decode by blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from numbers import Real
from typing import Any, ClassVar, Self, cast

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.matrices.vector_product import VectorProduct
from lplr.parallel import reproducible, run_blocks
from lplr.quantizers.base import Codebook, get_codebook
from lplr.quantizers.lattice import E8P
from lplr.quantizers.trellis_codebook import TrellisCodebook
from lplr.quantizers.zero import Zero
from lplr.validation.arguments import check_factor, check_integer

__all__ = ["Quantized", "part"]

# A step of a matrix in range is at most twice its largest magnitude, 1e30, and the values of no
# codebook are beyond 65504: below this, entries and products of factors stay far from infinity.
_LARGEST_SCALE = 1e33
# Kernels multiply up to so many vectors, a multiple of a few; for more, blocks of rows are decoded.
_VECTORS, _FEW = 64, 8
_SHARE = 1 << 20  # entries of a product with a vector that are worth a thread: 0.2 ms


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
    _written: ClassVar[tuple[str, ...]] = ("axis",)

    def __post_init__(self) -> None:
        if not isinstance(self.shape, (tuple, list)) or len(self.shape) != 2:
            raise InputError(f"shape: must be two sizes, found {self.shape!r}")
        n, d = (check_integer(x, "shape", 1) for x in self.shape)
        if not (isinstance(self.quantizer, str) and isinstance(self.bits, Real)):
            raise InputError(
                "quantizer, bits: must be a name and a number, found "
                f"{self.quantizer!r} and {self.bits!r}"
            )
        self._set(shape=(n, d), axis=check_integer(self.axis, "axis", 0, 1))
        book = self.codebook
        length, count = (n, d) if self.axis == 0 else (d, n)
        self._set(bits=book.bits, codes=_frozen(book.check_packed(self.codes, length, count)))
        for name in ("scale", "offset"):
            array = getattr(self, name)
            if array is None and name == "offset":
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

    @cached_property
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

        Raises
        ------
        InputError
            If float32 does not hold what they would stand for.
        """
        factor = check_factor(factor)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            unit = np.float32(factor)
            scale = self.scale * unit
            offset = None if self.offset is None else self.offset * unit
            largest = max(np.abs(x).max() for x in (scale, offset) if x is not None)
        if not largest < _LARGEST_SCALE or (unit == 0) != (factor == 0):
            raise InputError(
                f"factor: {factor!r} takes the matrix out of range; use one nearer to 1"
            )
        return replace(self, scale=scale, offset=offset)

    def _row_reader(self) -> ReadRows:
        def rows(start: int, stop: int) -> np.ndarray:
            out = np.ascontiguousarray(self._points(start, stop))
            out *= part(self.scale, start, stop)
            if self.offset is not None:
                out += part(self.offset, start, stop)
            return out

        return rows

    def _points(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` in code units, float32, new, in any order in memory."""
        book = self.codebook
        group = book.group if self.axis == 0 else 1
        word_rows = slice(start // group, -(-stop // group))
        out = book.unpack(self.codes, self._words, word_rows, self.axis)
        return out[start % group : start % group + stop - start, : self.shape[1]]

    def _lay_out(self, product: VectorProduct, source: int, target: int) -> bool:
        book, scales = self.codebook, self.scale.size
        if isinstance(book, Zero):
            return True
        if not isinstance(book, TrellisCodebook) or self.offset is not None:
            return False
        if scales not in (1, self.scale.shape[1 - self.axis]):
            return False
        words = self.shape[self.axis], self.shape[1 - self.axis]
        options: Any = {"scale": self.scale.reshape(-1), "scale_step": int(scales > 1)}
        options |= {"source": source, "target": target}
        for found in book.parts(self.codes, words, self.axis == 0, **options):
            product.add(found)
        return True

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        if X.ndim == 2 and X.shape[1] == 1:
            return self._matmat(X[:, 0])[:, None]
        if self._multiplies_packed(X):
            return self._affine(self._dot, X)
        with reproducible():
            return self._affine(partial(self._multiply, self._points), X)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        if Y.ndim == 2 and Y.shape[1] == 1:
            return self._rmatmat(Y[:, 0])[:, None]
        if Y.ndim == 1 and self._multiplies_packed(Y):
            return self._affine(self._dot_transposed, Y, transposed=True)
        with reproducible():
            points = partial(self._multiply_transposed, self._points)
            return self._affine(points, Y, transposed=True)

    def _affine(
        self,
        points: Callable[[np.ndarray], np.ndarray],
        X: np.ndarray,
        transposed: bool = False,
    ) -> np.ndarray:
        """A product with the points; its scales act on what goes in and out, not on the matrix."""
        out = _scaled(self.scale, points, X, transposed)
        if self.offset is not None:
            out = out + _scaled(self.offset, lambda X: X.sum(axis=0, keepdims=True), X, transposed)
        return out

    @cached_property
    def _lies_down(self) -> bool:
        """Whether packed codes can multiply a vector, for which they have to lie down columns."""
        return isinstance(self.codebook, (E8P, TrellisCodebook)) and self.axis == 0

    def _multiplies_packed(self, X: np.ndarray) -> bool:
        few = X.ndim == 1 or 0 < X.shape[1] <= _VECTORS
        return self._lies_down and X.dtype == np.float32 and few

    @cached_property
    def _span(self) -> int:
        """Code words down a column that one thread multiplies; only then are they worth one."""
        book = cast("E8P | TrellisCodebook", self.codebook)
        segment = book.segment_length(self.shape[0])
        return segment // book.group * max(1, _SHARE // (segment * self.shape[1]))

    def _dot(self, X: np.ndarray) -> np.ndarray:
        """The product of the points with a vector, or with the columns of X."""
        book, (words, _) = cast("E8P | TrellisCodebook", self.codebook), self._words
        columns = X.shape[1:]
        dot = book.dot_many if columns else book.dot
        if columns and columns[0] % _FEW:
            X = np.pad(X, ((0, 0), (0, -columns[0] % _FEW)))
        X = np.ascontiguousarray(X)
        out = np.empty((*X.shape[1:], book.group * words), np.float32)

        def block(start: int, stop: int) -> None:
            entries = slice(book.group * start, book.group * stop)
            out[..., entries] = dot(self.codes, self._words, slice(start, stop), X)

        if words <= self._span:
            block(0, words)
        else:
            run_blocks(block, words, self._span)
        out = out[..., : self.shape[0]]
        return np.ascontiguousarray(out[: columns[0]].T) if columns else out

    def _dot_transposed(self, y: np.ndarray) -> np.ndarray:
        book, (words, d) = cast("E8P | TrellisCodebook", self.codebook), self._words
        g, span = book.group, self._span
        padded = np.zeros(g * words, np.float32)
        padded[: self.shape[0]] = y
        parts = np.empty((-(-words // span), d), np.float32)

        def block(start: int, stop: int) -> None:
            rows, part_of_y = slice(start, stop), padded[g * start : g * stop]
            parts[start // span] = book.dot_transposed(self.codes, self._words, rows, part_of_y)

        run_blocks(block, words, span)
        return parts.sum(axis=0)

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


def _scaled(
    scale: np.ndarray,
    product: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray,
    transposed: bool,
) -> np.ndarray:
    """A product with X in which a scale acts on what goes in, or on what comes out."""
    factors = scale.reshape(-1, *[1] * (X.ndim - 1))
    of_rows = scale.shape[0] > 1
    if of_rows == transposed:  # the rows of the matrix, or of its transpose, are those of X
        return product(factors * X)
    return factors * product(X)
