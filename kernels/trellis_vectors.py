"""Vector instructions for trellis codes: windows of a bit stream, rows of tables, multiply-adds.

Numba would not vectorise these, so they are LLVM instructions for vectors of 8, 16 or 32 entries,
and every target lowers them to its own. Streams and tables are given by the address of their first
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

ROWS = 8  # of a table that are read together
FEW, MANY = 2 * ROWS, 4 * ROWS  # their entries: pairs, and fours
_BYTE, _HALF, _INDEX, _WORD = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_WORDS = ir.VectorType(_WORD, ROWS)


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
_words = _Vector(_WORDS)


def _seen(address, count, dtype):
    """Memory from an address on, as plain Python sees it."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(int(address)), dtype)


def _at(builder, address, kind):
    """Pointer to a value of some kind."""
    return builder.inttoptr(address, kind.as_pointer())


def _shuffled(builder, vector, lanes, other=None):
    mask = ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes)
    other = other or ir.Constant(vector.type, ir.Undefined)
    return builder.shuffle_vector(vector, other, mask)


def _splat(builder, value, lanes):
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(_INDEX, 0))
    return _shuffled(builder, one, [0] * lanes)


def _joined(builder, values):
    """A vector of these scalars."""
    vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        vector = builder.insert_element(vector, value, ir.Constant(_INDEX, i))
    return vector


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


def _plain_turns(low, high, step, next_step):
    steps = np.cumsum([0, step, next_step, step])
    return np.concatenate([low + steps, high + steps]).astype(np.int64)


@intrinsic(_plain_turns)
def turns_of(typing, low, high, step, next_step):
    """Where eight windows begin in two words: from bits ``low`` and ``high`` on, four in each."""

    def generate(context, builder, signature, args):
        *starts, step, next_step = args
        both = builder.add(step, next_step)
        zero = ir.Constant(_WORD, 0)
        steps = [zero, step, both, builder.add(both, step)]
        return _joined(builder, [builder.add(start, by) for start in starts for by in steps])

    return _words(*[types.int64] * 4), generate


@intrinsic(lambda even, odd: np.array([even, odd] * (ROWS // 2), np.int64))
def in_turn(typing, even, odd):
    """Two integers in turn, for eight rows."""

    def generate(context, builder, signature, args):
        return _joined(builder, list(args) * (ROWS // 2))

    return _words(types.int64, types.int64), generate


def _plain_rows(low, high, turns, masks, tables):
    words = np.repeat(np.array([low, high], np.uint64), ROWS // 2)
    return tables | 4 * ((words >> turns.astype(np.uint64)).astype(np.int64) & masks)


@intrinsic(_plain_rows)
def rows_of(typing, low, high, turns, masks, tables):
    """Addresses of the rows of 32 bits that eight windows of two words select in tables.

    A table of n bytes, a power of two, lies on a multiple of n: then or does for plus.
    """

    def generate(context, builder, signature, args):
        low, high, turns, masks, tables = args
        lanes = [*range(ROWS // 2), *range(ROWS + ROWS // 2, 2 * ROWS)]
        words = _shuffled(builder, _splat(builder, low, ROWS), lanes, _splat(builder, high, ROWS))
        # One turn of a word brings a window to bit 2, where it counts bytes.
        two = ir.Constant(_WORDS, [2] * ROWS)
        turn = _function(builder, f"llvm.fshr.v{ROWS}i64", _WORDS, [_WORDS] * 3)
        windows = builder.call(turn, [words, words, builder.sub(turns, two)])
        return builder.or_(builder.and_(windows, builder.shl(masks, two)), tables)

    return _words(types.uint64, types.uint64, turns, masks, tables), generate


def _values_of(dtype, integers, vector):
    """An intrinsic that reads eight rows of 32 bits of some integers, as float32."""
    count = 4 // np.dtype(dtype).itemsize

    def plain(rows):
        return np.concatenate([_seen(row, count, dtype) for row in rows]).astype(np.float32)

    @intrinsic(plain)
    def values(typing, rows):
        def generate(context, builder, signature, args):
            pointers = ir.VectorType(_INDEX.as_pointer(), ROWS)
            flags, found = (ir.VectorType(kind, ROWS) for kind in (ir.IntType(1), _INDEX))
            name = f"llvm.masked.gather.v{ROWS}i32.v{ROWS}p0i32"
            gather = _function(builder, name, found, [pointers, _INDEX, flags, found])
            places, align = builder.inttoptr(args[0], pointers), ir.Constant(_INDEX, 4)
            everywhere, nothing = ir.Constant(flags, [1] * ROWS), ir.Constant(found, ir.Undefined)
            read = builder.call(gather, [places, align, everywhere, nothing])
            kind = ir.VectorType(integers, count * ROWS)
            return builder.sitofp(builder.bitcast(read, kind), vector.kind)

        return vector(rows), generate

    return values


pairs_of, fours_of = _values_of(np.int16, _HALF, _few), _values_of(np.int8, _BYTE, _many)


def _reader(dtype, kind, found):
    """An intrinsic that reads a number at an address; words are little-endian on all targets."""

    @intrinsic(lambda address: _seen(address, 1, dtype)[0])
    def read(typing, address):
        def generate(context, builder, signature, args):
            loaded = builder.load(_at(builder, args[0], kind))
            loaded.align = 1
            return loaded

        return found(types.int64), generate

    return read


byte_at = _reader(np.uint8, _BYTE, types.uint8)
word_at = _reader(np.uint64, _WORD, types.uint64)
real = _reader(np.float32, ir.FloatType(), types.float32)
