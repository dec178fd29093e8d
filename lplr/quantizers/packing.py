"""Bit-packing of code words of any width, without a lost bit.

Layout: one little-endian bit stream. At width w, code i occupies bits [i w, (i + 1) w), least
significant bit first, and bit b of the stream is bit b % 8 of byte b // 8. The stream has
ceil(count w / 8) bytes, and the bits after the last code are zero. At widths 16, 24 and 32 the
stream is the same as little-endian integers of 2, 3 and 4 bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.parallel import run_blocks

__all__ = ["WIDTHS", "check_packed", "pack", "packed_nbytes", "unpack"]

_BLOCK = 1 << 20  # codes that one thread packs; they fill whole bytes at every width
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32)


def packed_nbytes(count: int, width: int) -> int:
    """Bytes of ``count`` codes of ``width`` bits, one of `WIDTHS`: ceil(count * width / 8)."""
    if isinstance(width, bool) or width not in WIDTHS:
        raise InputError(f"width: must be one of {', '.join(map(str, WIDTHS))}, found {width!r}")
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 0:
        raise InputError(f"count: must be an integer of at least 0, found {count!r}")
    return -(-int(count) * int(width) // 8)


def pack(codes: np.ndarray, width: int) -> np.ndarray:
    """The bit stream, uint8, of integer codes of any shape, read in C order.

    InputError refuses a width that is not offered, and codes that are no integers or do not fit it.

    >>> pack(np.array([1, 2, 3]), 3)
    array([209,   0], dtype=uint8)
    """
    codes = np.asarray(codes)
    size = packed_nbytes(codes.size, width)
    if codes.dtype.kind not in "ui":
        raise InputError(f"codes: must be an array of integers, found dtype {codes.dtype}")
    always_fit = codes.dtype.kind == "u" and 8 * codes.itemsize <= width
    if not always_fit and codes.size and (codes.min() < 0 or int(codes.max()) >> width):
        raise InputError(
            f"codes: must be from 0 to {2**width - 1} for width {width}; "
            f"found {codes.min()} to {codes.max()}"
        )
    flat = codes.reshape(-1)
    if width > 8:
        wide = flat.astype(_wide_dtype(width), order="C")
        octets = wide.view(np.uint8).reshape(-1, wide.itemsize)[:, : width // 8]
        return octets.reshape(-1)  # a copy where bytes are left out
    from lplr.kernels import bitpack

    flat, out = np.ascontiguousarray(flat, np.uint8), np.empty(size, np.uint8)

    def block(i: int, j: int) -> None:
        bitpack.pack(flat[i:j], width, out[i * width // 8 : -(-j * width // 8)])

    run_blocks(block, flat.size, _BLOCK)
    return out


def unpack(packed: np.ndarray, width: int, count: int) -> np.ndarray:
    """The ``count`` codes of a bit stream that `check_packed` accepts; the inverse of `pack`.

    They are uint8 for widths up to 8, uint16 for 16, uint32 for 24 and 32.
    """
    packed = check_packed(packed, width, count)
    if width > 8:
        dtype = _wide_dtype(width)
        wide = np.zeros((count, dtype.itemsize), np.uint8)
        wide[:, : width // 8] = packed.reshape(count, width // 8)
        return wide.view(dtype).reshape(count).astype(dtype.newbyteorder("="), copy=False)
    from lplr.kernels import bitpack

    out = np.empty(count, np.uint8)
    bitpack.unpack(packed, width, 0, out)
    return out


def check_packed(packed: Any, width: int, count: int) -> np.ndarray:
    """The bit stream of ``count`` codes, made contiguous; the kernels trust what passes.

    InputError says that ``packed`` is not a uint8 array of that size, or that a padding bit is set.
    """
    packed = check_bytes(packed, packed_nbytes(count, width), f"{count} codes of {width} bits")
    check_padding(packed, count * width)
    return packed


def check_bytes(packed: Any, size: int, content: str) -> np.ndarray:
    """The bytes as a contiguous array; InputError if they are not ``size`` entries of uint8."""
    if not isinstance(packed, np.ndarray):
        found = type(packed).__name__
    elif packed.dtype == np.uint8 and packed.shape == (size,):
        return np.ascontiguousarray(packed)
    else:
        found = f"{packed.dtype} of shape {packed.shape}"
    raise InputError(f"packed codes: must be uint8 of shape ({size},) for {content}, found {found}")


def check_padding(packed: np.ndarray, bits: int) -> None:
    """InputError if the last byte has set bits after the ``bits`` that are in use."""
    if bits % 8 and packed[-1] >> bits % 8:
        raise InputError("packed codes: a bit after the last code is set; they are damaged")


def read_only(array: np.ndarray) -> np.ndarray:
    """A read-only view, so that a kernel is compiled once, for arrays that cannot be written."""
    view = array.view()
    view.setflags(write=False)
    return view


def _wide_dtype(width: int) -> np.dtype:
    """Little-endian integer of at least ``width`` bits, for widths above 8."""
    return np.dtype("<u2" if width == 16 else "<u4")
