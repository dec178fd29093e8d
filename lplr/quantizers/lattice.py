"""E8P: eight entries in sixteen bits, and its residual forms for three and four bits per entry."""

from __future__ import annotations

from functools import cache
from itertools import combinations, islice, permutations

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.block_codebook import BlockCodebook
from lplr.quantizers.packing import read_only

__all__ = ["E8P", "e8p_points", "root_points"]


# By bits per entry: the scale of the second stage, a multiple of 1/128, so that sums are exact; the
# best factor on N(0, 1), and the mean squared error there, both measured.
_CONSTANTS = {
    2: (1.0, 1 / 1.035, 0.09151),
    3: (63 / 128, 1 / 0.983, 0.02957),
    4: (33 / 128, 1 / 0.885, 0.00836),
}


class E8P(BlockCodebook):
    """The E8P lattice code of 2, 3 or 4 bits per entry: 16, 24 or 32 bits for eight entries.

    At two bits per entry, a point is ``s * a + t``, cut from the lattice E8 shifted by +-1/4: the
    absolute vector ``a`` is one of 256 vectors of half-integers, see `e8p_points`; the signs ``s``
    make the coordinate sum of ``s * a`` even; and ``t`` is 1/4 or -1/4 in every entry. A second
    stage codes the scaled residual, by a point of `root_points` at three bits and by a second E8P
    point at four bits; the first stage is in the low 16 bits of a code word::

        point = first + step * second,   second nearest to (x - first) / step

    The code is that of QuIP# (Tseng et al. 2024), written from its definition. Two choices differ
    from theirs: a rule picks the 29 absolute vectors of squared norm 12, and other points fill up
    the second stage of three bits. At two bits, `encode` finds the nearest point exactly. At three
    and four bits each stage is exact, but their sum is not always the nearest of all sums.
    """

    name = "e8p"
    group = 8
    entrywise = False
    dtype = np.dtype(np.uint32)

    def __init__(self, bits: int) -> None:
        if bits not in _CONSTANTS:
            raise InputError(f"bits: E8P codes 2, 3 or 4 bits per entry, not {bits!r}")
        step, self.gaussian_scale, self.gaussian_mse = _CONSTANTS[bits]
        self.bits, self.width = bits, 8 * bits
        self.step = np.float32(step)
        # Where the index of the second stage is in a code word: byte and shift.
        self._second = (1, 8) if bits == 3 else (2, 0)

    @property
    def points(self) -> np.ndarray:
        """Points of the first stage times 4, int8 of shape (65536, 8)."""
        return e8p_points()

    @property
    def tail(self) -> np.ndarray:
        """Points of the second stage times 4, int8 of shape (1 or 256 or 65536, 8)."""
        return {2: _zero_point, 3: root_points, 4: e8p_points}[self.bits]()

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Code words of shape (...) of float32 ``x`` of shape (..., 8), in code units."""
        x = np.ascontiguousarray(x, np.float32)
        codes = np.zeros(x.shape[:-1], self.dtype)
        row, one = x.reshape(1, -1), np.ones(1, np.float32)  # a panel of one row has no feedback
        self.panel(row, row, one[None], one, np.empty_like(row), codes.reshape(1, -1))
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Points, float32 of shape (..., 8), of code words of shape (...)."""
        from lplr.kernels.project_e8p import decode

        codes = np.ascontiguousarray(codes, self.dtype)
        out = np.empty((*codes.shape, 8), np.float32)
        # In little-endian words of four bytes, each stage is where it is in a packed word.
        packed = read_only(codes.reshape(-1).astype("<u4", copy=False).view(np.uint8))
        tables = self.step, self.points, self.tail
        decode(packed, 4, 0, *self._second, *tables, out.reshape(-1, 8))
        return out

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Points of some rows of a packed array of code words; see `Codebook.unpack`."""
        from lplr.kernels.project_e8p import decode, decode_columns

        n, d = rows.stop - rows.start, words[1]
        out = np.empty((8 * n, d) if axis == 0 else (n, 8 * d), np.float32)
        target = out if axis == 0 else out.reshape(-1, 8)
        kernel = decode_columns if axis == 0 else decode
        tables = self.step, self.points, self.tail
        kernel(read_only(packed), self.bits, rows.start * d, *self._second, *tables, target)
        return out

    def dot(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, x: np.ndarray
    ) -> np.ndarray:
        """Product of some rows of code words, whose entries lie down columns, with a vector (d,).

        The array of code words has shape ``words``, (m, d), and the float32 result has eight
        entries for each row. The product expands eight entries at a time, so it is faster than a
        dense one.
        """
        from lplr.kernels.project_e8p import multiply

        out = np.zeros((rows.stop - rows.start, 8), np.float32)
        for stage in self._stages():
            multiply(read_only(packed), self.bits, rows.start * words[1], *stage, x, out)
        return out.reshape(-1)

    def dot_many(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, X: np.ndarray
    ) -> np.ndarray:
        """As `dot`, transposed, of the columns of X: float32 of shape (c, 8 m).

        X is (d, c), C-contiguous, and c is a multiple of 8.
        """
        from lplr.kernels.project_e8p import multiply_many

        m = rows.stop - rows.start
        out = np.zeros((X.shape[1], -(-m // 4) * 32), np.float32)
        code = self.bits, rows.start * words[1], *self._second, self.step, self.points, self.tail
        multiply_many(read_only(packed), *code, m, read_only(X), out)
        return out[:, : 8 * m]

    def dot_transposed(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, y: np.ndarray
    ) -> np.ndarray:
        """Product (d,) of the transpose of some rows of code words with a vector; see `dot`."""
        from lplr.kernels.project_e8p import multiply_transposed

        out = np.zeros(words[1], np.float32)
        first, y = rows.start * words[1], y.reshape(-1, 8)
        for stage in self._stages():
            multiply_transposed(read_only(packed), self.bits, first, *stage, y, out)
        return out

    def _stages(self) -> list[tuple[int, int, np.float32, np.ndarray]]:
        """Byte and shift in a code word, factor and table of each stage."""
        quarter = np.float32(0.25)
        stages = [(0, 0, quarter, self.points)]
        if self.bits > 2:
            stages.append((*self._second, quarter * self.step, self.tail))
        return stages

    def panel(self, *arrays: np.ndarray) -> None:
        """Quantize a panel with feedback; see `lplr.kernels.lattice.feedback_panel`."""
        from lplr.kernels.lattice import feedback_panel

        target, base, coeff, scale, error, codes = arrays
        tables = self.step, _absolute_vectors()[1], self.points, self.tail
        feedback_panel(target, base, coeff, scale, *tables, error, codes)


@cache
def _absolute_vectors() -> tuple[np.ndarray, np.ndarray]:
    """The 256 absolute vectors, doubled, and the table that gives the index of each.

    The table is uint8 (1024,); the index is in entry ``family * 256 + mask``. The bits of the mask
    are the entries above 1/2. None of these is 5/2 in family 0, the first one is in family 1, the
    second in family 2.
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
    return vectors, read_only(index)


@cache
def e8p_points() -> np.ndarray:
    """The 65536 points of E8P times 4, int8, by code word; built on first use.

    All entries of an absolute vector are 1/2 but for a few. The vectors are, in this order: those
    with 0, 1, 2, 3 or 4 entries 3/2; those with one 5/2; those with one 5/2 and one 3/2 (these are
    the 227 of squared norm at most 10); and the first 29 with five entries 3/2, in the order of the
    positions of their three entries 1/2. The code word is ``(t < 0) << 15 | index << 7 | signs``;
    bit i of the signs is set where entry i < 7 of ``s * a`` is negative, and the sign of entry 7
    makes the coordinate sum even.
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
    return read_only(points.reshape(65536, 8))


@cache
def root_points() -> np.ndarray:
    """The 256 points of the second stage of three bits times 4, int8, by code word.

    They are zero; the 240 roots of E8, namely +-e_i +-e_j and the (+-1/2)^8 with an even number of
    minus signs; and the 15 vectors +-2 e_i other than -2 e_7.
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
    return read_only(points)


@cache
def _zero_point() -> np.ndarray:
    """The only point of a second stage that does not exist."""
    return read_only(np.zeros((1, 8), np.int8))
