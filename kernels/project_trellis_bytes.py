"""Products with packed trellis sequences of two bits per entry, at the speed of memory.

Four consecutive entries fill one byte of the stream. Their windows end in this byte and reach back
L - 2 bits before it, so one table of 2**(L + 6) rows gives all four values, as int8 multiples of a
step. The table takes 2**(L + 8) bytes and stays in the second-level cache up to L = 12. Sixteen
entries cost one word of the stream, four loads of four bytes, a conversion and a multiply-add of
whole registers. The intrinsics emit these vector instructions.
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
_TABLE = types.Array(int8, 2, "C", readonly=True)
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


def _pointer(context, builder, array_type, array, at, kind):
    """Pointer to the data of ``array`` from entry ``at`` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())


@intrinsic(lambda x: np.full(_LANES, x, np.float32))
def _splat(typing, x):
    """A float32 in all lanes."""

    def generate(context, builder, signature, args):
        empty = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(empty, args[0], ir.Constant(_INDEX, 0))
        mask = ir.Constant(ir.VectorType(_INDEX, _LANES), [0] * _LANES)
        return builder.shuffle_vector(one, empty, mask)

    return _sixteen(types.float32), generate


@intrinsic(lambda array, at: array[at : at + _LANES].copy())
def _load(typing, array, at):
    def generate(context, builder, signature, args):
        loaded = builder.load(_pointer(context, builder, signature.args[0], *args, _VECTOR))
        loaded.align = 4
        return loaded

    return _sixteen(array, types.int64), generate


@intrinsic(lambda array, at, value: array[at : at + _LANES].__setitem__(slice(None), value))
def _store(typing, array, at, value):
    def generate(context, builder, signature, args):
        place = _pointer(context, builder, signature.args[0], *args[:2], _VECTOR)
        builder.store(args[2], place).align = 4
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


def _plain_rows(table, word, mask):
    numbers = [word >> np.uint64(8 * i) & mask for i in range(4)]
    return table[numbers].ravel().astype(np.float32)


@intrinsic(_plain_rows)
def _rows(typing, table, word, mask):
    """Four rows of an int8 table, as float32: those numbered ``word >> 8 i & mask``."""

    def generate(context, builder, signature, args):
        table, word, mask = args
        data = context.make_array(signature.args[0])(context, builder, table).data
        rows = builder.bitcast(data, _INDEX.as_pointer())
        taken = ir.Constant(ir.VectorType(_INDEX, 4), ir.Undefined)
        for i in range(4):
            number = builder.and_(builder.lshr(word, ir.Constant(word.type, 8 * i)), mask)
            row = builder.load(builder.gep(rows, [number]))
            row.align = 1
            taken = builder.insert_element(taken, row, ir.Constant(_INDEX, i))
        bytes_ = builder.bitcast(taken, ir.VectorType(ir.IntType(8), _LANES))
        return builder.sitofp(bytes_, _VECTOR)

    return _sixteen(table, types.uint64, types.uint64), generate


@intrinsic(lambda x, y, z: x * y + z)
def _multiply_add(typing, x, y, z):
    """``x * y + z``"""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fmuladd.v{_LANES}f32"  # split on a target without the instruction
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, args)

    return _sixteen(x, y, z), generate


@kernel(inline="always")
def _word(packed, byte):
    """The 4 bytes of 16 entries, which start at ``byte``, above the 4 bytes before them."""
    at = np.uint64(byte - 4)  # unsigned, so that Numba tests for no negative index
    word = np.uint64(0)
    for i in range(8):  # LLVM makes it a single load
        word |= np.uint64(packed[at + np.uint64(i)]) << np.uint64(8 * i)
    return word


@kernel(inline="always")
def _first_word(packed, byte, size, wraps):
    """As `_word` at the start of a sequence, after the bytes at its end or after zeros."""
    word = np.uint64(0)
    for i in range(4):
        word |= np.uint64(packed[np.uint64(byte + i)]) << np.uint64(32 + 8 * i)
        if wraps:
            word |= np.uint64(packed[np.uint64(byte + size - 4 + i)]) << np.uint64(8 * i)
    return word


@kernel([void(_BYTES, int64, types.boolean, _TABLE, int64, float32, _VALUES, float32[::1])])
def multiply_bytes(packed, size, wraps, table, start, step, x, out):
    """Add the sum of all sequences, each times an entry of a vector.

    ``out[t] += step * sum over i of x[i] * (number in entry start + t of sequence i)``

    ``packed`` is uint8 (m * size,), with ``size`` bytes for each sequence, at least 4. ``table``,
    int8 (2**(L + 6), 4), has the numbers of four entries, by their joint window. ``step`` and ``x``
    (m,) are float32; ``out``, float32 (n,), is updated; n and ``start``, the first entry, are
    multiples of 16.
    """
    bits = 0
    while 1 << bits < len(table):
        bits += 1
    shift, mask = np.uint64(40 - bits), np.uint64(len(table) - 1)
    n = len(out)
    for i in range(len(x)):
        factor = _splat(step * x[i])
        byte = i * size + (start >> 2)
        t = 0
        if start == 0:
            word = _first_word(packed, byte, size, wraps) >> shift
            _store(out, 0, _multiply_add(factor, _rows(table, word, mask), _load(out, 0)))
            t = 16
        while t < n:
            word = _word(packed, byte + (t >> 2)) >> shift
            _store(out, t, _multiply_add(factor, _rows(table, word, mask), _load(out, t)))
            t += 16


@kernel([void(_BYTES, int64, int64, types.boolean, _TABLE, float32, _VALUES, float32[::1])])
def multiply_bytes_transposed(packed, sequence, size, wraps, table, step, y, out):
    """Inner products of consecutive sequences, from number ``sequence`` on, with a vector.

    ``out[i] = step * sum over t of (number in entry t of sequence (sequence + i)) * y[t]``

    ``y`` is float32 (n,), n a multiple of 16, ``out`` is float32 (m,); see `multiply_bytes`.
    """
    bits = 0
    while 1 << bits < len(table):
        bits += 1
    shift, mask = np.uint64(40 - bits), np.uint64(len(table) - 1)
    lanes = np.empty(_LANES, np.float32)
    for i in range(len(out)):
        byte = (sequence + i) * size
        word = _first_word(packed, byte, size, wraps) >> shift
        zero = _splat(np.float32(0.0))
        total = _multiply_add(_rows(table, word, mask), _load(y, 0), zero)
        t = 16
        while t < len(y):
            word = _word(packed, byte + (t >> 2)) >> shift
            total = _multiply_add(_rows(table, word, mask), _load(y, t), total)
            t += 16
        _store(lanes, 0, total)
        sum_ = np.float32(0.0)
        for lane in lanes:
            sum_ += lane
        out[i] = step * sum_
