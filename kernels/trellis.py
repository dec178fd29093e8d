"""Trellis-coded feedback quantization of one panel: the Viterbi search along each row.

The search labels states newest symbol lowest: symbol c of k bits takes state s to
``(s << k | c) mod 2**L``, the bits of a packed window reversed (`lplr.quantizers.trellis` owns
the packed labelling and reverses the table for this one). With these labels the states that a step
may come from form 2**k contiguous slices, and neighbouring states share their predecessors, so that
one vector operation advances sixteen states. For every ``g = s >> k``, step t keeps the least cost
of the path so far; the cost of a state and the best way back follow from it::

    cost[s] = before[s >> k] + table[s] * (table[s] - 2 x)
    next[g] = min over j < 2**K of cost[j << (L - K) | g]        K: width of the next symbol

The constant x**2 is left out, so that a far outlier does not cost the other entries their digits.
Numba does not vectorise the loops of sixteen, so the intrinsics below emit vector instructions,
which every target lowers to its own.
"""

# mypy: ignore-errors
# (An intrinsic is declared with a typing context that its callers do not pass.)

import numpy as np
from llvmlite import ir
from numba import float32, int64, types, uint8, void
from numba.extending import models, register_model

from lplr.kernels.jit import intrinsic, kernel

# Arguments that are only read have read-only types, which accept writable arrays as well.
_MATRIX = types.Array(float32, 2, "C", readonly=True)
_VALUES = types.Array(float32, 1, "C", readonly=True)
_WIDTHS = types.Array(int64, 1, "C", readonly=True)
_OUT = float32[:, ::1]

_LANES = 16
_REBASE = 16  # steps between subtractions of one cost from all; by then every state is reached
_FAR = np.float32(1e30)  # cost of a state where a search may not start


class _Lanes(types.Type):
    """Sixteen float32 in vector registers."""


_lanes = _Lanes("float32x16")
_VECTOR = ir.VectorType(ir.FloatType(), _LANES)
_INDEX = ir.IntType(32)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _VECTOR)


