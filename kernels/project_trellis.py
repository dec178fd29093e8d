"""Decoding of packed trellis sequences, and products with them.

Sequences of ``total`` bits follow one another in one little-endian bit stream. The state after
symbol t is the window of L bits that ends where the symbol ends. A window that reaches back past
the start of its sequence continues at the end of the sequence (``wraps``) or reads zeros. So any
entry can be decoded without those before it. The widths of symbols repeat after four.

A joint window gives two entries, or at two bits four, and a table holds the values of all such
windows: sixteen entries cost two words of the stream, and eight loads from tables that stay in the
first or second-level cache. The intrinsics emit vector instructions for what Numba would not
vectorise, and every target lowers them to its own.
"""

# mypy: ignore-errors
# (An intrinsic is declared with a typing context that its callers do not pass.)

import numpy as np
from llvmlite import ir
from numba import float32, int8, int64, types, uint8, void
from numba.extending import models, register_model

from lplr.kernels.jit import intrinsic, kernel

_LANES = 16
_BYTES = types.Array(uint8, 1, "C", readonly=True)
_WIDTHS = types.Array(int64, 1, "C", readonly=True)
_PAIRS = types.Array(float32, 2, "C", readonly=True)
_FOURS = types.Array(int8, 2, "C", readonly=True)
_VALUES = types.Array(float32, 1, "C", readonly=True)


class _Sixteen(types.Type):
    """Sixteen float32 in vector registers."""


_sixteen = _Sixteen("sixteen float32")
_VECTOR = ir.VectorType(ir.FloatType(), _LANES)
_INDEX = ir.IntType(32)


@register_model(_Sixteen)
class _SixteenModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _VECTOR)


def _data(context, builder, array_type, array, kind):
    """Pointer to the data of an array, as of entries of another kind."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(data, kind.as_pointer())


def _pointer(context, builder, array_type, array, at):
    """Pointer to sixteen entries of ``array`` from ``at`` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())


def _gathered(builder, values):
    """The vector of some scalars."""
    vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        vector = builder.insert_element(vector, value, ir.Constant(_INDEX, i))
    return vector


@intrinsic(lambda x: np.full(_LANES, x, np.float32))
def _splat(typing, x):
    """A float32 in all lanes."""

    def generate(context, builder, signature, args):
        return _gathered(builder, [args[0]] * _LANES)

    return _sixteen(types.float32), generate


@intrinsic(lambda array, at: array[at : at + _LANES].copy())
def _load(typing, array, at):
    def generate(context, builder, signature, args):
        loaded = builder.load(_pointer(context, builder, signature.args[0], *args))
        loaded.align = 4
        return loaded

    return _sixteen(array, types.int64), generate


@intrinsic(lambda array, at, value: array[at : at + _LANES].__setitem__(slice(None), value))
def _store(typing, array, at, value):
    def generate(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2])).align = 4
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


@intrinsic(lambda x, y, z: x * y + z)
def _multiply_add(typing, x, y, z):
    """``x * y + z``"""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fmuladd.v{_LANES}f32"  # split on a target without the instruction
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, args)

    return _sixteen(x, y, z), generate


def _plain_pairs(even, odd, low, high, step, next_step, mask):
    steps = [0, step, step + next_step, step + next_step + step]
    rows = [word >> np.uint64(by) & mask for word in (low, high) for by in steps]
    return np.concatenate([(odd if i & 1 else even)[row] for i, row in enumerate(rows)])


@intrinsic(_plain_pairs)
def _pairs(typing, even, odd, low, high, step, next_step, mask):
    """Eight pairs of values, four by the windows of each word.

    Windows move on by ``step`` bits and ``next_step`` bits in turn, and their rows are in the table
    ``even`` and the table ``odd`` in turn.
    """

    def generate(context, builder, signature, args):
        *tables, low, high, step, next_step, mask = args
        pair = ir.IntType(64)
        rows = [
            _data(context, builder, kind, table, pair)
            for kind, table in zip(signature.args[:2], tables, strict=True)
        ]
        found = []
        for word in (low, high):
            for i in range(4):
                row = builder.load(builder.gep(rows[i & 1], [builder.and_(word, mask)]))
                row.align = 4
                found.append(row)
                word = builder.lshr(word, next_step if i & 1 else step)
        return builder.bitcast(_gathered(builder, found), _VECTOR)

    return _sixteen(even, odd, *[types.uint64] * 5), generate


