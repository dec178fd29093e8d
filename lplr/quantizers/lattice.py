"""E8P: eight entries in sixteen bits, and the residual forms for three and four bits an entry."""

from __future__ import annotations

from functools import cache
from itertools import combinations, islice, permutations
from typing import NamedTuple

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.words import Words

__all__ = ["E8P", "e8p_points", "root_points"]


class _Form(NamedTuple):
    """Constants of one width; the last three are measured, see `E8P`."""

    tail: str  # codebook of the second stage
    step: float  # scale of the second stage; a multiple of 1/128, so that sums are exact
    gaussian_scale: float
    gaussian_mse: float


_FORMS = {
    2: _Form("none", 1.0, 1 / 1.035, 0.09151),
    3: _Form("roots", 63 / 128, 1 / 0.983, 0.02957),
    4: _Form("e8p", 33 / 128, 1 / 0.885, 0.00836),
}


class E8P(Words):
    """The E8P lattice code and its residual forms.

    At two bits an entry, a point is ``s * a + t``, cut from the lattice E8 shifted by +-1/4: the
    absolute vector ``a`` is one of 256 of half-integers, see `e8p_points`, the signs ``s`` make
    the coordinate sum of ``s * a`` even, and ``t`` is 1/4 or -1/4 in every entry. Three bits
    add a point of `root_points`, four bits a second E8P point, on the scaled residual::

        point = first + step * second,   second nearest to (x - first) / step

    Parameters
    ----------
    bits : {2, 3, 4}

    Attributes
    ----------
    name, bits, group : "e8p", bits an entry, 8 entries a code word
    width : int, bits of a code word: 16, 24 or 32
    dtype : numpy dtype of code words, uint32; the first stage in the low 16 bits
    gaussian_scale, gaussian_mse : float
        The factor on the points that is best on N(0, 1), and the mean squared error there.

    Raises
    ------
    InputError
        If `bits` is not 2, 3 or 4.

    Notes
    -----
    The code is that of QuIP# (Tseng et al. 2024), written from its definition; the choice of the
    29 absolute vectors of squared norm 12 is a rule here, and the second stage of three bits has
    fillers of its own. At two bits the nearest point is exact. At three and four bits each
    stage is exact, their sum is not always the nearest of all sums.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.quantizers.lattice import E8P
    >>> book = E8P(2)
    >>> codes = book.encode(np.array([[0.3, -0.2, 1.4, 0.1, -0.9, 0.0, 2.0, -0.5]], np.float32))
    >>> book.decode(codes)
    array([[ 0.25, -0.75,  1.25,  0.25, -0.75,  0.25,  2.25, -0.75]],
          dtype=float32)
    """

    name = "e8p"
    group = 8
    entrywise = False

    def __init__(self, bits: int) -> None:
        if bits not in _FORMS:
            raise InputError(f"bits: E8P codes 2, 3 or 4 bits an entry, not {bits!r}")
        form = _FORMS[bits]
        self.bits = bits
        self.width = 8 * bits
        self.dtype = np.dtype(np.uint32)
        self.gaussian_scale = form.gaussian_scale
        self.gaussian_mse = form.gaussian_mse
        self.step = np.float32(form.step)
        self._tail = form.tail

    @property
    def points(self) -> np.ndarray:
        """Points of the first stage times 4, int8 of shape (65536, 8)."""
        return e8p_points()

    @property
    def tail(self) -> np.ndarray:
        """Points of the second stage times 4, int8 of shape (1 or 256 or 65536, 8)."""
        if self._tail == "none":
            return _frozen(np.zeros((1, 8), np.int8))
        return root_points() if self._tail == "roots" else e8p_points()

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Code words of shape (...) of float32 ``x`` of shape (..., 8), in code units."""
        x = np.ascontiguousarray(x, np.float32)
        codes = np.zeros(x.shape[:-1], self.dtype)
        row = x.reshape(1, -1)
        # A panel of one row and scale 1 has no feedback.
        one = np.ones(1, np.float32)
        self.panel(row, row, one[None], one, np.empty_like(row), codes.reshape(1, -1))
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Points, float32 of shape (..., 8), of code words of shape (...)."""
        from lplr.kernels.project_e8p import decode

        codes = np.ascontiguousarray(codes, self.dtype)
        out = np.empty((*codes.shape, 8), np.float32)
        # Little-endian words of four bytes, whatever the width: the stages are where they are.
        packed = _frozen(codes.reshape(-1).astype("<u4", copy=False).view(np.uint8))
        decode(packed, 4, 0, *self._second, self.points, self.tail, out.reshape(-1, 8))
        return out

    @property
    def _second(self) -> tuple[int, int, np.float32]:
        """Where the index of the second stage is in a word (byte, shift), and its scale."""
        return (*((1, 8) if self._tail == "roots" else (2, 0)), self.step)

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Points of some rows of a packed array of code words; see `Codebook.unpack`."""
        from lplr.kernels.project_e8p import decode, decode_columns

        n, d = rows.stop - rows.start, words[1]
        out = np.empty((8 * n, d) if axis == 0 else (n, 8 * d), np.float32)
        target = out if axis == 0 else out.reshape(-1, 8)
        kernel = decode_columns if axis == 0 else decode
        packed, first = _frozen(packed.view()), rows.start * d
        kernel(packed, self.bits, first, *self._second, self.points, self.tail, target)
        return out

    def dot(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, x: np.ndarray
    ) -> np.ndarray:
        """Product of some rows of code words, entries down columns, with a vector.

        Never expands more than eight entries; faster than a dense product.

        Parameters
        ----------
        packed : ndarray, uint8
        words : (int, int)
            Shape (m, d) of the array of code words.
        rows : slice
            Of code words.
        x : ndarray of shape (d,), float32

        Returns
        -------
        ndarray of shape (8 * rows,), float32, in code units
        """
        from lplr.kernels.project_e8p import multiply

        out = np.zeros((rows.stop - rows.start, 8), np.float32)
        for where, factor, table in self._stages():
            packed, first = _frozen(packed.view()), rows.start * words[1]
            multiply(packed, self.bits, first, *where, factor, table, x, out)
        return out.reshape(-1)

    def dot_transposed(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, y: np.ndarray
    ) -> np.ndarray:
        """Product of the transpose of some rows of code words with a vector; see `dot`.

        Parameters
        ----------
        packed, words, rows : as in `dot`
        y : ndarray of shape (8 * rows,), float32

        Returns
        -------
        ndarray of shape (d,), float32, in code units
        """
        from lplr.kernels.project_e8p import multiply_transposed

        out = np.zeros(words[1], np.float32)
        for where, factor, table in self._stages():
            packed, first = _frozen(packed.view()), rows.start * words[1]
            args = (packed, self.bits, first, *where, factor, table, y.reshape(-1, 8), out)
            multiply_transposed(*args)
        return out

    def _stages(self) -> list[tuple[tuple[int, int], np.float32, np.ndarray]]:
        """Place in a word, factor and table of each stage."""
        quarter = np.float32(0.25)
        first = ((0, 0), quarter, self.points)
        if self._tail == "none":
            return [first]
        return [first, (self._second[:2], quarter * self.step, self.tail)]

    def panel(
        self,
        target: np.ndarray,
        base: np.ndarray,
        coeff: np.ndarray,
        scale: np.ndarray,
        error: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        """Feedback-quantize a panel; see `lplr.kernels.lattice.feedback_panel`."""
        from lplr.kernels.lattice import feedback_panel

        feedback_panel(
            target, base, coeff, scale, self.step, _index(), self.points, self.tail, error, codes
        )


@cache
def _absolute_vectors() -> tuple[np.ndarray, np.ndarray]:
    """The 256 absolute vectors, doubled, and the table from positions to their index.

    Returns
    -------
    vectors : ndarray of shape (256, 8), int64
    index : ndarray of shape (1024,), uint8
        Entry ``family * 256 + mask``, the bits of the mask being the entries above 1/2: family 0
        has no 5/2, in family 1 the first of them is 5/2, in family 2 the second.
    """
    vectors = np.ones((256, 8), np.int64)
    index = np.zeros(1024, np.uint8)
    row = 0
    for count in range(5):
        for large in combinations(range(8), count):
            vectors[row, list(large)] = 3
            index[sum(1 << i for i in large)] = row
            row += 1
    for i in range(8):
        vectors[row, i] = 5
        index[256 + (1 << i)] = row
        row += 1
    for i, j in permutations(range(8), 2):
        vectors[row, i], vectors[row, j] = 5, 3
        index[(256 if i < j else 512) + (1 << i) + (1 << j)] = row
        row += 1
    for small in islice(combinations(range(8), 3), 29):
        vectors[row] = 3
        vectors[row, list(small)] = 1
        row += 1
    return vectors, _frozen(index)


def _index() -> np.ndarray:
    return _absolute_vectors()[1]


@cache
def e8p_points() -> np.ndarray:
    """The 65536 points of E8P times 4, by code word; built on first use.

    The absolute vectors are, in this order: those with 0, 1, 2, 3 or 4 entries 3/2 among 1/2;
    one entry 5/2; one 5/2 and one 3/2 (the 227 of squared norm at most 10); and, of those with
    five entries 3/2, the first 29 in the order of the positions of their three entries 1/2.
    Code word: ``(t < 0) << 15 | index << 7 | signs``, with bit i of the signs set where entry
    i < 7 of ``s * a`` is negative; the sign of entry 7 makes its coordinate sum even.

    Returns
    -------
    ndarray of shape (65536, 8), int8, read-only

    Examples
    --------
    >>> from lplr.quantizers.lattice import e8p_points
    >>> e8p_points()[0] / 4
    array([0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75])
    """
    vectors, _ = _absolute_vectors()
    signs = 1 - 2 * (np.arange(128)[:, None] >> np.arange(7) & 1)
    points = np.empty((2, 256, 128, 8), np.int8)
    signed = points[0]
    signed[..., :7] = 2 * vectors[:, None, :7] * signs
    # Here `signed` is 4 s a, so that the coordinate sum of s a is even where that is 0 mod 8.
    wrong = (signed[..., :7].sum(-1, dtype=np.int16) + 2 * vectors[:, None, 7]) // 4 % 2
    signed[..., 7] = 2 * vectors[:, None, 7] * (1 - 2 * wrong)
    points[1] = signed - 1
    points[0] += 1
    return _frozen(points.reshape(65536, 8))


@cache
def root_points() -> np.ndarray:
    """The 256 points of the three-bit second stage times 4, by code word.

    Zero; the 240 roots of E8, namely +-e_i +-e_j and the (+-1/2)^8 with an even number of minus
    signs; and the 15 vectors +-2 e_i other than -2 e_7.

    Returns
    -------
    ndarray of shape (256, 8), int8, read-only
    """
    points = np.zeros((256, 8), np.int8)
    row = 1
    for i, j in combinations(range(8), 2):
        for signs in range(4):
            points[row, i] = -4 if signs & 1 else 4
            points[row, j] = -4 if signs & 2 else 4
            row += 1
    halves = 1 - 2 * (np.arange(128)[:, None] >> np.arange(7) & 1)
    points[row : row + 128, :7] = 2 * halves
    points[row : row + 128, 7] = 2 * halves.prod(1)
    row += 128
    for i in range(15):
        points[row + i, i // 2] = -8 if i % 2 else 8
    return _frozen(points)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
