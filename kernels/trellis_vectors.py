"""Vector instructions for trellis codes: windows of a bit stream, rows of tables, multiply-adds.

Numba would not vectorise these, so they are LLVM instructions for vectors of 16 or 64 entries, and
every target lowers them to its own. Streams and tables are given by the address of their first
byte, so that one loop may go through many of them; whoever calls keeps the arrays.
"""

# mypy: ignore-errors
# (An intrinsic is declared with a typing context that its callers do not pass.)

import ctypes

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from lplr.kernels.jit import intrinsic

FEW, MANY = 16, 64  # lanes: entries by pairs, and by fours
ROWS = 16  # of fours that are read together
REACH = 32  # bytes that the windows of many entries may touch
_INDEX, _WORD, _BYTE = ir.IntType(32), ir.IntType(64), ir.IntType(8)
_WINDOWS = ir.VectorType(_INDEX, ROWS)


class _Vector(types.Type):
    """A vector of LLVM in registers."""

    def __init__(self, kind):
        self.kind = kind
        super().__init__(f"vector {kind}")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, fe_type.kind)


_few, _many = (_Vector(ir.VectorType(ir.FloatType(), lanes)) for lanes in (FEW, MANY))
_windows_type = _Vector(_WINDOWS)


def _seen(address, count, dtype):
    """Memory from an address on, as plain Python sees it."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(int(address)), dtype)


def _at(builder, address, kind):
    """Pointer to a value of some kind."""
    return builder.inttoptr(address, kind.as_pointer())


def _shuffled(builder, vector, lanes):
    mask = ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _splat(builder, value, lanes):
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(_INDEX, 0))
    return _shuffled(builder, one, [0] * lanes)


def _gathered(builder, address, offsets):
    """Values of 32 bits at an address plus 16 offsets in bytes."""
    wide = ir.VectorType(_WORD, ROWS)
    places = builder.add(_splat(builder, address, ROWS), builder.zext(offsets, wide))
    pointers = ir.VectorType(_INDEX.as_pointer(), ROWS)
    flags = ir.VectorType(ir.IntType(1), ROWS)
    function = _function(
        builder, "llvm.masked.gather.v16i32.v16p0i32", _WINDOWS, [pointers, _INDEX, flags, _WINDOWS]
    )
    everywhere = ir.Constant(flags, [1] * ROWS)
    found = [builder.inttoptr(places, pointers), ir.Constant(_INDEX, 1), everywhere]
    return builder.call(function, [*found, ir.Constant(_WINDOWS, ir.Undefined)])


def _function(builder, name, result, arguments):
    """An intrinsic of LLVM; it is split on a target without the instruction."""
    kind = ir.FunctionType(result, arguments)
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _loader(vector):
    """An intrinsic that loads a vector of entries of an array, from ``at`` on."""
    lanes = vector.kind.count

    @intrinsic(lambda array, at: array[at : at + lanes].copy())
    def load(typing, array, at):
        def generate(context, builder, signature, args):
            loaded = builder.load(_entries(context, builder, signature, args, vector.kind))
            loaded.align = 4
            return loaded

        return vector(array, types.int64), generate

    return load


load_few, load_many = _loader(_few), _loader(_many)


def _entries(context, builder, signature, args, kind):
    """Pointer to entries of the array ``args[0]`` from ``args[1]`` on."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())


@intrinsic(lambda array, at, value: array[at : at + len(value)].__setitem__(slice(None), value))
def store(typing, array, at, value):
    def generate(context, builder, signature, args):
        place = _entries(context, builder, signature, args, args[2].type)
        builder.store(args[2], place).align = 4
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


@intrinsic(lambda x, y, z: x * y + z)
def multiply_add(typing, x, y, z):
    """``x * y + z``; x may be a float32, for all lanes."""

    def generate(context, builder, signature, args):
        x, y, z = args
        if x.type != y.type:
            x = _splat(builder, x, y.type.count)
        name = f"llvm.fmuladd.v{y.type.count}f32"
        return builder.call(_function(builder, name, y.type, [y.type] * 3), [x, y, z])

    return y(x if isinstance(x, _Vector) else types.float32, y, z), generate


def _plain_sum(x):
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


