"""Expansion of, and products with, packed E8P code words against the points themselves."""

import numpy as np
import pytest

from lplr.kernels import project_e8p
from lplr.quantizers.lattice import E8P, e8p_points, root_points
from lplr.quantizers.packing import pack


def naive_points(codes, bits):
    """Points of code words, from the tables and the definition of a word; float64."""
    first = e8p_points()[codes & 0xFFFF] / 4
    tail = {2: np.zeros((1, 8)), 3: root_points() / 4, 4: e8p_points() / 4}[bits]
    return first + float(E8P(bits).step) * tail[codes >> 16]


def random_codes(bits, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2 ** (8 * bits), shape).astype(np.uint32)


def dense(codes, bits):
    """The matrix whose words lie down columns."""
    m, d = codes.shape
    return naive_points(codes, bits).transpose(0, 2, 1).reshape(8 * m, d)


BITS = pytest.mark.parametrize("bits", [2, 3, 4])
# Around the unrolling of four groups, the tile of 64 words and the strip of 512 columns.
SHAPES = pytest.mark.parametrize("shape", [(1, 1), (3, 63), (4, 64), (9, 515)])


@BITS
@SHAPES
def test_unpack(bits, shape):
    codes = random_codes(bits, shape)
    book = E8P(bits)
    packed = pack(codes, book.width)
    before = packed.copy()
    for rows in (slice(0, shape[0]), slice(shape[0] // 2, shape[0])):
        down = book.unpack(packed, shape, rows, 0)
        assert down.dtype == np.float32
        np.testing.assert_array_equal(down, dense(codes[rows], bits))
        along = book.unpack(packed, shape, rows, 1)
        np.testing.assert_array_equal(
            along, naive_points(codes[rows], bits).reshape(len(codes[rows]), -1)
        )
    np.testing.assert_array_equal(packed, before)
    assert packed.flags.writeable
    np.testing.assert_array_equal(book.decode(codes), naive_points(codes, bits))


@BITS
@SHAPES
def test_products(bits, shape):
    # Small integers make every product and sum exact in float32, in any order.
    rng = np.random.default_rng(shape)
    codes = random_codes(bits, shape)
    book = E8P(bits)
    packed = pack(codes, book.width)
    x = rng.integers(-3, 4, shape[1]).astype(np.float32)
    for rows in (slice(0, shape[0]), slice(shape[0] // 2, shape[0])):
        A = dense(codes[rows], bits)
        y = rng.integers(-3, 4, len(A)).astype(np.float32)
        np.testing.assert_array_equal(book.dot(packed, shape, rows, x), A @ x)
        np.testing.assert_array_equal(book.dot_transposed(packed, shape, rows, y), y @ A)
        X = rng.integers(-3, 4, (shape[1], 16)).astype(np.float32)
        np.testing.assert_array_equal(book.dot_many(packed, shape, rows, X), (A @ X).T)


@BITS
def test_products_on_real_numbers(bits):
    rng = np.random.default_rng(bits)
    shape = (40, 300)
    codes = random_codes(bits, shape)
    book = E8P(bits)
    packed = pack(codes, book.width)
    packed.setflags(write=False)
    A = dense(codes, bits)
    x, y = rng.standard_normal(300).astype("f4"), rng.standard_normal(320).astype("f4")
    # The worst case of a sum of n rounded products in float32 is n eps |A| |x| / 2.
    eps = np.finfo(np.float32).eps
    everything = slice(0, 40)
    error = np.abs(book.dot(packed, shape, everything, x) - A @ x)
    assert (error <= 310 * eps * (np.abs(A) @ np.abs(x))).all()
    error = np.abs(book.dot_transposed(packed, shape, everything, y) - y @ A)
    assert (error <= 330 * eps * (np.abs(y) @ np.abs(A))).all()


def test_products_accumulate():
    codes = random_codes(2, (5, 9))
    packed = pack(codes, 16)
    packed.setflags(write=False)
    x, y = np.ones(9, np.float32), np.ones((5, 8), np.float32)
    out, table = np.full((5, 8), 10, np.float32), e8p_points()
    project_e8p.multiply(packed, 2, 0, 0, 0, np.float32(0.25), table, x, out)
    np.testing.assert_array_equal(out.reshape(-1), 10 + dense(codes, 2) @ x)
    out = np.full(9, 10, np.float32)
    project_e8p.multiply_transposed(packed, 2, 0, 0, 0, np.float32(0.25), table, y, out)
    np.testing.assert_array_equal(out, 10 + y.reshape(-1) @ dense(codes, 2))
