"""Decoding of packed trellis sequences, and products with them.

Sequences of ``total`` bits follow one another in one little-endian bit stream. The state after
symbol t is the window of L bits that ends where the symbol ends. A window that reaches back past
the start of its sequence continues at the end of the sequence (``wraps``) or reads zeros. So any
entry can be decoded without those before it. The widths of symbols repeat after four.

A joint window gives two entries, or at up to about two bits four, and a table holds the values of
all such windows. By pairs, sixteen entries cost two words of the stream and eight loads from tables
that stay in the first-level cache. By fours, 64 entries cost one vector of windows and one gather
of 16 rows of four int8 from a table that stays in the second-level cache, half the time. The
intrinsics emit vector instructions for what Numba would not vectorise, and every target lowers them
to its own.

A network multiplies hundreds of matrices by one vector each for every token, and each matrix has
parts at several rates: so one call goes through all `PART`s of a matrix. They name their streams
and tables by the addresses of arrays, which the caller keeps.
"""

# mypy: ignore-errors
# (An intrinsic is declared with a typing context that its callers do not pass.)

import numpy as np
from numba import boolean, float32, from_dtype, int64, types, void

from lplr.kernels.jit import kernel
from lplr.kernels.trellis_vectors import (
    FEW,
    MANY,
    REACH,
    bits_from,
    flipped,
    fours_of,
    load_few,
    load_many,
    multiply_add,
    pairs_of,
    real,
    store,
    sum_of,
    windows_from,
    windows_of_bytes,
)

# A matrix of trellis codes, and where a product takes it from and adds it to; arrays by address.
PART = np.dtype(
    [
        # Packed codes, uint8, 8 bytes at least: of the first segment of all vectors, then of the
        # second one of all, and so on, each of these from a byte on. A segment is one sequence,
        # which wraps from ``shortest`` bits on.
        ("stream", np.int64),
        ("nbytes", np.int64),
        ("shortest", np.int64),
        # ``count`` vectors of ``length`` entries, in segments of ``size`` or, the last one, less.
        ("length", np.int64),
        ("count", np.int64),
        ("size", np.int64),
        # Bits of a state and of four symbols, and of the first of them; from pair to pair, windows
        # move on by ``step`` and ``next_step`` bits in turn.
        ("state_bits", np.int64),
        ("period", np.int64),
        ("first_width", np.int64),
        ("step", np.uint64),
        ("next_step", np.uint64),
        # Row ``window & mask`` of ``even``, float32 (rows, 2), has the values of entries t and
        # t + 1, t = 0 modulo 4, by their joint window, and ``odd`` has them for t = 2.
        ("even", np.int64),
        ("odd", np.int64),
        ("mask", np.uint64),
        # Row ``window & mask_of_fours`` of ``fours``, int8 (rows, 4), has those of entries t to
        # t + 3, t = 0 modulo 4, as multiples of ``unit``; the mask is 0 where there is no table.
        ("fours", np.int64),
        ("mask_of_fours", np.int64),
        ("unit", np.float32),
        # The factor of vector i: entry ``i * scale_step`` of ``scale``, float32.
        ("scale", np.int64),
        ("scale_step", np.int64),
        # Whether the vectors are the columns of the matrix; else they are its rows. A product
        # reads from ``source`` on, and adds from ``target`` on.
        ("columns", np.int64),
        ("source", np.int64),
        ("target", np.int64),
    ],
    align=True,
)
_PARTS = types.Array(from_dtype(PART), 1, "C", readonly=True)


@kernel
def _word(stream, nbytes, first, total, wraps, at):
    """Bits from bit ``at`` of a sequence on, which starts at ``first``; ``at`` is above -15."""
    back = max(0, -at)
    word = bits_from(stream, nbytes, first + max(0, at)) << np.uint64(back)
    if wraps and back > 0:
        word |= bits_from(stream, nbytes, first + total - back) & np.uint64((1 << back) - 1)
    return word


