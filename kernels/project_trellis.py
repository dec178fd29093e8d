"""Decoding of packed trellis sequences, and products with them.

Sequences of ``total`` bits follow one another in one little-endian bit stream. The state after
symbol t is the window of L bits that ends where the symbol ends. A window that reaches back past
the start of its sequence continues at the end of the sequence (``wraps``) or reads zeros. So any
entry can be decoded without those before it. The four widths repeat, and one word of 8 bytes holds
the windows of four entries, at most 7 + 14 + 18 bits.
"""

import numpy as np

from lplr.kernels.jit import kernel


@kernel(inline="always")
def _word(packed, byte):
    """The 8 bytes from ``byte`` as one little-endian uint64 (LLVM makes it a single load)."""
    at = np.uint64(byte)  # unsigned, so that Numba tests for no negative index
    word = np.uint64(0)
    for i in range(8):
        word |= np.uint64(packed[at + np.uint64(i)]) << np.uint64(8 * i)
    return word


@kernel(inline="always")
def _window(packed, first, total, wraps, stop, state_bits):
    """The state that ends ``stop`` bits into the sequence that starts at bit ``first``."""
    state = 0
    for i in range(stop - state_bits, stop):
        bit = 0
        if i >= 0 or wraps:
            at = first + (i if i >= 0 else i + total)
            bit = np.int64(packed[at >> 3]) >> (at & 7) & 1
        state |= bit << (i - stop + state_bits)
    return state


@kernel
def decode_sequence(packed, first, total, wraps, widths, table, start, out):
    """Values of consecutive entries of one sequence, in code units, from entry ``start`` on.

    ``packed`` is uint8; the ``total`` bits of the sequence begin at bit ``first``. ``widths`` is
    int64 (4,), 1 to 6: symbol t has ``widths[t % 4]`` bits. ``table``, float32 (2**L,), has the
    value of each state. ``out`` is float32 (n,).
    """
    state_bits = 0
    while 1 << state_bits < len(table):
        state_bits += 1
    mask = np.uint64(len(table) - 1)
    period = widths[0] + widths[1] + widths[2] + widths[3]
    end = 8 * len(packed)
    w1 = np.uint64(widths[1])
    w2 = np.uint64(widths[2])
    w3 = np.uint64(widths[3])
    n = len(out)
    i = 0
    stop = (start >> 2) * period  # bits of the sequence that end before entry start + i
    for j in range(start & 3):
        stop += widths[j]
    while i < n:
        width = widths[(start + i) & 3]
        bit = first + stop + width - state_bits
        if stop + width < state_bits or (start + i) & 3 or i + 4 > n or bit + 71 > end:
            stop += width
            out[i] = table[_window(packed, first, total, wraps, stop, state_bits)]
            i += 1
            continue
        # Whole groups of four, whose first window starts inside the sequence: one word for each.
        while i + 4 <= n and bit + 71 <= end:
            word = _word(packed, bit >> 3) >> np.uint64(bit & 7)
            out[i] = table[word & mask]
            word >>= w1
            out[i + 1] = table[word & mask]
            word >>= w2
            out[i + 2] = table[word & mask]
            word >>= w3
            out[i + 3] = table[word & mask]
            i += 4
            bit += period
            stop += period


@kernel
def decode(packed, sequence, total, wraps, widths, table, start, out):
    """As `decode_sequence`, for consecutive sequences from number ``sequence`` on: out (m, n)."""
    for i in range(len(out)):
        decode_sequence(packed, (sequence + i) * total, total, wraps, widths, table, start, out[i])


@kernel
def multiply(packed, total, wraps, widths, table, start, x, values, out):
    """Add the sum of all sequences, each times an entry of a vector; see `decode_sequence`.

    ``out[t] += sum over i of x[i] * value of entry start + t of sequence i``

    ``x`` is float32 (m,); ``out``, float32 (n,), is updated, and ``values``, float32 (n,), is
    scratch.
    """
    for i in range(len(x)):
        decode_sequence(packed, i * total, total, wraps, widths, table, start, values)
        for t in range(len(out)):
            out[t] += x[i] * values[t]


@kernel
def multiply_transposed(packed, sequence, total, wraps, widths, table, y, values, out):
    """Inner products of consecutive sequences, from number ``sequence`` on, with a vector.

    ``out[i] = sum over t of value of entry t of sequence (sequence + i) * y[t]``

    ``y`` and ``values``, which is scratch, are float32 (n,), ``out`` is float32 (m,); all else is
    as in `decode_sequence`.
    """
    for i in range(len(out)):
        first = (sequence + i) * total
        decode_sequence(packed, first, total, wraps, widths, table, 0, values)
        # Four sums in a fixed order: they run in parallel without a licence to reorder (fastmath).
        s0 = s1 = s2 = s3 = np.float32(0.0)
        n = len(y)
        for t in range(0, n - 3, 4):
            s0 += y[t] * values[t]
            s1 += y[t + 1] * values[t + 1]
            s2 += y[t + 2] * values[t + 2]
            s3 += y[t + 3] * values[t + 3]
        for t in range(n & ~3, n):
            s0 += y[t] * values[t]
        out[i] = (s0 + s1) + (s2 + s3)


@kernel
def pack(codes, widths, out):
    """Write the bit stream of sequences, one after the other.

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
