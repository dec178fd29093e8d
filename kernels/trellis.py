"""Trellis-coded feedback quantization of one panel: the Viterbi search along each row.

The search labels states newest symbol lowest: symbol c of k bits takes state s to
``(s << k | c) mod 2**L``, the bits of a packed window reversed (`lplr.quantizers.trellis` owns
the packed labelling and reverses the table for this one). For every ``g = s >> k``, step t keeps
the least cost of the path so far; the cost of a state and the best way back follow from it::

    cost[s] = before[s >> k] + (x - table[s])**2
    next[g] = min over j < 2**K of cost[j << (L - K) | g]        K: width of the next symbol

Costs are integers of 16 bits, so 32 of them fit a register, and every processor finds the same
paths. Tables and x are integers as well, and the square of a difference is shifted by 16 bits; see
`lplr.quantizers.trellis.Trellis` for the unit. Costs that grow too large stay at `_MOST`, which is
hundreds of times what a step costs, and every few steps the least one is subtracted from all.

A vector is 32 neighbouring states. They have 32 / 2**k neighbouring predecessors, each with all
symbols, so the table of width k lists them symbol by symbol: then the costs before are a few
entries of memory, repeated, and only each result is brought back into the order of the states.
Numba does not vectorise such loops, so the intrinsics below emit vector instructions, which every
target lowers to its own.
"""

# mypy: ignore-errors
# (An intrinsic is declared with a typing context that its callers do not pass.)

import ctypes

import numpy as np
from llvmlite import ir
from numba import float32, int16, int64, types, uint8, uint16, void
from numba.extending import models, register_model

from lplr.kernels.jit import intrinsic, kernel

# Arguments that are only read have read-only types, which accept writable arrays as well.
_MATRIX = types.Array(float32, 2, "C", readonly=True)
_VALUES = types.Array(float32, 1, "C", readonly=True)
_WIDTHS = types.Array(int64, 1, "C", readonly=True)
_TABLES = types.Array(int16, 1, "C", readonly=True)
_OUT = float32[:, ::1]

_LANES = 32
_FULL = 1 << 15  # what a signed number of 16 bits does not reach
_MOST = 0xFFFF - (_FULL * _FULL >> 16)  # a square is added to it
_REBASE = 8  # steps between subtractions of the least cost
_FAR = 1 << 20  # more than any cost


class _Lanes(types.Type):
    """Thirty-two integers of 16 bits in vector registers."""


_lanes = _Lanes("int16x32")
_SHORT, _INDEX = ir.IntType(16), ir.IntType(32)
_VECTOR, _WIDE = (ir.VectorType(kind, _LANES) for kind in (_SHORT, _INDEX))


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _VECTOR)


def _seen(address, count):
    """Memory from an address on, as plain Python sees it."""
    return np.frombuffer((ctypes.c_uint16 * count).from_address(address), np.uint16)


def _pointer(builder, address, at, kind):
    """Pointer to a vector that begins ``at`` entries of 16 bits after an address."""
    first = builder.inttoptr(address, _SHORT.as_pointer())
    return builder.bitcast(builder.gep(first, [at]), kind.as_pointer())