def _plain_fours(table, word, mask):
    rows = [word >> np.uint64(8 * i) & mask for i in range(4)]
    return table[rows].ravel().astype(np.float32)


@intrinsic(_plain_fours)
def _fours(typing, table, word, mask):
    """Four rows of an int8 table, as float32: those numbered ``word >> 8 i & mask``."""

    def generate(context, builder, signature, args):
        table, word, mask = args
        rows = _data(context, builder, signature.args[0], table, _INDEX)
        found = []
        for i in range(4):
            number = builder.and_(builder.lshr(word, ir.Constant(word.type, 8 * i)), mask)
            row = builder.load(builder.gep(rows, [number]))
            row.align = 1
            found.append(row)
        numbers = builder.bitcast(_gathered(builder, found), ir.VectorType(ir.IntType(8), _LANES))
        return builder.sitofp(numbers, _VECTOR)

    return _sixteen(table, types.uint64, types.uint64), generate


def _plain_bits(packed, bit):
    byte = min(bit >> 3, len(packed) - 8)
    return packed[byte : byte + 8].view(np.uint64)[0] >> np.uint64(bit - 8 * byte & 63)


@intrinsic(_plain_bits)
def _bits(typing, packed, bit):
    """At least 57 bits of the stream from ``bit`` on, as far as it goes, in the low bits of a word.

    The stream has 8 bytes or more, in the order of all targets of Numba. There is no branch, since
    Numba would count references around it.
    """

    def generate(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        bit, word = args[1], ir.IntType(64)
        byte = builder.ashr(bit, ir.Constant(word, 3))
        last = builder.sub(array.nitems, ir.Constant(word, 8))
        byte = builder.select(builder.icmp_signed("<", byte, last), byte, last)
        loaded = builder.load(builder.bitcast(builder.gep(array.data, [byte]), word.as_pointer()))
        loaded.align = 1
        by = builder.sub(bit, builder.shl(byte, ir.Constant(word, 3)))
        return builder.lshr(loaded, builder.and_(by, ir.Constant(word, 63)))

    return types.uint64(packed, types.int64), generate


@kernel
def _word(packed, first, total, wraps, at):
    """Bits from bit ``at`` of a sequence on, which starts at ``first``; ``at`` is above -15."""
    back = max(0, -at)
    word = _bits(packed, first + max(0, at)) << np.uint64(back)
    if wraps and back > 0:
        word |= _bits(packed, first + total - back) & np.uint64((1 << back) - 1)
    return word


@kernel
def _code(widths, even):
    """State bits and bits of four symbols; from pair to pair, windows move on by so many bits."""
    state_bits = -max(widths[1], widths[3])
    while 1 << (state_bits + max(widths[1], widths[3])) < len(even):
        state_bits += 1
    period = widths[0] + widths[1] + widths[2] + widths[3]
    return state_bits, period, np.uint64(widths[1] + widths[2]), np.uint64(widths[3] + widths[0])


@kernel(
    [
        void(
            *(_BYTES, int64, int64, types.boolean, _WIDTHS, _PAIRS, _PAIRS, int64),
            *(float32[:, ::1], int64, int64),
        )
    ]
)
def decode(packed, sequence, total, wraps, widths, even, odd, start, out, first, last):
    """Values of consecutive sequences, from number ``sequence`` on, in code units.

    ``packed`` is uint8, 8 bytes at least, with ``total`` bits for each sequence. Symbol t has
    ``widths[t % 4]`` bits, int64, 1 to 6. Row ``window`` of ``even``, float32 (2**(L + w), 2), has
    the values of entries t and t + 1, t = 0 modulo 4, by their joint window, and ``odd`` has them
    for t = 2; w is the largest width of their second symbols. The columns ``first`` to ``last`` of
    ``out``, float32 (m, k), get the entries from ``start`` on.
    """
    state_bits, period, step, next_step = _code(widths, even)
    mask = np.uint64(len(even) - 1)
    lanes = np.empty(_LANES, np.float32)
    for i in range(len(out)):
        bit = (sequence + i) * total
        at = (start >> 2) * period + widths[0] - state_bits
        low = _word(packed, bit, total, wraps, at)
        high = _word(packed, bit, total, wraps, at + 2 * period)
        row = out[i]
        for t in range(first - (start & 3), last, _LANES):
            values = _pairs(even, odd, low, high, step, next_step, mask)
            if t >= first and t + _LANES <= last:
                _store(row, t, values)
            else:
                _store(lanes, 0, values)
                for j in range(max(0, first - t), min(_LANES, last - t)):
                    row[t + j] = lanes[j]
            at += 4 * period
            low = _bits(packed, bit + at)
            high = _bits(packed, bit + at + 2 * period)


_PRODUCT = void(
    *(_BYTES, int64, int64, _WIDTHS, _PAIRS, _PAIRS, _FOURS, float32, _VALUES, float32[::1])
)


@kernel([_PRODUCT])
def multiply(packed, size, shortest, widths, even, odd, fours, unit, x, out):
    """Add the sum of all vectors, each times an entry of ``x``.

    ``out[t] += sum over i of x[i] * (value of entry t of vector i)``

    Vectors are cut into segments of ``size`` entries, the last of which may be shorter; the stream
    has the first segment of all vectors, then the second one of all, and so on, each of these parts
    from a byte on. A segment is one sequence; it is tail-biting from ``shortest`` bits on. ``x`` is
    float32 (m,); ``out``, float32 (n,), is updated. ``fours``, int8 (2**(L + 6), 4), has the values
    of four entries of two bits by their joint window, as multiples of ``unit``, float32; other
    codes give one row and 1. See `decode` for the others.
    """
    state_bits, period, step, next_step = _code(widths, even)
    mask, mask_of_fours = np.uint64(len(even) - 1), np.uint64(len(fours) - 1)
    by_fours = len(fours) > 1
    lanes = np.empty(_LANES, np.float32)
    bit = 0
    for start in range(0, len(out), size):
        n = min(size, len(out) - start)
        total = n * period // 4
        wraps = total >= shortest
        for i in range(len(x)):
            factor = _splat(unit * x[i])
            at = widths[0] - state_bits
            low = _word(packed, bit, total, wraps, at)
            high = _word(packed, bit, total, wraps, at + 2 * period)
            for t in range(start, start + n - _LANES + 1, _LANES):
                if by_fours:
                    values = _fours(fours, low, mask_of_fours)
                else:
                    values = _pairs(even, odd, low, high, step, next_step, mask)
                _store(out, t, _multiply_add(factor, values, _load(out, t)))
                at += 4 * period
                low = _bits(packed, bit + at)
                high = _bits(packed, bit + at + 2 * period)
            if n % _LANES > 0:
                _store(lanes, 0, _pairs(even, odd, low, high, step, next_step, mask))
                for j in range(n % _LANES):
                    out[start + n - n % _LANES + j] += x[i] * lanes[j]
            bit += total
        bit = (bit + 7) // 8 * 8


@kernel([_PRODUCT])
def multiply_transposed(packed, size, shortest, widths, even, odd, fours, unit, y, out):
    """Add the inner product of each vector with ``y``.

    ``out[i] += sum over t of (value of entry t of vector i) * y[t]``

    ``y`` is float32 (n,); ``out``, float32 (m,), is updated. See `multiply` for the others.
    """
    state_bits, period, step, next_step = _code(widths, even)
    mask, mask_of_fours = np.uint64(len(even) - 1), np.uint64(len(fours) - 1)
    by_fours = len(fours) > 1
    lanes = np.empty(_LANES, np.float32)
    bit = 0
    for start in range(0, len(y), size):
        n = min(size, len(y) - start)
        total = n * period // 4
        wraps = total >= shortest
        for i in range(len(out)):
            sums = _splat(np.float32(0.0))
            at = widths[0] - state_bits
            low = _word(packed, bit, total, wraps, at)
            high = _word(packed, bit, total, wraps, at + 2 * period)
            for t in range(start, start + n - _LANES + 1, _LANES):
                if by_fours:
                    values = _fours(fours, low, mask_of_fours)
                else:
                    values = _pairs(even, odd, low, high, step, next_step, mask)
                sums = _multiply_add(values, _load(y, t), sums)
                at += 4 * period
                low = _bits(packed, bit + at)
                high = _bits(packed, bit + at + 2 * period)
            _store(lanes, 0, sums)
            total_sum = np.float32(0.0)
            for lane in lanes:
                total_sum += lane
            total_sum *= unit
            if n % _LANES > 0:
                _store(lanes, 0, _pairs(even, odd, low, high, step, next_step, mask))
                for j in range(n % _LANES):
                    total_sum += lanes[j] * y[start + n - n % _LANES + j]
            out[i] += total_sum
            bit += total
        bit = (bit + 7) // 8 * 8


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
