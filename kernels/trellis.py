"""Trellis-coded feedback quantization of one panel: the Viterbi search along each row.

The search labels states newest symbol lowest: symbol c of k bits takes state s to
``(s << k | c) mod 2**L``, the bits of a packed window reversed (`lplr.quantizers.trellis` owns
the packed labelling and reverses the table for this one). For every ``g = s >> k``, step t keeps
the least cost of the path so far; the cost of a state and the best way back follow from it::

    cost[s] = before[s >> k] + (x - table[s])**2
    next[g] = min over j < 2**K of cost[j << (L - K) | g]        K: width of the next symbol

Costs are integers of 16 bits, so 32 of them fit a register, and every processor finds the same
paths. Tables and x are integers as well, and `_square` drops the low bits of a square; their units
are chosen by `lplr.quantizers.trellis.Trellis`. Every few steps the least cost is subtracted from
all, and what grows too large stays at `_MOST`: the winner is never that far behind.

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
from numba.core import cgutils

from lplr.kernels.jit import intrinsic, kernel

# Arguments that are only read have read-only types, which accept writable arrays as well.
_MATRIX = types.Array(float32, 2, "C", readonly=True)
_VALUES = types.Array(float32, 1, "C", readonly=True)
_WIDTHS = types.Array(int64, 1, "C", readonly=True)
_NUMBERS = types.Array(int16, 1, "C", readonly=True)
_CODE = _WIDTHS, _NUMBERS, int64, int64, uint16[::1], int64
_OUT = float32[:, ::1]

_LANES = 32
_FULL = 1 << 15  # what a signed number of 16 bits does not reach
_SQUARE = _FULL * _FULL >> 16  # the largest
_MOST = 0xFFFF - _SQUARE
_REBASE = 8  # steps between subtractions of the least cost
_ROUNDS = 4  # of paths, each to the state from which the one before came
_SHORT, _INDEX, _WORD = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR, _WIDE = (ir.VectorType(kind, _LANES) for kind in (_SHORT, _INDEX))


def _seen(address, count, dtype=np.uint16):
    """Memory from an address on, as plain Python sees it."""
    return np.frombuffer((ctypes.c_uint16 * count).from_address(int(address)), dtype)


def _pointer(builder, address, at, kind):
    """Pointer to a vector that begins ``at`` entries of 16 bits after an address."""
    first = builder.inttoptr(address, _SHORT.as_pointer())
    return builder.bitcast(builder.gep(first, [at]), kind.as_pointer())


def _loaded(builder, address, at, count):
    """``count`` entries from ``at`` on, repeated to fill the lanes."""
    loaded = builder.load(_pointer(builder, address, at, ir.VectorType(_SHORT, count)))
    loaded.align = 2
    return _shuffled(builder, loaded, [i % count for i in range(_LANES)])


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


def _plain_step(before, after, table, x, size, ways, k, count, doublings):
    s = np.arange(size * ways)
    lane = s % _LANES
    costs = _seen(before, size * ways)[((s - lane) >> k) + lane % count]
    squares = _square(x - _seen(table, size * ways, np.int16).astype(np.int64), doublings)
    least = (costs + squares).reshape(ways, size).min(0).clip(max=_MOST)
    _seen(after, size)[:] = least.reshape(-1, _LANES // count, count).transpose(0, 2, 1).ravel()


@intrinsic(_plain_step, prefer_literal=True)
def _step(typing, before, after, table, x, size, ways, k, count, doublings):
    """The least of ``ways`` costs for each of ``size`` states, 32 at a time.

    ``count`` is 32 / 2**k, or 1; it and ``doublings`` are known when this is compiled.
    """

    def generate(context, builder, signature, args):
        before, after, table, x, size, ways, k = args[:7]
        count = signature.args[7].literal_value
        x = builder.insert_element(
            ir.Constant(_VECTOR, ir.Undefined), builder.trunc(x, _SHORT), ir.Constant(_INDEX, 0)
        )
        x = _shuffled(builder, x, [0] * _LANES)
        first, lanes = ir.Constant(_WORD, 0), ir.Constant(_WORD, _LANES)
        with cgutils.for_range_slice(builder, first, size, lanes, _WORD) as (g, _):
            least = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [_MOST] * _LANES))
            with cgutils.for_range(builder, ways) as loop:
                s = builder.add(g, builder.mul(loop.index, size))
                one = other = _called(builder, "ssub.sat", x, _loaded(builder, table, s, _LANES))
                for i in range(signature.args[8].literal_value):
                    other = _called(builder, "sadd.sat", other, other)
                    one = one if i else other
                square = builder.mul(builder.sext(one, _WIDE), builder.sext(other, _WIDE))
                square = builder.lshr(square, ir.Constant(_WIDE, [16] * _LANES))
                cost = _loaded(builder, before, builder.ashr(s, k), count)
                cost = builder.add(cost, builder.trunc(square, _VECTOR))
                builder.store(_called(builder, "umin", builder.load(least), cost), least)
            order = np.arange(_LANES).reshape(-1, count).T.ravel()
            place = _pointer(builder, after, g, _VECTOR)
            builder.store(_shuffled(builder, builder.load(least), order.tolist()), place).align = 2
        return context.get_dummy_value()

    return types.none(*[types.int64] * 7, count, doublings), generate


def _number(dtype):
    """An intrinsic that reads one number, atomically, so that no loop of a few is vectorised."""

    @intrinsic(lambda address, at: int(_seen(address + 2 * at, 1, dtype)[0]))
    def read(typing, address, at):
        def generate(context, builder, signature, args):
            loaded = builder.load_atomic(_pointer(builder, *args, _SHORT), "monotonic", 2)
            return (builder.sext if dtype is np.int16 else builder.zext)(loaded, _WORD)

        return types.int64(types.int64, types.int64), generate

    return read


_signed, _unsigned = _number(np.int16), _number(np.uint16)


@kernel(inline="always")
def _square(d, doublings):
    """``d**2 / 2**16`` of a difference, times a power of 4, as the vectors have it.

    They double d ``doublings`` times, but one factor at most once, so that squares go on growing,
    as a line. What leaves 16 bits becomes the nearest number there is.
    """
    if doublings < 2:  # the same with less work
        return np.minimum(d * d >> 16 - 2 * doublings, _SQUARE - (d > 0))
    size, largest = abs(d), _FULL - (d > 0)
    one = np.minimum(size << min(doublings, 1), largest)
    return one * np.minimum(size << doublings, largest) >> 16


@kernel([void(*[int64] * 8)])
def _advance(before, after, table, x, size, ways, k, doublings):
    """One step for a symbol of k bits: the least costs ``after`` from those ``before``."""
    if k == 1:
        _step(before, after, table, x, size, ways, k, 16, 0)
    elif k == 2:
        _step(before, after, table, x, size, ways, k, 8, 0)
    elif k == 3 and doublings == 0:
        _step(before, after, table, x, size, ways, k, 4, 0)
    elif k == 3:
        _step(before, after, table, x, size, ways, k, 4, 1)
    elif k == 4 and doublings == 1:
        _step(before, after, table, x, size, ways, k, 2, 1)
    elif k == 4:
        _step(before, after, table, x, size, ways, k, 2, 3)
    elif doublings == 3:
        _step(before, after, table, x, size, ways, k, 1, 3)
    else:
        _step(before, after, table, x, size, ways, k, 1, 5)


@kernel([void(*(_NUMBERS, int64, int64, int64), *_CODE)])
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
            costs = best[t * size : t * size + max(1 << (state_bits - k), _LANES)]
            least = costs[0]
            for g in range(len(costs)):
                least = min(least, costs[g])
            for g in range(len(costs)):
                costs[g] -= least
        m = 1 << (state_bits - k_next)
        wide = max(m, _LANES)
        ways = (1 << state_bits) // wide
        table = tables.ctypes.data + (2 * (k & 1) << state_bits)
        _advance(before, before + 2 * size, table, np.int64(x[at]), wide, ways, k, doublings)
        half = _LANES // 2
        while half >= m:  # a vector that is longer than all costs has some ways side by side
            costs = best[(t + 1) * size : (t + 1) * size + 2 * half]
            for g in range(half):
                costs[g] = min(costs[g], costs[half + g])
            half //= 2
        at = after


@kernel([int64(*(_NUMBERS, *[int64] * 6), *_CODE, int64[::1])])
def _back(
    x,
    first,
    stop,
    until,
    end,
    start,
    came,
    widths,
    table,
    doublings,
    state_bits,
    best,
    size,
    states,
):
    """The cheapest path that `_forward` finds, from step ``stop`` back to step ``until``.

    ``end`` is ``state >> width of the next symbol`` at its end, or -1 for any. The states are
    written; returns ``state >> width`` before step ``until``. If another path is there, and came
    from ``came``, which is -1 otherwise, the two are the same before they meet. A path from a given
    start keeps to it, even where costs that have grown too large do not tell.
    """
    n = len(x)
    at, seen = (first + stop) % n, 0
    if start >= 0:  # the bits of the start that g has, highest
        seen = state_bits
        for t in range(stop + 1):
            seen -= widths[(first + t) & 3]
    k, values, g = widths[at & 3], table.ctypes.data, end
    if end < 0:
        free = state_bits - k - max(seen, 0)
        g = (start & ((1 << max(seen, 0)) - 1)) << free
        for i in range(g, g + (1 << free)):
            if best[stop * size + i] < best[stop * size + g]:
                g = i
    for t in range(stop - 1, until - 1, -1):
        at = n - 1 if at == 0 else at - 1
        k_next, k = k, widths[at & 3]
        way, ways = 0, 1 << k_next
        if start >= 0:
            seen += k_next
        if start >= 0 and seen > 0:
            known = min(seen, k_next)
            ways >>= known
            way = ((start & ((1 << seen) - 1)) >> (seen - known)) << (k_next - known)
        y, costs = np.int64(x[at]), best.ctypes.data + 2 * t * size
        least = np.int64(1) << 40
        s = way << (state_bits - k_next) | g
        for _ in range(ways):
            cost = _unsigned(costs, s >> k) + _square(y - _signed(values, s), doublings)
            least = min(least, cost << 16 | s)
            s += 1 << (state_bits - k_next)
        s = least & 0xFFFF
        if came >= 0 and states[at] == s:
            return came
        states[at] = s
        g = s >> k
    return g


@kernel(
    [
        void(
            *(_MATRIX, _MATRIX, _MATRIX, _WIDTHS, _VALUES, _NUMBERS, float32, float32, int64),
            *(int64, _VALUES, uint16[::1], int16[::1], int64[::1], _OUT, uint8[:, ::1]),
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
    even and of odd widths, where each 32 states are sorted by symbols, and as they are. Entries
    times ``per_unit`` are rounded and kept within ``bound``; for ``doublings`` see `_square`.

    If ``wrap`` is 0, a sequence starts from state 0. Otherwise it is tail-biting: it starts from
    the state at its end. One search goes from ``wrap`` entries before the end to the end and then
    through all of the sequence. The cheapest path comes from some state at the start; the cheapest
    one to this state at the end is next, and so on. Nearly always the second one comes from where
    it ends, and no path from there to there is cheaper. ``wrap`` is at most n, and the sequence has
    at least L bits.

    ``best``, uint16, of (n + wrap + 1) * max(32, 2**(L - least width)) entries, ``x``, int16 (n,),
    and ``states``, int64 (n,), are scratch. ``tables`` and ``best`` should start on
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
        s, y = scale[k], error[k]
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
        first, stop, start = (n - wrap) % n, n + wrap, -1 if wrap > 0 else 0
        _forward(x, first, stop, start, widths, tables, doublings, state_bits, best, size)
        state, end = start, _back(x, first, stop, wrap, -1, start, -1, *code)
        for _ in range(_ROUNDS):  # none from a start that is given
            if state != end:
                state, end = end, _back(x, first, stop, wrap, end, start, end, *code)
        if state != end:
            _forward(x, 0, n, end, widths, tables, doublings, state_bits, best, size)
            _back(x, 0, n, 0, end, end, -1, *code)
        for i in range(n):
            state, symbol = states[i], 0
            for b in range(widths[i & 3]):
                symbol = symbol << 1 | (state >> b & 1)
            codes[k, i] = symbol
            error[k, i] = base[k, i] - s * values[state]
