"""Products with matrices of packed E8P code words, and their decoding, at the speed of memory.

A code word selects one row of eight int8 from a table, or one row from each of two tables in the
residual forms. The large table takes 512 KB and stays in the second-level cache; a code word costs
one load of eight bytes, a conversion and a multiply-add of a whole register. Numba does not
vectorise a loop over eight entries, so the intrinsics below emit LLVM instructions for vectors of
eight, which every target lowers to its own instructions.

Code words are read where they are packed, as little-endian integers of ``stride`` bytes. The index
into a table is ``(16-bit integer at byte `at` of the code word) >> shift``:

    first stage   at 0, shift 0          second stage of 24 bits   at 1, shift 8
                                         second stage of 32 bits   at 2, shift 0
"""

# mypy: ignore-errors
# (An intrinsic is declared with a typing context that its callers do not pass.)

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from lplr.kernels.jit import intrinsic, kernel
from lplr.kernels.project_tile import add_tile

_TILE = 64  # code words transposed together: their points take 2 KB
_GROUPS, _COLUMNS = 8, 64  # code words that are expanded together for several vectors: 16 KB
_STRIP = 512  # columns handled together: eight partial sums for each take 16 KB


class _Float8(types.Type):
    """Eight float32 in a vector register."""


_float8 = _Float8("float8")
_VECTOR = ir.VectorType(ir.FloatType(), 8)
_INDEX = ir.IntType(32)


@register_model(_Float8)
class _Float8Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _VECTOR)