@kernel([void(_PARTS, int64, int64, boolean, int64, float32[:, ::1], int64, int64)])
def decode(parts, sequence, total, wraps, start, out, first, last):
    """Values of consecutive sequences, from number ``sequence`` on, in code units.

    ``parts`` is a single `PART`, whose stream has ``total`` bits for each sequence. The columns
    ``first`` to ``last`` of ``out``, float32 (m, k), get the entries from ``start`` on.
    """
    part = parts[0]
    stream, nbytes, even, odd = part["stream"], part["nbytes"], part["even"], part["odd"]
    period, step, next_step = part["period"], part["step"], part["next_step"]
    before, mask = part["first_width"] - part["state_bits"], part["mask"]
    lanes = np.empty(FEW, np.float32)
    for i in range(len(out)):
        bit = (sequence + i) * total
        at = (start >> 2) * period + before
        low = _word(stream, nbytes, bit, total, wraps, at)
        high = _word(stream, nbytes, bit, total, wraps, at + 2 * period)
        row = out[i]
        for t in range(first - (start & 3), last, FEW):
            values = pairs_of(even, odd, low, high, step, next_step, mask)
            if t >= first and t + FEW <= last:
                store(row, t, values)
            else:
                store(lanes, 0, values)
                for j in range(max(0, first - t), min(FEW, last - t)):
                    row[t + j] = lanes[j]
            at += 4 * period
            low = bits_from(stream, nbytes, bit + at)
            high = bits_from(stream, nbytes, bit + at + 2 * period)


@kernel([void(_PARTS, float32[::1])])
def multiply(parts, work):
    """Add the products of all parts, one after the other, of pieces of ``work`` to other pieces.

    With x from its ``source`` and y from its ``target`` on, a part of columns v_i adds::

        y[t] += sum over i of scale_i * x[i] * v_i[t]

    and a part of rows v_i::

        y[i] += scale_i * sum over t of v_i[t] * x[t]

    ``work`` is float32 (k,). The source and target of a part have no entry in common.
    """
    lanes, zeros = np.empty(FEW, np.float32), np.zeros(MANY, np.float32)
    for p in range(len(parts)):
        part = parts[p]
        # Locals, since what lies in memory might change with each entry that is stored.
        stream, nbytes, size = part["stream"], part["nbytes"], part["size"]
        even, odd, fours, mask = part["even"], part["odd"], part["fours"], part["mask"]
        period, step, next_step = part["period"], part["step"], part["next_step"]
        mask_of_fours, unit = part["mask_of_fours"], part["unit"]
        length, count, columns = part["length"], part["count"], part["columns"]
        before = part["first_width"] - part["state_bits"]
        x, y = part["source"], part["target"]
        bit = 0
        for start in range(0, length, size):
            n = min(size, length - start)
            total = n * period // 4
            wraps = total >= part["shortest"]
            for i in range(count):
                factor = real(part["scale"] + 4 * i * part["scale_step"])
                if columns:
                    factor *= work[x + i]
                    at = y + start
                else:
                    at = x + start
                sums, sum_of_fours, last = load_few(zeros, 0), load_many(zeros, 0), np.float32(0)
                begin = bit + before
                many = 0
                if mask_of_fours > 0 and begin >= 0:  # and no window may touch what is not there
                    beyond = 8 * (nbytes - REACH) - begin
                    many = max(0, min(n // MANY, beyond // (16 * period) + 1))
                    true = _word(stream, nbytes, bit, total, wraps, before)
                    wrong = true ^ bits_from(stream, nbytes, begin)
                for t in range(many):
                    if period == 8:
                        windows = windows_of_bytes(stream, begin, mask_of_fours)
                    else:
                        windows = windows_from(stream, begin, period, mask_of_fours)
                    if t == 0:
                        windows = flipped(windows, wrong, period)
                    values = fours_of(fours, windows)
                    if columns:
                        z = multiply_add(factor * unit, values, load_many(work, at))
                        store(work, at, z)
                    else:
                        sum_of_fours = multiply_add(values, load_many(work, at), sum_of_fours)
                    at += MANY
                    begin += 16 * period
                after = before + 16 * many * period
                low = _word(stream, nbytes, bit, total, wraps, after)
                high = _word(stream, nbytes, bit, total, wraps, after + 2 * period)
                for t in range(MANY * many, n, FEW):
                    pairs = pairs_of(even, odd, low, high, step, next_step, mask)
                    after += 4 * period
                    low = bits_from(stream, nbytes, bit + after)
                    high = bits_from(stream, nbytes, bit + after + 2 * period)
                    if t + FEW > n:
                        store(lanes, 0, pairs)
                        for j in range(n - t):
                            if columns:
                                work[at + j] += factor * lanes[j]
                            else:
                                last += lanes[j] * work[at + j]
                    elif columns:
                        store(work, at, multiply_add(factor, pairs, load_few(work, at)))
                    else:
                        sums = multiply_add(pairs, load_few(work, at), sums)
                    at += FEW
                if not columns:
                    work[y + i] += factor * (unit * sum_of(sum_of_fours) + sum_of(sums) + last)
                bit += total
            bit = (bit + 7) // 8 * 8
