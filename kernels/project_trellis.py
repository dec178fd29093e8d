"""Decoding of packed trellis sequences, and products with them.

Sequences of ``total`` bits follow one another in one little-endian bit stream. The state after
symbol t is the window of L bits that ends where the symbol ends. A window that reaches back past
the start of its sequence continues at the end of the sequence (``wraps``) or reads zeros. So any
entry can be decoded without those before it. The widths of symbols repeat after four.

A joint window gives two entries, or at low rates four, and a table holds the values of all such
windows in rows of 32 bits: int16 or int8, as multiples of a unit. Two words of the stream hold
eight windows, and one gather reads their rows. The time is that of the gather: tables that fit the
first-level cache cost a third of a cycle an entry, larger ones half a cycle.

A network multiplies hundreds of matrices by one vector each for every token, and each matrix has
parts at several rates: so one call goes through all `PART`s of a matrix. They name their streams
and tables by the addresses of arrays, which the caller keeps.
"""

# mypy: ignore-errors
# (An intrinsic is declared with a typing context that its callers do not pass.)

import numpy as np
from numba import float32, from_dtype, int64, types, uint8, void

from lplr.kernels.jit import kernel
from lplr.kernels.project_tile import add_tile
from lplr.kernels.trellis_vectors import (
    FEW,
    MANY,
    byte_at,
    fours_of,
    in_turn,
    load_few,
    load_many,
    multiply_add,
    pairs_of,
    real,
    rows_of,
    store,
    sum_of,
    turns_of,
    word_at,
)

# A matrix of trellis codes, and where a product takes it from and adds it to; arrays by address.
PART = np.dtype(
    [
        # Packed codes, uint8, 8 bytes at least: from ``bit`` on, ``count`` sequences of ``length``
        # entries, one after the other. They wrap from ``shortest`` bits on.
        ("stream", np.int64),
        ("nbytes", np.int64),
        ("bit", np.int64),
        ("length", np.int64),
        ("count", np.int64),
        ("shortest", np.int64),
        # Bits of a state and of four symbols, and of the first of them; from pair to pair, windows
        # move on by ``step`` and ``next_step`` bits in turn.
        ("state_bits", np.int64),
        ("period", np.int64),
        ("first_width", np.int64),
        ("step", np.int64),
        ("next_step", np.int64),
        # Row ``window & even_mask`` of ``even``, int16 (rows, 2), has the values of entries t and
        # t + 1, t = 0 modulo 4, by their joint window, as multiples of ``unit``; ``odd`` has those
        # for t = 2.
        ("even", np.int64),
        ("even_mask", np.int64),
        ("odd", np.int64),
        ("odd_mask", np.int64),
        # Row ``window & fours_mask`` of ``fours``, int8 (rows, 4), has those of entries t to
        # t + 3, t = 0 modulo 4; the mask is 0 where there is no table.
        ("fours", np.int64),
        ("fours_mask", np.int64),
        ("unit", np.float32),
        # The factor of sequence i: entry ``i * scale_step`` of ``scale``, float32.
        ("scale", np.int64),
        ("scale_step", np.int64),
        # Whether the sequences are columns of the matrix; else they are rows. A product
        # reads from ``source`` on, and adds from ``target`` on.
        ("columns", np.int64),
        ("source", np.int64),
        ("target", np.int64),
    ],
    align=True,
)
_TILE, _ROWS = 64, 8  # sequences that are decoded together, for several vectors and for one
_BEYOND = 16  # bytes after a block that its words touch, at most
_PART = from_dtype(PART)
_PARTS = types.Array(_PART, 1, "C", readonly=True)


@kernel
def _bits_from(stream, nbytes, bit):
    """At least 57 bits of the stream from ``bit`` on, as far as it goes, in the low bits."""
    byte = min(bit >> 3, nbytes - 8)
    return word_at(stream + byte) >> np.uint64(bit - 8 * byte & 63)


@kernel
def _copied(stream, nbytes, first, count, copy):
    """Address of a copy of ``count`` bytes of the stream, with zeros where it has none."""
    for k in range(count):
        copy[k] = byte_at(stream + first + k) if 0 <= first + k < nbytes else 0
    return np.int64(copy.ctypes.data)