def _pointer(context, builder, array_type, array, row, vector):
    """Pointer to ``array[8 * row : 8 * row + 8]`` of the data, as to a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [builder.mul(row, ir.Constant(row.type, 8))])
    return builder.bitcast(first, vector.as_pointer())


def _shuffle(builder, vector, lanes):
    mask = ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


@intrinsic(lambda: np.zeros(8, np.float32))
def _zero(typing):
    def generate(context, builder, signature, args):
        return ir.Constant(_VECTOR, [0.0] * 8)

    return _float8(), generate


@intrinsic(lambda array, row: array[row].astype(np.float32))
def _load(typing, array, row):
    """Row ``row`` of an int8 or float32 array of rows of eight, as float32."""

    def generate(context, builder, signature, args):
        vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), 8)
        loaded = builder.load(_pointer(context, builder, signature.args[0], *args, vector))
        loaded.align = signature.args[0].dtype.bitwidth // 8
        return loaded if vector == _VECTOR else builder.sitofp(loaded, _VECTOR)

    return _float8(array, types.int64), generate


@intrinsic(lambda array, row, value: array.__setitem__(row, value))
def _store(typing, array, row, value):
    """Write to row ``row`` of a float32 array of rows of eight."""

    def generate(context, builder, signature, args):
        place = _pointer(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        builder.store(args[2], place).align = 4
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


@intrinsic(lambda x, y, z: x * y + z)
def _multiply_add(typing, x, y, z):
    """``x * y + z``; x may be a float32, for all eight."""

    def generate(context, builder, signature, args):
        x, y, z = args
        if signature.args[0] != _float8:
            empty = ir.Constant(_VECTOR, ir.Undefined)
            one = builder.insert_element(empty, x, ir.Constant(_INDEX, 0))
            x = _shuffle(builder, one, [0] * 8)
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        # Unlike llvm.fma, this one is split on a target without the instruction.
        function = builder.module.globals.get("llvm.fmuladd.v8f32") or ir.Function(
            builder.module, kind, "llvm.fmuladd.v8f32"
        )
        return builder.call(function, [x, y, z])

    return _float8(x, _float8, _float8), generate


@intrinsic(lambda x: x.reshape(2, 2, 2).sum(0).sum(0).sum(0))
def _sum(typing, x):
    """Sum of the eight, by halves."""

    def generate(context, builder, signature, args):
        total = args[0]
        for half in (4, 2, 1):
            low = _shuffle(builder, total, list(range(half)))
            total = builder.fadd(low, _shuffle(builder, total, list(range(half, 2 * half))))
        return builder.extract_element(total, ir.Constant(_INDEX, 0))

    return types.float32(x), generate


@kernel(inline="always")
def _index(packed, byte, shift):
    """The index at ``byte``, whose type is unsigned so that Numba tests for no negative one."""
    low, high = np.uint64(byte), np.uint64(byte + 1)
    return (np.int64(packed[low]) | np.int64(packed[high]) << 8) >> shift


@kernel(inline="always")
def _point(packed, byte, at, shift, step, points, tail):
    """The point of the code word at ``byte``; see `decode`."""
    quarter = np.float32(0.25)
    value = _multiply_add(quarter, _load(points, _index(packed, byte, 0)), _zero())
    if len(tail) > 1:
        second = _load(tail, _index(packed, byte + at, shift))
        value = _multiply_add(quarter * step, second, value)
    return value


@kernel
def decode(packed, stride, first, at, shift, step, points, tail, out):
    """Points of consecutive code words from number ``first`` on, in code units, to ``out``.

    ``packed`` is uint8, with ``stride`` bytes per code word; ``at`` and ``shift`` say where the
    index of the second stage is, and ``step``, float32, is its scale. ``points``, int8 (65536, 8),
    hold the first stage times 4, ``tail``, int8 (1 or 256 or 65536, 8), the second one, or a single
    row for none. ``out`` is float32 (n, 8).
    """
    for i in range(len(out)):
        _store(out, i, _point(packed, (first + i) * stride, at, shift, step, points, tail))


@kernel
def decode_columns(packed, stride, first, at, shift, step, points, tail, out):
    """As `decode`, for code words whose entries lie down a column: (g, j) goes to out[8 g :, j].

    ``out`` is float32 (8 m, d); ``first`` is the number of the code word at its corner.
    """
    d = out.shape[1]
    tile = np.empty((_TILE, 8), np.float32)
    for g in range(out.shape[0] // 8):
        for start in range(0, d, _TILE):
            n = min(_TILE, d - start)
            word = first + g * d + start
            decode(packed, stride, word, at, shift, step, points, tail, tile[:n])
            for i in range(8):
                row = out[8 * g + i, start : start + n]
                for j in range(n):
                    row[j] = tile[j, i]


@kernel
def multiply(packed, stride, first, at, shift, factor, table, x, out):
    """Add ``factor`` times the product of one stage with a vector; code words lie down columns.

    ``out[8 g : 8 g + 8] += factor * sum over j of table[index of word (g, j)] * x[j]``

    ``packed``, ``stride`` and ``first`` are those of `decode`; ``at`` and ``shift`` say where the
    index is. ``factor`` and ``x`` (d,) are float32, ``table`` is int8 (256 or 65536, 8), and
    ``out``, float32 (m, 8), is updated.
    """
    d = len(x)
    m = len(out)
    for g in range(0, m, 4):
        # Four groups are read together; at the end, the last one replaces missing ones.
        b0 = (first + g * d) * stride + at
        b1 = (first + min(g + 1, m - 1) * d) * stride + at
        b2 = (first + min(g + 2, m - 1) * d) * stride + at
        b3 = (first + min(g + 3, m - 1) * d) * stride + at
        y0 = y1 = y2 = y3 = _zero()
        for j in range(d):
            xj = x[j]
            y0 = _multiply_add(xj, _load(table, _index(packed, b0, shift)), y0)
            y1 = _multiply_add(xj, _load(table, _index(packed, b1, shift)), y1)
            y2 = _multiply_add(xj, _load(table, _index(packed, b2, shift)), y2)
            y3 = _multiply_add(xj, _load(table, _index(packed, b3, shift)), y3)
            b0, b1, b2, b3 = b0 + stride, b1 + stride, b2 + stride, b3 + stride
        _store(out, g, _multiply_add(factor, y0, _load(out, g)))
        if g + 1 < m:
            _store(out, g + 1, _multiply_add(factor, y1, _load(out, g + 1)))
        if g + 2 < m:
            _store(out, g + 2, _multiply_add(factor, y2, _load(out, g + 2)))
        if g + 3 < m:
            _store(out, g + 3, _multiply_add(factor, y3, _load(out, g + 3)))


@kernel
def multiply_many(packed, stride, first, at, shift, step, points, tail, words, X, out):
    """Add the product with several vectors; code words lie down columns.

    The first arguments are those of `decode`; ``words`` is the number of rows of code words. ``X``
    is float32 (d, c), c a multiple of `VECTORS`; ``out``, float32 (c, 8 m), gets the transposed
    result, where m, a multiple of 4, rounds ``words`` up; what is beyond means nothing.
    """
    d = len(X)
    tile = np.zeros((_COLUMNS * _GROUPS, 8), np.float32)
    sums, decoded = out.reshape(-1), tile.reshape(-1)
    for g in range(0, words, _GROUPS):
        groups = min(_GROUPS, words - g)
        for start in range(0, d, _COLUMNS):
            n = min(_COLUMNS, d - start)
            for i in range(groups):
                byte = (first + (g + i) * d + start) * stride
                for j in range(n):
                    point = _point(packed, byte, at, shift, step, points, tail)
                    _store(tile, j * _GROUPS + i, point)
                    byte += stride
            own, rows = decoded[: 8 * _GROUPS * n], (8 * groups + 31) // 32 * 32
            add_tile(own, 8 * _GROUPS, X, start, sums, 8 * g, rows)


@kernel
def multiply_transposed(packed, stride, first, at, shift, factor, table, y, out):
    """Add ``factor`` times the product of the transpose of one stage with a vector; see `multiply`.

    ``out[j] += factor * sum over g of <table[index of word (g, j)], y[8 g : 8 g + 8]>``

    ``y`` is float32 (m, 8), and ``out``, float32 (d,), is updated.
    """
    d = len(out)
    m = len(y)
    lanes = np.empty((_STRIP, 8), np.float32)  # for each column, eight partial sums over g
    for start in range(0, d, _STRIP):
        n = min(_STRIP, d - start)
        lanes[:n] = 0
        for g in range(0, m, 4):
            b0 = (first + g * d + start) * stride + at
            b1 = (first + min(g + 1, m - 1) * d + start) * stride + at
            b2 = (first + min(g + 2, m - 1) * d + start) * stride + at
            b3 = (first + min(g + 3, m - 1) * d + start) * stride + at
            y0 = _load(y, g)
            y1 = _load(y, g + 1) if g + 1 < m else _zero()
            y2 = _load(y, g + 2) if g + 2 < m else _zero()
            y3 = _load(y, g + 3) if g + 3 < m else _zero()
            for j in range(n):
                z = _multiply_add(y0, _load(table, _index(packed, b0, shift)), _load(lanes, j))
                z = _multiply_add(y1, _load(table, _index(packed, b1, shift)), z)
                z = _multiply_add(y2, _load(table, _index(packed, b2, shift)), z)
                z = _multiply_add(y3, _load(table, _index(packed, b3, shift)), z)
                _store(lanes, j, z)
                b0, b1, b2, b3 = b0 + stride, b1 + stride, b2 + stride, b3 + stride
        for j in range(n):
            out[start + j] += factor * _sum(_load(lanes, j))
