"""Bit-packing: codes of 1 to 8 bits to and from one little-endian bit stream.

Code i occupies bits [i w, (i + 1) w) of the stream, least significant bit first; bit b of the
stream is bit b % 8 of byte b // 8. Eight codes therefore fill exactly w bytes, and wherever a
run of eight codes starts, one 8-byte word from its first byte holds all of them: it spans at
most 7 + 8 w <= 63 bits for w <= 7, and for w = 8 every code starts on a byte.
"""

import numpy as np
from numba import float32, int64, types, uint8, void

from lplr.kernels.jit import kernel

# Frozen factors hold read-only arrays; these types take both kinds in one compilation.
_BYTES = types.Array(uint8, 1, "C", readonly=True)
_LEVELS = types.Array(float32, 1, "C", readonly=True)


@kernel(inline="always")
def _load(packed, byte):
    """The 8 bytes from ``byte`` as one little-endian uint64 (LLVM makes it a single load)."""
    return (
        np.uint64(packed[byte])
        | np.uint64(packed[byte + 1]) << np.uint64(8)
        | np.uint64(packed[byte + 2]) << np.uint64(16)
        | np.uint64(packed[byte + 3]) << np.uint64(24)
        | np.uint64(packed[byte + 4]) << np.uint64(32)
        | np.uint64(packed[byte + 5]) << np.uint64(40)
        | np.uint64(packed[byte + 6]) << np.uint64(48)
        | np.uint64(packed[byte + 7]) << np.uint64(56)
    )


@kernel(inline="always")
def _code(packed, width, i):
    """Code ``i``, read from the one or two bytes that hold it."""
    bit = i * width
    byte = bit >> 3
    word = np.uint64(packed[byte])
    if (bit & 7) + width > 8:
        word |= np.uint64(packed[byte + 1]) << np.uint64(8)
    return (word >> np.uint64(bit & 7)) & np.uint64((1 << width) - 1)


@kernel([void(_BYTES, int64, uint8[::1])])
def pack(codes, width, out):
    """Write the bit stream of ``codes``, uint8 (n,), each below 2**width; padding bits are zero.

    ``width`` is int64, 1 to 8; ``out`` is uint8 (ceil(n * width / 8),).
    """
    n = codes.shape[0]
    w = np.uint64(width)
    full = n >> 3
    for g in range(full):
        word = np.uint64(0)
        for i in range(8):
            word |= np.uint64(codes[8 * g + i]) << np.uint64(i) * w
        for k in range(width):
            out[g * width + k] = (word >> np.uint64(8 * k)) & np.uint64(255)
    word = np.uint64(0)
    for i in range(8 * full, n):
        word |= np.uint64(codes[i]) << np.uint64(i & 7) * w
    for k in range(full * width, out.shape[0]):
        out[k] = word & np.uint64(255)
        word >>= np.uint64(8)


@kernel([void(_BYTES, int64, int64, uint8[::1])])
def unpack(packed, width, start, out):
    """Read the codes ``start`` to ``start + len(out)`` of a stream into ``out``, uint8 (n,).

    ``packed`` is uint8 (m,), in which the last of these codes must lie; ``width`` is int64, 1 to 8.
    """
    n = out.shape[0]
    w = np.uint64(width)
    mask = np.uint64((1 << width) - 1)
    byte = (start * width) >> 3
    shift = np.uint64((start * width) & 7)
    # Groups of eight codes whose word lies inside the stream; the rest is read one by one.
    full = min(n >> 3, max(0, (packed.shape[0] - 8 - byte) // width + 1))
    for g in range(full):
        word = _load(packed, byte + g * width) >> shift
        for i in range(8):
            out[8 * g + i] = (word >> np.uint64(i) * w) & mask
    for i in range(8 * full, n):
        out[i] = _code(packed, width, start + i)


@kernel([void(_BYTES, int64, int64, _LEVELS, float32[::1])])
def unpack_levels(packed, width, start, levels, out):
    """Read codes as `unpack`, and write their levels: ``out[i] = levels[code[start + i]]``.

    ``levels`` is float32 (2**width,), ``out`` float32 (n,).
    """
    n = out.shape[0]
    w = np.uint64(width)
    mask = np.uint64((1 << width) - 1)
    byte = (start * width) >> 3
    shift = np.uint64((start * width) & 7)
    full = min(n >> 3, max(0, (packed.shape[0] - 8 - byte) // width + 1))
    for g in range(full):
        word = _load(packed, byte + g * width) >> shift
        for i in range(8):
            out[8 * g + i] = levels[(word >> np.uint64(i) * w) & mask]
    for i in range(8 * full, n):
        out[i] = levels[_code(packed, width, start + i)]


@kernel
def pack_sequences(codes, widths, out):
    """Write sequences of codes of four widths in turn, one sequence after the other.

    ``codes`` are uint8 (m, n), each below ``2**widths[t % 4]``, with ``widths`` int64 (4,).
    ``out``, uint8 (ceil(all bits / 8),), has zeros on entry.
    """
    word, used, byte = np.uint64(0), 0, 0
    for i in range(codes.shape[0]):
        for t in range(codes.shape[1]):
            word |= np.uint64(codes[i, t]) << np.uint64(used)
            used += widths[t & 3]
            while used >= 8:
                out[byte] = word & np.uint64(255)
                word >>= np.uint64(8)
                used -= 8
                byte += 1
    if used:
        out[byte] = word