@kernel
def _room(part, size):
    """Where `_add` copies a sequence of ``size`` entries to."""
    return np.empty(-(-size // MANY) * part["period"] + _BEYOND, np.uint8)


@kernel
def _units(part, count):
    """The factors that give values in code units."""
    factors = np.empty(count, np.float32)
    for i in range(count):
        factors[i] = part["unit"]
    return factors


@kernel
def _clear(values):  # as the other loops here, quicker than slices to run and to compile
    for t in range(len(values)):
        values[t] = 0


# With one signature, it is compiled once for all that follows.
@kernel([void(_PART, *[int64] * 4, float32[::1], float32[::1], int64, uint8[::1])])
def _add(part, bit, total, start, blocks, factors, out, stride, copy):
    """Add factors times consecutive sequences, by blocks of `MANY` entries, to a flat array.

    The sequences have ``total`` bits each, from ``bit`` on, and one entry of ``factors``, in units,
    each. Their blocks from number ``start`` on go to the flat array ``out``: each ``stride``
    entries after the one before, which may be 0. Where a sequence ends inside its last block,
    whatever follows is added as well.
    """
    stream, nbytes, period = part["stream"], part["nbytes"], part["period"]
    back = part["state_bits"] - part["first_width"]  # bits of the first window before the sequence
    by_fours, wraps = part["fours_mask"] > 0, total >= part["shortest"]
    if by_fours:
        step, next_step, apart = period, period, 4 * period
        masks = in_turn(part["fours_mask"], part["fours_mask"])
        tables = in_turn(part["fours"], part["fours"])
    else:
        step, next_step, apart = part["step"], part["next_step"], 2 * period
        masks = in_turn(part["even_mask"], part["odd_mask"])
        tables = in_turn(part["even"], part["odd"])
    count = (start + blocks) * period + _BEYOND
    begin, byte1, byte2, byte3, shift1 = -1, 0, 0, 0, np.uint64(0)
    low = high = turns_of(0, 0, 0, 0)
    for i in range(len(factors)):
        first, factor, at = bit - back >> 3, factors[i], i * stride
        if bit - back & 7 != begin:
            # A block takes ``period`` bytes, so its words and windows lie alike in all blocks.
            begin = bit - back & 7
            bit1, bit2, bit3 = begin + apart, begin + 2 * apart, begin + 3 * apart
            byte1, byte2, byte3 = bit1 >> 3, bit2 >> 3, bit3 >> 3
            shift1 = np.uint64(bit1 & 7)
            low = turns_of(begin, bit1 & 7, step, next_step)
            high = turns_of(bit2 & 7, bit3 & 7, step, next_step)
        place = stream + first
        if first < 0 or first + count > nbytes:
            place = _copied(stream, nbytes, first, count, copy)
        flips0 = flips1 = np.uint64(0)
        if start == 0:  # the first windows reach back to the end of the sequence, or to zeros
            wrong = word_at(place) >> np.uint64(begin)
            if wraps:
                wrong ^= _bits_from(stream, nbytes, bit + total - back)
            wrong &= np.uint64((1 << back) - 1)
            flips0, flips1 = wrong << np.uint64(begin), wrong >> np.uint64(apart) << shift1
        place += start * period
        for _ in range(blocks):
            word0, word1 = word_at(place) ^ flips0, word_at(place + byte1) ^ flips1
            rows = rows_of(word0, word1, low, masks, tables)
            if by_fours:
                store(out, at, multiply_add(factor, fours_of(rows), load_many(out, at)))
            else:
                store(out, at, multiply_add(factor, pairs_of(rows), load_few(out, at)))
                rows = rows_of(word_at(place + byte2), word_at(place + byte3), high, masks, tables)
                z = multiply_add(factor, pairs_of(rows), load_few(out, at + FEW))
                store(out, at + FEW, z)
            flips0 = flips1 = np.uint64(0)
            place += period
            at += MANY
        bit += total


@kernel([void(_PARTS, int64, int64, int64, float32[:, ::1], int64, int64)])
def decode(parts, sequence, total, start, out, first, last):
    """Values of consecutive sequences, from number ``sequence`` on, in code units.

    ``parts`` is a single `PART`, whose stream has ``total`` bits for each sequence. The columns
    ``first`` to ``last`` of ``out``, float32 (m, k), get the entries from ``start`` on.
    """
    part = parts[0]
    skipped = start % MANY
    blocks = -(-(skipped + last - first) // MANY)
    stride, copy = blocks * MANY, _room(part, start + last - first)
    units = _units(part, _TILE)
    tile = np.empty(min(_TILE, len(out)) * stride, np.float32)
    for i in range(0, len(out), _TILE):
        n = min(_TILE, len(out) - i)
        _clear(tile)
        bit = (sequence + i) * total
        _add(part, bit, total, start // MANY, blocks, units[:n], tile, stride, copy)
        for k in range(n):
            row, found = out[i + k, first:last], tile[k * stride + skipped :]
            for t in range(len(row)):
                row[t] = found[t]


@kernel
def _inner(x, y, zeros):
    """Inner product of two vectors of a multiple of `MANY` entries."""
    total = load_many(zeros, 0)
    for at in range(0, len(x), MANY):
        total = multiply_add(load_many(x, at), load_many(y, at), total)
    return sum_of(total)


@kernel([void(_PARTS, float32[::1])])
def multiply(parts, work):
    """Add the products of all parts, one after the other, of pieces of ``work`` to other pieces.

    With x from its ``source`` and y from its ``target`` on, a part of columns v_i adds::

        y[t] += sum over i of scale_i * x[i] * v_i[t]

    and a part of rows v_i::

        y[i] += scale_i * sum over t of v_i[t] * x[t]

    ``work`` is float32 (k,). The source and target of a part have no entry in common.
    """
    zeros = np.zeros(MANY, np.float32)
    for p in range(len(parts)):
        part = parts[p]
        n, count, columns = part["length"], part["count"], part["columns"]
        x, y = part["source"], part["target"]
        factors = _units(part, count)
        for i in range(count):
            factors[i] *= real(part["scale"] + 4 * i * part["scale_step"])
            if columns:
                factors[i] *= work[x + i]
        bit, total, blocks = part["bit"], n * part["period"] // 4, -(-n // MANY)
        stride, copy = blocks * MANY, _room(part, n)
        own = np.zeros(stride, np.float32)  # the piece of x or of y
        if columns:
            _add(part, bit, total, 0, blocks, factors, own, 0, copy)
            for t in range(n):
                work[y + t] += own[t]
            continue
        for t in range(n):
            own[t] = work[x + t]
        tile = np.empty(_ROWS * stride, np.float32)
        for i in range(0, count, _ROWS):
            _clear(tile)
            few = factors[i : i + _ROWS]
            _add(part, bit + i * total, total, 0, blocks, few, tile, stride, copy)
            for k in range(len(few)):
                row = tile[k * stride : (k + 1) * stride]
                work[y + i + k] += _inner(row, own, zeros)


@kernel
def multiply_many(parts, X, out):
    """Add the products of parts of columns with several vectors to a flat array.

    ``X`` is float32 (count, c), c a multiple of `VECTORS`; ``out`` is (c, width), transposed. The
    result of a part begins in column ``target`` and fills whole blocks of `MANY`.
    """
    for p in range(len(parts)):
        part = parts[p]
        n, count = part["length"], part["count"]
        bit, total, blocks = part["bit"], n * part["period"] // 4, -(-n // MANY)
        stride = blocks * MANY + FEW  # no power of two, which would map all to few lines of a cache
        units, copy = _units(part, _TILE), _room(part, n)
        tile = np.empty(_TILE * stride, np.float32)
        for i in range(0, count, _TILE):
            few = units[: min(_TILE, count - i)]
            own = tile[: len(few) * stride]
            _clear(own)
            _add(part, bit + i * total, total, 0, blocks, few, own, stride, copy)
            add_tile(own, stride, X, i, out, part["target"], blocks * MANY)
