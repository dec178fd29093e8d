"""Bit-packing: kernels against one-bit-at-a-time oracles, and the validated shell around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplr.exceptions import InputError
from lplr.kernels import bitpack
from lplr.quantizers.packing import WIDTHS, check_packed, pack, packed_nbytes, unpack

NARROW = range(1, 9)
LENGTHS = (0, 1, 7, 8, 9, 65)


def naive_pack(codes: np.ndarray, width: int) -> list[int]:
    """Bit i * width + b of the stream is bit b of code i."""
    out = [0] * ((len(codes) * width + 7) // 8)
    for i, code in enumerate(codes):
        for b in range(width):
            if int(code) >> b & 1:
                bit = i * width + b
                out[bit // 8] += 1 << bit % 8
    return out


def naive_unpack(packed: np.ndarray, width: int, start: int, count: int) -> list[int]:
    """Sum of the set bits of each code."""
    out = []
    for i in range(start, start + count):
        bits = range(i * width, (i + 1) * width)
        out.append(sum((int(packed[b // 8]) >> b % 8 & 1) << k for k, b in enumerate(bits)))
    return out


def _codes(width: int, n: int) -> np.ndarray:
    return np.random.default_rng(n * 64 + width).integers(0, 2**width, n)


@pytest.mark.parametrize("width", NARROW)
def test_pack_kernel_equals_python_equals_naive(width: int) -> None:
    for n in LENGTHS:
        codes = _codes(width, n).astype(np.uint8)
        expected = naive_pack(codes, width)
        for kernel in (bitpack.pack, bitpack.pack.py_func):
            out = np.full(len(expected), 255, np.uint8)  # whatever was there must be overwritten
            kernel(codes, width, out)
            assert out.tolist() == expected


@pytest.mark.parametrize("width", NARROW)
def test_unpack_kernels_equal_python_equal_naive_from_any_start(width: int) -> None:
    levels = np.random.default_rng(width).standard_normal(2**width).astype(np.float32)
    n = 41
    packed = np.array(naive_pack(_codes(width, n), width), np.uint8)
    packed.setflags(write=False)
    for start in (0, 1, 7, 8, 31, n):
        for count in {0, 1, 8, 9, 17, n - start} & set(range(n - start + 1)):
            expected = naive_unpack(packed, width, start, count)
            for kernel in (bitpack.unpack, bitpack.unpack.py_func):
                out = np.empty(count, np.uint8)
                kernel(packed, width, start, out)
                assert out.tolist() == expected
            for kernel in (bitpack.unpack_levels, bitpack.unpack_levels.py_func):
                values = np.empty(count, np.float32)
                kernel(packed, width, start, levels, values)
                np.testing.assert_array_equal(values, levels[expected])


def test_unpack_reads_nothing_outside_the_stream() -> None:
    """Bytes around a slice may hold anything: the codes of the slice do not change."""
    for width in NARROW:
        for n in LENGTHS:
            codes = _codes(width, n)
            stream = np.array(naive_pack(codes, width), np.uint8)
            around = np.full(stream.size + 32, 255, np.uint8)
            around[16 : 16 + stream.size] = stream
            out = np.empty(n, np.uint8)
            bitpack.unpack(around[16 : 16 + stream.size], width, 0, out)
            np.testing.assert_array_equal(out, codes)


@given(st.sampled_from(WIDTHS), st.data())
def test_round_trip_is_exact_and_padding_zero(width: int, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**width - 1), max_size=70))
    packed = pack(np.array(codes, np.uint32), width)
    assert packed.dtype == np.uint8
    assert packed.tolist() == naive_pack(codes, width)
    assert len(packed) == packed_nbytes(len(codes), width)
    back = unpack(packed, width, len(codes))
    assert back.dtype == {16: np.uint16, 24: np.uint32, 32: np.uint32}.get(width, np.uint8)
    assert back.tolist() == codes


@given(st.sampled_from(range(1, 8)), st.integers(1, 40), st.data())
def test_any_set_padding_bit_is_refused(width: int, count: int, data: st.DataObject) -> None:
    used = count * width % 8
    packed = pack(np.zeros(count, np.uint8), width)
    if used == 0:
        assert check_packed(packed, width, count) is packed
        return
    packed[-1] |= 1 << data.draw(st.integers(used, 7))
    with pytest.raises(InputError, match="after the last code"):
        unpack(packed, width, count)


@pytest.mark.parametrize("width", WIDTHS)
def test_any_integer_dtype_layout_and_shape(width: int) -> None:
    base = _codes(width, 30).reshape(5, 6)
    expected = naive_pack(base.ravel(), width)
    big = base.astype(">i8")
    for codes in (base, big, np.asfortranarray(base), base[::-1][::-1], base.tolist()):
        assert pack(codes, width).tolist() == expected
    strided = pack(base[::-1, ::2], width)
    assert strided.tolist() == naive_pack(base[::-1, ::2].ravel(), width)
    np.testing.assert_array_equal(big, base)  # the caller's array is as it was


@pytest.mark.parametrize("width", [0, 12, True, 2.5, "4"])
def test_width_that_is_not_offered(width: object) -> None:
    for call in (lambda: pack(np.zeros(1, int), width), lambda: packed_nbytes(1, width)):
        with pytest.raises(InputError, match="width"):
            call()


@pytest.mark.parametrize("width", [1, 8, 24])
def test_codes_outside_the_width(width: int) -> None:
    for codes in ([2**width], [-1], [0, 2**width - 1, 2**width]):
        with pytest.raises(InputError, match="codes"):
            pack(np.array(codes, np.int64), width)


def test_codes_that_are_not_integers() -> None:
    with pytest.raises(InputError, match="codes"):
        pack(np.zeros(2), 4)


@pytest.mark.parametrize(
    "packed", [np.zeros(3, np.uint8), np.zeros(2, np.int8), np.zeros((1, 2), np.uint8), b"\0\0"]
)
def test_stream_of_wrong_kind_or_size(packed: object) -> None:
    with pytest.raises(InputError, match="packed"):
        unpack(packed, 3, 5)


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_count_that_is_no_count(count: object) -> None:
    with pytest.raises(InputError, match="count"):
        unpack(np.zeros(1, np.uint8), 8, count)
