"""What the baselines store: packed results whose size counts all that their decoder reads.

Numbers that are not codes (codebooks, means, rotations) are float16 with one power of two as their
scale, half of what the libraries themselves would write: the comparison favours them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lplr.matrices.base import Artefact
from lplr.matrices.errors import ReadRows as Rows
from lplr.matrices.quantized import Quantized

__all__ = [
    "Baseline",
    "Projected",
    "Rotated",
    "Selected",
    "Shifted",
    "VectorQuantized",
    "half",
    "pack_words",
    "word_width",
]


def half(X: np.ndarray) -> Quantized:
    """A matrix as float16, with a power of two as its scale.

    Parameters
    ----------
    X : ndarray of shape (n, d)

    Returns
    -------
    Quantized

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.baselines.stored import half
    >>> half(np.ones((3, 4))).nbytes
    28
    """
    from lplr.coding.rounding import round_matrix
    from lplr.quantizers import get_codebook

    return round_matrix(np.ascontiguousarray(X, np.float32), get_codebook("uniform", 16))


def pack_words(words: np.ndarray, width: int) -> np.ndarray:
    """Integers of any width as one stream of bits, as `lplr.quantizers.packing` packs them.

    Parameters
    ----------
    words : ndarray of any shape, integers in [0, 2**width)
    width : int

    Returns
    -------
    ndarray of shape (ceil(words.size * width / 8),), uint8

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.baselines.stored import pack_words
    >>> pack_words(np.array([1, 2, 3]), 12).size
    5
    """
    from lplr.quantizers.packing import WIDTHS, pack

    if width in WIDTHS:
        return pack(words, width)
    bits = (words.reshape(-1, 1) >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little")


def word_width(count: int) -> int:
    """Bits of an index into ``count`` things, ``ceil(log2 count)`` and at least 1.

    Parameters
    ----------
    count : int
    """
    return max(1, (count - 1).bit_length())


def unpack_words(packed: np.ndarray, width: int, count: int) -> np.ndarray:
    """The inverse of `pack_words`, flat."""
    from lplr.quantizers.packing import WIDTHS, unpack

    if width in WIDTHS:
        return unpack(packed, width, count)
    bits = np.unpackbits(packed, bitorder="little", count=count * width).reshape(count, width)
    return bits @ (1 << np.arange(width))


class Baseline(Artefact):
    """A result without a file format; its parts are what a decoder needs."""

    def _nbytes(self, *parts: Artefact | np.ndarray) -> int:
        return sum(int(part.nbytes) for part in parts)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of the dense matrix, float32.

        Parameters
        ----------
        start, stop : int
        """
        self._check_rows(start, stop)
        return self._row_reader()(start, stop)

    def _multiply(self, rows: Rows, X: np.ndarray) -> np.ndarray:
        return super()._multiply(self._row_reader(), X)

    def _multiply_transposed(self, rows: Rows, Y: np.ndarray) -> np.ndarray:
        return super()._multiply_transposed(self._row_reader(), Y)


def _set_shape(obj: Baseline, n: int, d: int) -> None:
    object.__setattr__(obj, "shape", (n, d))  # the dataclass is frozen


@dataclass(frozen=True, eq=False, repr=False)
class VectorQuantized(Baseline):
    """Rows cut into sub-vectors, each of which is the index of a word of a codebook.

    Parameters
    ----------
    shape : (int, int)
    words : int
        Sub-vectors a row; the last one is padded with zeros.
    width : int
        Bits an index.
    codes : ndarray, uint8
        The packed indices, row by row.
    codebook : Quantized of shape (books * size, length)
        One book for all sub-vectors, or one for each.
    meta : mapping
    """

    shape: tuple[int, int]
    words: int
    width: int
    codes: np.ndarray
    codebook: Quantized
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of indices and codebooks."""
        return self._nbytes(self.codes, self.codebook)

    def _row_reader(self) -> Rows:
        n, d = self.shape
        codes = unpack_words(self.codes, self.width, n * self.words).reshape(n, self.words)
        book = self.codebook.to_dense()
        shared = len(book) <= 2**self.width
        first = 0 if shared else np.arange(self.words) * (len(book) // self.words)

        def rows(start: int, stop: int) -> np.ndarray:
            vectors = book[codes[start:stop].astype(np.intp) + first]
            return np.ascontiguousarray(vectors.reshape(stop - start, -1)[:, :d])

        return rows


@dataclass(frozen=True, eq=False, repr=False)
class Shifted(Baseline):
    """A packed matrix plus one row, the mean, added to each of its rows.

    Parameters
    ----------
    base : Artefact of shape (n, d)
    mean : Quantized of shape (1, d)
    meta : mapping
    """

    base: Artefact
    mean: Quantized
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _set_shape(self, *self.base.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of both parts."""
        return self._nbytes(self.base, self.mean)

    def _row_reader(self) -> Rows:
        base, mean = self.base._row_reader(), self.mean.to_dense()
        return lambda start, stop: base(start, stop) + mean