def _shuffled(builder, vector, lanes):
    """Lane i of the result is lane ``lanes[i]`` of the vector."""
    mask = ir.Constant(ir.VectorType(_INDEX, _LANES), lanes)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _called(builder, name, *arguments):
    """An intrinsic of LLVM for vectors; it is split on a target without the instruction."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(arguments))
    name = f"llvm.{name}.v{_LANES}i16"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


@intrinsic(lambda x: np.full(_LANES, x & 0xFFFF, np.uint16))
def _splat(typing, x):
    """The low 16 bits of an integer in all lanes."""

    def generate(context, builder, signature, args):
        empty = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.trunc(args[0], _SHORT)
        one = builder.insert_element(empty, one, ir.Constant(_INDEX, 0))
        return _shuffled(builder, one, [0] * _LANES)

    return _lanes(types.int64), generate


def _plain_load(address, at, k):
    part = _seen(address + 2 * at, max(_LANES >> k, 1))
    return np.tile(part, _LANES // len(part))


@intrinsic(_plain_load, prefer_literal=True)
def _load(typing, address, at, k):
    """32 / 2**k entries from ``at`` on, repeated to fill the lanes."""
    count = max(_LANES >> k.literal_value, 1)

    def generate(context, builder, signature, args):
        loaded = builder.load(_pointer(builder, *args[:2], ir.VectorType(_SHORT, count)))
        loaded.align = 2
        return _shuffled(builder, loaded, [i % count for i in range(_LANES)])

    return _lanes(types.int64, types.int64, k), generate


def _plain_store(address, at, value, k):
    _seen(address + 2 * at, _LANES)[:] = value.reshape(-1, max(_LANES >> k, 1)).T.ravel()


@intrinsic(_plain_store, prefer_literal=True)
def _store(typing, address, at, value, k):
    """Store lanes that are sorted by symbols of k bits in the order of states."""
    count = max(_LANES >> k.literal_value, 1)

    def generate(context, builder, signature, args):
        order = np.arange(_LANES).reshape(-1, count).T.ravel()
        place = _pointer(builder, *args[:2], _VECTOR)
        builder.store(_shuffled(builder, args[2], order.tolist()), place).align = 2
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, value, k), generate


@intrinsic(np.minimum)
def _min(typing, x, y):
    def generate(context, builder, signature, args):
        return _called(builder, "umin", *args)

    return _lanes(x, y), generate


@intrinsic(np.subtract)
def _subtract(typing, x, y):
    def generate(context, builder, signature, args):
        return builder.sub(*args)

    return _lanes(x, y), generate


def _plain_way(least, before, x, values, doublings):
    d = x.view(np.int16).astype(np.int64) - values.view(np.int16)
    one, other = (np.clip(d << by, -_FULL, _FULL - 1) for by in (min(doublings, 1), doublings))
    return np.minimum(least, before + (one * other >> 16).astype(np.uint16))


@intrinsic(_plain_way, prefer_literal=True)
def _way(typing, least, before, x, values, doublings):
    """The lesser of ``least`` and ``before`` plus the square of ``x - values``; see `_square`."""

    def generate(context, builder, signature, args):
        least, before, x, values, _ = args
        one = other = _called(builder, "ssub.sat", x, values)
        for i in range(doublings.literal_value):
            other = _called(builder, "sadd.sat", other, other)
            one = one if i else other
        wide = builder.mul(builder.sext(one, _WIDE), builder.sext(other, _WIDE))
        wide = builder.lshr(wide, ir.Constant(_WIDE, [16] * _LANES))
        cost = builder.add(before, builder.trunc(wide, _VECTOR))
        return _called(builder, "umin", least, cost)

    return _lanes(least, before, x, values, doublings), generate


@kernel(inline="always")
def _square(d, doublings):
    """``d**2 / 2**16`` of a difference, times a power of 4, as the vectors have it.

    They double d ``doublings`` times, but one factor at most once, so that squares go on growing,
    as a line. What leaves 16 bits becomes the nearest number there is.
    """
    size, largest = abs(d), _FULL - (d > 0)
    one = min(size << min(doublings, 1), largest)
    return one * min(size << doublings, largest) >> 16


@intrinsic(lambda x: int(x.min()))
def _least_lane(typing, x):
    def generate(context, builder, signature, args):
        kind = ir.FunctionType(_SHORT, [_VECTOR])
        name = f"llvm.vector.reduce.umin.v{_LANES}i16"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.zext(builder.call(function, args), ir.IntType(64))

    return types.int64(x), generate


@kernel(inline="always")
def _advance_by(before, after, table, x, size, pairs, k, lanes, doublings):
    """`_advance` with what the compiler has to know: ``doublings``, and min(k, 5) as ``lanes``."""
    for g in range(0, size, _LANES):
        even = odd = _splat(_MOST)  # two chains, so that neither waits for itself
        s = g
        for _ in range(pairs):
            even = _way(even, _load(before, s >> k, lanes), x, _load(table, s, 0), doublings)
            s += size
            odd = _way(odd, _load(before, s >> k, lanes), x, _load(table, s, 0), doublings)
            s += size
        _store(after, g, _min(even, odd), lanes)


@kernel
def _advance(before, after, table, x, size, pairs, k, doublings):
    """One step for a symbol of k bits: the least costs ``after`` from those ``before``."""
    x = _splat(x)
    if k == 1:
        _advance_by(before, after, table, x, size, pairs, 1, 1, 0)
    elif k == 2:
        _advance_by(before, after, table, x, size, pairs, 2, 2, 0)
    elif k == 3 and doublings == 0:
        _advance_by(before, after, table, x, size, pairs, 3, 3, 0)
    elif k == 3:
        _advance_by(before, after, table, x, size, pairs, 3, 3, 1)
    elif k == 4 and doublings == 1:
        _advance_by(before, after, table, x, size, pairs, 4, 4, 1)
    elif k == 4:
        _advance_by(before, after, table, x, size, pairs, 4, 4, 3)
    elif doublings == 3:
        _advance_by(before, after, table, x, size, pairs, k, 5, 3)
    else:
        _advance_by(before, after, table, x, size, pairs, k, 5, 5)


@kernel
def _rebase(costs, size):
    """Subtract the least of ``size`` costs from all."""
    least = _splat(_MOST)
    for g in range(0, size, _LANES):
        least = _min(least, _load(costs, g, 0))
    base = _splat(_least_lane(least))
    for g in range(0, size, _LANES):
        _store(costs, g, _subtract(_load(costs, g, 0), base), 0)


@kernel
def _forward(x, first, count, start, widths, tables, doublings, state_bits, best, size):
    """The least costs of ``count`` steps from entry ``first`` on, going on at 0 after the last.

    Row t of ``best``, of ``size`` entries, gets those before step t. ``start`` is ``state >> width
    of the next symbol`` before the first step, or -1 for any.
    """
    n = len(x)
    for g in range(size):
        best[g] = 0 if start < 0 else _MOST
    if start >= 0:
        best[start] = 0
    at = first
    for t in range(count):
        after = 0 if at + 1 == n else at + 1
        k, k_next = widths[at & 3], widths[after & 3]
        before = best.ctypes.data + 2 * t * size
        if t % _REBASE == 0 or t < state_bits:  # at the start some states are far behind
            _rebase(before, max(1 << (state_bits - k), _LANES))
        m = 1 << (state_bits - k_next)
        wide = max(m, _LANES)
        pairs = (1 << state_bits) // (2 * wide)
        table = tables.ctypes.data + (2 * (k & 1) << state_bits)
        _advance(before, before + 2 * size, table, np.int64(x[at]), wide, pairs, k, doublings)
        for i in range(m, _LANES):  # the lanes of a vector that is longer than all costs
            g = (t + 1) * size + (i & (m - 1))
            best[g] = min(best[g], best[(t + 1) * size + i])
        at = after


@kernel
def _back(
    x, first, stop, until, end, start, widths, table, doublings, state_bits, best, size, states
):
    """The cheapest path that `_forward` finds, from step ``stop`` back to step ``until``.

    ``end`` is ``state >> width of the next symbol`` at its end, or -1 for any. The states are
    written; returns ``state >> width`` before step ``until``. A path from a given start keeps to
    it, even where costs that have grown too large do not tell.
    """
    n = len(x)
    at, used = (first + stop) % n, 0
    for t in range(stop):  # bits of symbols since the start
        used += widths[(first + t) & 3]
    k = widths[at & 3]
    g = end
    if end < 0:
        least = _FAR
        for i in range(1 << (state_bits - k)):
            cost = np.int64(best[stop * size + i])
            if start >= 0 and used < state_bits:
                cost += _strays(i, used, start, state_bits - k)
            if cost < least:
                least, g = cost, i
    for t in range(stop - 1, until - 1, -1):
        at = n - 1 if at == 0 else at - 1
        k_next, k = k, widths[at & 3]
        used -= k
        y = np.int64(x[at])
        keeps = start >= 0 and used < state_bits
        least = _FAR << 16
        for j in range(1 << k_next):
            s = j << (state_bits - k_next) | g
            square = _square(y - np.int64(table[s]), doublings)
            cost = np.int64(best[t * size + (s >> k)]) + square
            if keeps:
                cost += _strays(s >> k, used, start, state_bits - k)
            least = min(least, cost << 16 | s)
        states[at] = least & 0xFFFF
        g = states[at] >> k
    return g


@kernel(inline="always")
def _strays(g, used, start, bits):
    """A cost beyond all others if ``g``, of some bits, does not begin with those of the start."""
    seen = max(bits - used, 0)
    return 0 if g >> used == start & ((1 << seen) - 1) else _FAR


@kernel(
    [
        void(
            *(_MATRIX, _MATRIX, _MATRIX, _WIDTHS, _VALUES, _TABLES, float32, float32, int64),
            *(int64, _VALUES, uint16[::1], float32[::1], int16[::1], int64[::1]),
            *(_OUT, uint8[:, ::1]),
        )
    ]
)
def trellis_panel(
    target,
    base,
    coeff,
    widths,
    values,
    tables,
    per_unit,
    bound,
    doublings,
    wrap,
    scale,
    best,
    y,
    x,
    states,
    error,
    codes,
):
    """Quantize the rows of a panel from last to first; each row is one sequence.

    For each row k, from the last to the first::

        y = target[k] + sum over j > k of coeff[j, k] * error[j]
        codes[k] = symbols of the path whose values q are nearest to y / scale[k]
        error[k] = base[k] - scale[k] * q

    ``target``, ``base`` and ``error``, which is written, are float32 (p, n), ``codes`` uint8
    (p, n). Only the part below the diagonal of ``coeff``, float32 (p, p), is read; it is (0, 0) for
    no feedback. Symbol t has ``widths[t % 4]`` bits, int64, 1 to 6. No ``scale``, float32 (p,), is
    negative; 0 makes the values 0.

    ``values``, float32 (2**L,), has the value of each state, newest symbol lowest. ``tables``,
    int16 (3 * 2**L,), has ``per_unit`` times these values, rounded, three times: for symbols of
    even and of odd widths, where each 32 states are sorted by symbols, and as they are. Entries times
    ``per_unit`` are rounded and kept within ``bound``; for ``doublings`` see `_square`.

    If ``wrap`` is 0, a sequence starts from state 0. Otherwise it is tail-biting: it starts from
    the state at its end. A search that begins ``wrap`` entries before the end, which it reaches
    again, finds this state, as it looks from ``wrap`` entries after the start; ``wrap`` is at most
    n, and the sequence has at least L bits.

    ``best``, uint16, of (n + wrap + 1) * max(32, 2**(L - least width)) entries, and ``y``, float32,
    ``x``, int16, and ``states``, int64, of n, are scratch. ``tables`` and ``best`` should start on
    a multiple of 64 bytes, since a vector that straddles two cache lines takes twice as long to
    load.
    """
    p, n = target.shape
    state_bits = 0
    while 1 << state_bits < len(values):
        state_bits += 1
    size = len(best) // (n + wrap + 1)
    table = tables[2 * len(values) :]
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
            v = np.floor(y[i] * inverse * per_unit + np.float32(0.5))
            v = v if v < bound else bound
            x[i] = np.int16(v if v > -bound else -bound)
        code = widths, table, doublings, state_bits, best, size, states
        if wrap == 0:
            _forward(x, 0, n, 0, widths, tables, doublings, state_bits, best, size)
            _back(x, 0, n, 0, -1, 0, *code)
        else:
            first, stop = (n - wrap) % n, wrap + n
            _forward(x, first, stop, -1, widths, tables, doublings, state_bits, best, size)
            state = _back(x, first, 2 * wrap, wrap, -1, -1, *code)
            if _back(x, first, stop, wrap, state, -1, *code) != state:
                _forward(x, 0, n, state, widths, tables, doublings, state_bits, best, size)
                _back(x, 0, n, 0, state, state, *code)
        for i in range(n):
            state, symbol = states[i], 0
            for b in range(widths[i & 3]):
                symbol = symbol << 1 | (state >> b & 1)
            codes[k, i] = symbol
            error[k, i] = base[k, i] - s * values[state]