def _pointer(context, builder, array_type, array, at, kind):
    """Pointer to the data of ``array`` from entry ``at`` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())


def _spread(builder, vector, lanes):
    """Lane i of the result is lane ``lanes[i]`` of the vector."""
    mask = ir.Constant(ir.VectorType(_INDEX, _LANES), lanes)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


@intrinsic(lambda x: np.full(_LANES, x, np.float32))
def _splat(typing, x):
    """A float32 in all lanes."""

    def generate(context, builder, signature, args):
        empty = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(empty, args[0], ir.Constant(_INDEX, 0))
        return _spread(builder, one, [0] * _LANES)

    return _lanes(types.float32), generate


def _plain_load(array, at, k):
    return np.repeat(array[at : at + max(_LANES >> k, 1)], 1 << k)


@intrinsic(_plain_load, prefer_literal=True)
def _load(typing, array, at, k):
    """Entries from ``at`` on, each in 2**k lanes."""
    shift = k.literal_value

    def generate(context, builder, signature, args):
        kind = ir.VectorType(ir.FloatType(), max(_LANES >> shift, 1))
        loaded = builder.load(_pointer(context, builder, signature.args[0], *args[:2], kind))
        loaded.align = 4
        return _spread(builder, loaded, [i >> shift for i in range(_LANES)])

    return _lanes(array, types.int64, k), generate


@intrinsic(lambda array, at, value: array[at : at + _LANES].__setitem__(slice(None), value))
def _store(typing, array, at, value):
    def generate(context, builder, signature, args):
        place = _pointer(context, builder, signature.args[0], *args[:2], _VECTOR)
        builder.store(args[2], place).align = 4
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


@intrinsic(lambda value, double, before: before + value * (value - double))
def _cost(typing, value, double, before):
    """``before + value * (value - double)``"""

    def generate(context, builder, signature, args):
        value, double, before = args
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fmuladd.v{_LANES}f32"  # split on a target without the instruction
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, [value, builder.fsub(value, double), before])

    return _lanes(value, double, before), generate


@intrinsic(np.minimum)
def _min(typing, x, y):
    def generate(context, builder, signature, args):
        x, y = args
        return builder.select(builder.fcmp_ordered("<", x, y), x, y)

    return _lanes(x, y), generate


@kernel(inline="always")
def _least(before, table, double, g, m, pairs, k, lanes):
    """Least costs of the ways into the sixteen ``g`` from ``g`` on; ``lanes`` is min(k, 4)."""
    even = odd = _splat(np.float32(np.inf))  # two chains, so that neither waits for itself
    s = g
    for _ in range(pairs):
        even = _min(even, _cost(_load(table, s, 0), double, _load(before, s >> k, lanes)))
        s += m
        odd = _min(odd, _cost(_load(table, s, 0), double, _load(before, s >> k, lanes)))
        s += m
    return _min(even, odd)


@kernel
def _advance(before, table, double, state_bits, k, k_next, after):
    """One step: the least costs ``after`` from those ``before``; ``double`` is 2 x."""
    m = 1 << (state_bits - k_next)
    if m < _LANES:
        for g in range(m):
            least = np.float32(np.inf)
            for j in range(1 << k_next):
                s = j * m + g
                least = min(least, before[s >> k] + table[s] * (table[s] - double))
            after[g] = least
        return
    x = _splat(double)
    pairs = 1 << (k_next - 1)
    if k == 1:
        for g in range(0, m, _LANES):
            _store(after, g, _least(before, table, x, g, m, pairs, 1, 1))
    elif k == 2:
        for g in range(0, m, _LANES):
            _store(after, g, _least(before, table, x, g, m, pairs, 2, 2))
    elif k == 3:
        for g in range(0, m, _LANES):
            _store(after, g, _least(before, table, x, g, m, pairs, 3, 3))
    else:
        for g in range(0, m, _LANES):
            _store(after, g, _least(before, table, x, g, m, pairs, k, 4))


@kernel
def _search(x, first, count, widths, table, state_bits, start, end, until, best, codes, values):
    """Cheapest path over ``count`` entries from ``first`` on, going on at 0 after the last entry.

    ``start`` and ``end`` are ``state >> width of the next symbol`` before the first and after the
    last step, or -1 for any. Symbols and values are written from step ``until`` on; returns
    ``state >> width`` before that step. ``best`` is (count + 1, 2**(state_bits - least width)).
    """
    n = len(x)
    k = widths[first % n & 3]
    for g in range(1 << (state_bits - k)):
        best[0, g] = 0 if start < 0 else _FAR
    if start >= 0:
        best[0, start] = 0
    at = first
    for t in range(count):
        after = 0 if at + 1 == n else at + 1
        k, k_next = widths[at & 3], widths[after & 3]
        if t % _REBASE == 0 and t > 0:
            base = best[t, 0]
            for g in range(1 << (state_bits - k)):
                best[t, g] -= base
        _advance(best[t], table, 2 * x[at], state_bits, k, k_next, best[t + 1])
        at = after

    k_next = widths[at & 3]
    g = end
    if end < 0:
        g = 0
        for i in range(1 << (state_bits - k_next)):
            if best[count, i] < best[count, g]:
                g = i
    for t in range(count - 1, until - 1, -1):
        at = n - 1 if at == 0 else at - 1
        k = widths[at & 3]
        double = 2 * x[at]
        least, state = np.float32(np.inf), g
        for j in range(1 << k_next):
            s = j << (state_bits - k_next) | g
            cost = best[t, s >> k] + table[s] * (table[s] - double)
            if cost < least:
                least, state = cost, s
        code = 0
        for i in range(k):
            code = code << 1 | (state >> i & 1)
        codes[at] = code
        values[at] = table[state]
        g, k_next = state >> k, k
    return g


@kernel(
    [
        void(
            *(_MATRIX, _MATRIX, _MATRIX, _WIDTHS, _VALUES, int64, _VALUES),
            *(_OUT, _OUT, _OUT, uint8[:, ::1]),
        )
    ]
)
def trellis_panel(target, base, coeff, widths, table, wrap, scale, best, work, error, codes):
    """Quantize the rows of a panel from last to first; each row is one sequence.

    For each row k, from the last to the first::

        y = target[k] + sum over j > k of coeff[j, k] * error[j]
        codes[k] = symbols of the path whose values q are nearest to y / scale[k]
        error[k] = base[k] - scale[k] * q

    ``target``, ``base`` and ``error``, which is written, are float32 (p, n), ``codes`` uint8
    (p, n). Only the part below the diagonal of ``coeff``, float32 (p, p), is read; it is (0, 0) for
    no feedback. Symbol t has ``widths[t % 4]`` bits, int64, 1 to 6. ``table``, float32 (2**L,), has
    the value of each state, newest symbol lowest. No ``scale``, float32 (p,), is negative; 0 makes
    the values 0.

    If ``wrap`` is 0, a sequence starts from state 0. Otherwise it is tail-biting: it starts from
    the state at its end. A first search finds this state, from ``wrap`` entries before the end to
    as many after the start; ``wrap`` is at most n, and the sequence has at least L bits.

    ``best``, float32 (max(n, 2 wrap) + 1, max(16, 2**(L - least width))), and ``work``, float32
    (2, n), are scratch. Each row of ``table`` and ``best`` should start on a multiple of 64 bytes,
    since a vector that straddles two cache lines takes twice as long to load.
    """
    p, n = target.shape
    state_bits = 0
    while 1 << state_bits < len(table):
        state_bits += 1
    y, values = work
    for k in range(p - 1, -1, -1):
        s = scale[k]
        inverse = np.float32(1.0) / s if s > 0 else np.float32(0.0)
        for i in range(n):
            y[i] = target[k, i]
        for j in range(k + 1, len(coeff)):
            c = coeff[j, k]
            for i in range(n):
                y[i] += c * error[j, i]
        for i in range(n):
            y[i] *= inverse
        state = 0
        if wrap > 0:
            first, count = (n - wrap) % n, 2 * wrap
            state = _search(
                y, first, count, widths, table, state_bits, -1, -1, wrap, best, codes[k], values
            )
        end = state if wrap > 0 else -1
        _search(y, 0, n, widths, table, state_bits, state, end, 0, best, codes[k], values)
        for i in range(n):
            error[k, i] = base[k, i] - s * values[i]