@dataclass(frozen=True, eq=False, repr=False)
class Rotated(Baseline):
    """A packed matrix times a rotation from the right.

    Parameters
    ----------
    base : Artefact of shape (n, d)
    rotation : Quantized of shape (d, d)
    meta : mapping
    """

    base: Artefact
    rotation: Quantized
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _set_shape(self, self.base.shape[0], self.rotation.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of both parts."""
        return self._nbytes(self.base, self.rotation)

    def _row_reader(self) -> Rows:
        base, rotation = self.base._row_reader(), self.rotation.to_dense()
        return lambda start, stop: base(start, stop) @ rotation


@dataclass(frozen=True, eq=False, repr=False)
class Projected(Baseline):
    """Coordinates under a random projection of which only the seed is stored.

    Parameters
    ----------
    coordinates : Quantized of shape (n, k)
    columns : int
        d.
    seed : int
        Of the projection, 8 bytes.
    back : callable
        ``back(k, d, seed)`` is the matrix of shape (k, d) that leads back.
    meta : mapping
    """

    seed_nbytes: ClassVar[int] = 8

    coordinates: Artefact
    columns: int
    seed: int
    back: Callable[[int, int, int], np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _set_shape(self, self.coordinates.shape[0], self.columns)

    @property
    def nbytes(self) -> int:
        """Bytes of the coordinates and of the seed."""
        return self._nbytes(self.coordinates) + self.seed_nbytes

    @cached_property
    def _matrix(self) -> np.ndarray:
        return self.back(self.coordinates.shape[1], self.columns, self.seed)

    def _row_reader(self) -> Rows:
        rows, matrix = self.coordinates._row_reader(), self._matrix
        return lambda start, stop: rows(start, stop) @ matrix


@dataclass(frozen=True, eq=False, repr=False)
class Selected(Baseline):
    """Some columns of a matrix, and the coefficients that make the others of them.

    Parameters
    ----------
    columns : Quantized of shape (n, k)
        The chosen ones.
    coefficients : Quantized of shape (k, d - k), optional
        None where all columns are chosen.
    chosen : ndarray, uint8
        Packed indices of the chosen columns, ceil(log2 d) bits each; the coefficients are those
        of the others in ascending order.
    meta : mapping
    """

    columns: Quantized
    coefficients: Quantized | None
    chosen: np.ndarray
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        k = self.columns.shape[1]
        rest = self.coefficients.shape[1] if self.coefficients is not None else 0
        _set_shape(self, self.columns.shape[0], k + rest)

    @property
    def nbytes(self) -> int:
        """Bytes of columns, coefficients and indices."""
        rest = () if self.coefficients is None else (self.coefficients,)
        return self._nbytes(self.columns, *rest, self.chosen)

    def _row_reader(self) -> Rows:
        k, d = self.columns.shape[1], self.shape[1]
        chosen = unpack_words(self.chosen, word_width(d), k)
        matrix = np.zeros((k, d), np.float32)
        matrix[:, chosen] = np.eye(k, dtype=np.float32)
        if self.coefficients is not None:
            matrix[:, np.setdiff1d(np.arange(d), chosen)] = self.coefficients.to_dense()
        columns = self.columns._row_reader()
        return lambda start, stop: columns(start, stop) @ matrix