@intrinsic(_plain_sum)
def sum_of(typing, x):
    """Sum of all lanes, by halves."""

    def generate(context, builder, signature, args):
        total, lanes = args[0], args[0].type.count
        while lanes > 1:
            low = _shuffled(builder, total, list(range(lanes // 2)))
            high = _shuffled(builder, total, list(range(lanes // 2, lanes)))
            total, lanes = builder.fadd(low, high), lanes // 2
        return builder.extract_element(total, ir.Constant(_INDEX, 0))

    return types.float32(x), generate


def _plain_pairs(even, odd, low, high, step, next_step, mask):
    steps = [0, step, step + next_step, step + next_step + step]
    rows = [word >> np.uint64(by) & mask for word in (low, high) for by in steps]
    tables = [_seen(table, 2 * int(mask) + 2, np.float32).reshape(-1, 2) for table in (even, odd)]
    return np.concatenate([tables[i & 1][row] for i, row in enumerate(rows)])


@intrinsic(_plain_pairs)
def pairs_of(typing, even, odd, low, high, step, next_step, mask):
    """Eight pairs of values, four by the windows of each word; see `PART`."""

    def generate(context, builder, signature, args):
        even, odd, low, high, step, next_step, mask = args
        found = ir.Constant(ir.VectorType(_WORD, FEW // 2), ir.Undefined)
        for i in range(FEW // 2):
            if i == FEW // 4:
                low = high
            rows = _at(builder, odd if i & 1 else even, _WORD)
            row = builder.load(builder.gep(rows, [builder.and_(low, mask)]))
            row.align = 4
            found = builder.insert_element(found, row, ir.Constant(_INDEX, i))
            low = builder.lshr(low, next_step if i & 1 else step)
        return builder.bitcast(found, _few.kind)

    return _few(*[types.int64] * 2, *[types.uint64] * 5), generate


def _plain_windows(stream, bit, period, mask):
    bits = bit + np.arange(ROWS) * period
    words = [_seen(stream + (b >> 3), 4, np.uint8).view(np.uint32)[0] for b in bits]
    return np.array(words, np.int64) >> (bits & 7) & mask


@intrinsic(_plain_windows)
def windows_from(typing, stream, bit, period, mask):
    """Sixteen windows of a stream from ``bit`` on, each ``period`` bits after the one before."""

    def generate(context, builder, signature, args):
        stream, bit, period, mask = args
        byte, by = _place(builder, stream, bit)
        bits = builder.add(by, _steps(builder, period))
        three, seven = (ir.Constant(_WINDOWS, [n] * ROWS) for n in (3, 7))
        words = _gathered(builder, byte, builder.lshr(bits, three))
        return _masked(builder, words, builder.and_(bits, seven), mask)

    return _windows_type(*[types.int64] * 4), generate


@intrinsic(lambda stream, bit, mask: _plain_windows(stream, bit, 8, mask))
def windows_of_bytes(typing, stream, bit, mask):
    """`windows_from` for a period of 8 bits, with one load instead of a gather."""

    def generate(context, builder, signature, args):
        stream, bit, mask = args
        byte, by = _place(builder, stream, bit)
        loaded = builder.load(_at(builder, byte, ir.VectorType(_BYTE, REACH)))
        loaded.align = 1
        each = [i + j for i in range(ROWS) for j in range(4)]
        words = builder.bitcast(_shuffled(builder, loaded, each), _WINDOWS)
        return _masked(builder, words, by, mask)

    return _windows_type(*[types.int64] * 3), generate


def _steps(builder, period):
    """The numbers of bits from the first window to each."""
    numbers = ir.Constant(_WINDOWS, list(range(ROWS)))
    return builder.mul(_splat(builder, builder.trunc(period, _INDEX), ROWS), numbers)


def _place(builder, stream, bit):
    """Address of the byte of a bit, and the number of the bit in it, in all lanes."""
    byte = builder.add(stream, builder.ashr(bit, ir.Constant(_WORD, 3)))
    by = builder.trunc(builder.and_(bit, ir.Constant(_WORD, 7)), _INDEX)
    return byte, _splat(builder, by, ROWS)


def _masked(builder, words, by, mask):
    mask = _splat(builder, builder.trunc(mask, _INDEX), ROWS)
    return builder.and_(builder.lshr(words, by), mask)


def _plain_flipped(windows, bits, period):
    return windows ^ np.int64(bits & np.uint64(0xFFFFFFFF)) >> np.arange(ROWS) * period


@intrinsic(_plain_flipped)
def flipped(typing, windows, bits, period):
    """Windows with some of the first 32 bits that they see flipped: those set in a word."""

    def generate(context, builder, signature, args):
        windows, bits, period = args
        steps = _steps(builder, period)
        inside = builder.icmp_unsigned("<", steps, ir.Constant(_WINDOWS, [32] * ROWS))
        zero = ir.Constant(_WINDOWS, [0] * ROWS)
        each = _splat(builder, builder.trunc(bits, _INDEX), ROWS)
        flips = builder.lshr(each, builder.select(inside, steps, zero))
        return builder.xor(windows, builder.select(inside, flips, zero))

    return windows(windows, types.uint64, types.int64), generate


def _plain_fours(table, windows):
    rows = [_seen(table + 4 * row, 4, np.int8) for row in windows]
    return np.concatenate(rows).astype(np.float32)


@intrinsic(_plain_fours)
def fours_of(typing, table, windows):
    """Sixteen rows of an int8 table, as float32."""

    def generate(context, builder, signature, args):
        table, windows = args
        two = ir.Constant(_WINDOWS, [2] * ROWS)
        rows = _gathered(builder, table, builder.shl(windows, two))
        return builder.sitofp(builder.bitcast(rows, ir.VectorType(_BYTE, MANY)), _many.kind)

    return _many(types.int64, windows), generate


def _plain_bits(stream, nbytes, bit):
    byte = min(bit >> 3, nbytes - 8)
    return _seen(stream + byte, 1, np.uint64)[0] >> np.uint64(bit - 8 * byte & 63)


@intrinsic(_plain_bits)
def bits_from(typing, stream, nbytes, bit):
    """At least 57 bits of the stream from ``bit`` on, as far as it goes, in the low bits of a word.

    The stream has 8 bytes or more, in the order of all targets of Numba. There is no branch, which
    would cost more than it saves.
    """

    def generate(context, builder, signature, args):
        stream, nbytes, bit = args
        byte = builder.ashr(bit, ir.Constant(_WORD, 3))
        last = builder.sub(nbytes, ir.Constant(_WORD, 8))
        byte = builder.select(builder.icmp_signed("<", byte, last), byte, last)
        loaded = builder.load(_at(builder, builder.add(stream, byte), _WORD))
        loaded.align = 1
        by = builder.sub(bit, builder.shl(byte, ir.Constant(_WORD, 3)))
        return builder.lshr(loaded, builder.and_(by, ir.Constant(_WORD, 63)))

    return types.uint64(*[types.int64] * 3), generate


@intrinsic(lambda address: _seen(address, 1, np.float32)[0])
def real(typing, address):
    def generate(context, builder, signature, args):
        loaded = builder.load(_at(builder, args[0], ir.FloatType()))
        loaded.align = 4
        return loaded

    return types.float32(types.int64), generate
