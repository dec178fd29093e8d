"""The trellis code against brute force, plain loops and bits read one at a time."""

import itertools

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.quantizers import packing
from lplr.quantizers.trellis import STATE_BITS, Trellis, symbol_widths
from lplr.quantizers.trellis_parts import Parts

WRAP = 5  # windows


def naive_bits(codes, widths):
    """The bits of one sequence, each symbol's lowest bit first."""
    return [int(c) >> i & 1 for t, c in enumerate(codes) for i in range(widths[t % 4])]


def naive_decode(codes, book):
    """Values of one sequence, from its bits and the definition of the window."""
    bits = naive_bits(codes, book.widths)
    wraps = len(bits) >= WRAP * book.state_bits
    values, stop = [], 0
    for t in range(len(codes)):
        stop += book.widths[t % 4]
        window = range(stop - book.state_bits, stop)
        state = sum((bits[i] if i >= 0 or wraps else 0) << j for j, i in enumerate(window))
        values.append(book.table[state])
    return np.array(values, np.float32)


def toy(state_bits, bits):
    """A code with a random table, whose values are dyadic: all sums are exact in float32."""
    rng = np.random.default_rng(0)
    return Trellis(rng.integers(-40, 41, 1 << state_bits) / np.float32(16), bits, 1.0)


def by_fours(state_bits, bits=2):
    """As `toy`, with the multiples of a step of which products look up four at a time."""
    table = np.random.default_rng(1).integers(-127, 128, 1 << state_bits) / np.float32(32)
    table[0] = 127 / 32
    return Trellis(table, bits, 1.0)


def dyadic(shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return (np.round(x * 16) / 16).astype(np.float32)


def random_codes(book, m, n):
    rng = np.random.default_rng(n)
    symbols = [rng.integers(0, 1 << book.widths[t % 4], m) for t in range(n)]
    return np.stack(symbols, axis=1).astype(np.uint8)


@pytest.mark.parametrize("bits", [1, 2, 3, 6, 1.25, 2.5, 2.75, 5.75])
@pytest.mark.parametrize("state_bits", [6, 11])
def test_decoding_follows_the_definition(state_bits, bits):
    book = toy(state_bits, bits)
    for n in (1, 2, 7, 40, 131):  # the short ones do not wrap
        codes = random_codes(book, 3, n)
        expected = np.stack([naive_decode(row, book) for row in codes])
        np.testing.assert_array_equal(book.decode(codes)[..., 0], expected)

        packed = book.pack(codes)
        stream = [b for row in codes for b in naive_bits(row, book.widths)]
        np.testing.assert_array_equal(
            np.unpackbits(packed, bitorder="little"), stream + [0] * (-len(stream) % 8)
        )
        assert packed.size == book.nbytes(codes.shape)
        # Random access: any part of any sequences.
        for start, stop in itertools.combinations_with_replacement({0, 1, 6, n // 2, n - 1, n}, 2):
            if start <= stop <= n:
                part = book.unpack(packed, codes.shape, slice(1, 3), slice(start, stop))
                np.testing.assert_array_equal(part, expected[1:3, start:stop])


def test_whole_rates_are_packed_as_any_other_code():
    for bits in range(1, 7):
        book = toy(6, bits)
        codes = random_codes(book, 5, 37)
        np.testing.assert_array_equal(book.pack(codes), packing.pack(codes, bits))


@pytest.mark.parametrize(
    ("state_bits", "bits", "n"),
    [
        *[(6, 1, 1), (6, 1, 6), (6, 1, 14), (6, 2, 8)],
        *[(8, 2, 1), (8, 2, 5), (8, 2, 8)],  # 64 states of costs: the vector path
        *[(9, 3, 5), (9, 4, 4), (10, 5, 3), (6, 6, 2), (9, 2.5, 6), (9, 1.25, 10)],
    ],
)
def test_search_is_brute_force(state_bits, bits, n):
    book = toy(state_bits, bits)
    assert not book.wraps(n)
    widths = [book.widths[t % 4] for t in range(n)]
    strings = np.array(list(itertools.product(*[range(1 << w) for w in widths])), np.uint8)
    values = book.decode(strings)[..., 0]
    for x in dyadic((5, n), seed=n):
        least = ((values - x) ** 2).sum(1).min()
        codes = book.encode(x[:, None])
        assert ((book.decode(codes)[:, 0] - x) ** 2).sum() == least


@pytest.mark.parametrize(("state_bits", "bits", "n"), [(6, 1, 18), (6, 3, 6), (6, 2.25, 8)])
def test_wrapped_search_is_brute_force_given_the_end(monkeypatch, state_bits, bits, n):
    monkeypatch.setattr("lplr.quantizers.trellis._WRAP", 3)  # the shortest to wrap have 2**30 codes
    book = toy(state_bits, bits)
    assert book.wraps(n)
    widths = [book.widths[t % 4] for t in range(n)]
    total = sum(widths)
    # All bit strings, as symbols.
    number = np.arange(1 << total)
    offsets = np.cumsum([0, *widths[:-1]])
    strings = np.stack(
        [number >> o & ((1 << w) - 1) for o, w in zip(offsets, widths, strict=True)], 1
    )
    values = book.decode(strings.astype(np.uint8))[..., 0]
    ends = number >> (total - (state_bits - widths[0]))  # what of the end the start sees
    for x in dyadic((4, n), seed=n):
        codes = book.encode(x[:, None]).astype(np.int64)
        end = int((codes << offsets).sum()) >> (total - (state_bits - widths[0]))
        squares = ((values - x) ** 2).sum(1)
        loss = ((book.decode(codes.astype(np.uint8))[:, 0] - x) ** 2).sum()
        assert loss == squares[ends == end].min()
        # The end itself is an estimate; over all ends the loss is rarely much lower.
        assert loss <= 2 * squares.min() + 0.5


class NaiveSearch:
    """Viterbi in the packed labelling, in float64, one entry and one state at a time.

    The sequence goes on at its first entry after its last; ``start`` is the state before it.
    """

    def __init__(self, x, book, first, count, start=None):
        self.n, self.L, self.widths, self.first = len(x), book.state_bits, book.widths, first
        cost = {s: 0.0 for s in range(1 << self.L)} if start is None else {start: 0.0}
        self.costs, self.ways = [cost], []
        for t in range(count):
            k, entry = self.width(t), float(x[(first + t) % self.n])
            new, way = {}, {}
            for s, c in cost.items():
                for symbol in range(1 << k):
                    s2 = s >> k | symbol << (self.L - k)
                    c2 = c + (entry - float(book.table[s2])) ** 2
                    if s2 not in new or c2 < new[s2]:
                        new[s2], way[s2] = c2, s
            cost = new
            self.costs.append(cost)
            self.ways.append(way)

    def width(self, t):
        return self.widths[(self.first + t) % self.n % 4]

    def seen(self, state, t):
        """What of a state the entry of step t sees, as its own has the highest bits."""
        return state >> self.width(t)

    def best(self, stop, end=None):
        """The states, from before step 0 on, of the cheapest path to one that looks as ``end``."""
        allowed = [
            s for s in self.costs[stop] if end is None or self.seen(s, stop) == self.seen(end, stop)
        ]
        states = [min(allowed, key=lambda s: self.costs[stop][s])]
        for way in reversed(self.ways[:stop]):
            states.append(way[states[-1]])
        return states[::-1]


def naive_start(x, book, wrap):
    """The state before the first entry, from paths that end in the state the last one came from."""
    n = len(x)
    search = NaiveSearch(x, book, (n - wrap) % n, n + wrap)
    state, before = None, search.best(n + wrap)[wrap]
    for _ in range(4):
        if state is None or search.seen(state, wrap) != search.seen(before, wrap):
            state, before = before, search.best(n + wrap, before)[wrap]
    return before


def rounding_bound(book, n, loss):
    """How much the loss of a path may exceed the least, with costs in integers of 16 bits.

    A square is rounded down by less than a unit of cost. The difference d that it is of is off by
    at most one unit of the table, 1 / p, half by either number; so d**2 by (2 |d| + 1 / p) / p, for
    the path that is found and for the best one. The sum of |d| is at most sqrt(n loss).
    """
    _, p, _, doublings = book._integers
    unit = 2.0 ** (16 - doublings - min(doublings, 1)) / p**2
    return n * unit + 2 * (2 * np.sqrt(n * loss) + n / p) / p


@pytest.mark.parametrize(
    ("state_bits", "bits", "n"),
    [(6, 2, 20), (6, 1.5, 30), (7, 3, 12), (6, 4, 9), (6, 3.75, 10), (8, 1, 45), (6, 5.5, 8)],
)
def test_search_is_the_plain_search(state_bits, bits, n):
    rng = np.random.default_rng(n)
    book = Trellis(rng.standard_normal(1 << state_bits), bits, 1.0)
    assert book.wraps(n)
    wrap = min(n, -(-10 * state_bits // int(bits)))
    same = 0
    for x in rng.standard_normal((5, n)).astype(np.float32):
        codes = book.encode(x[:, None])
        found = ((x - book.decode(codes)[:, 0]).astype(np.float64) ** 2).sum()
        stream = naive_bits(codes, book.widths)
        start = sum(bit << j for j, bit in enumerate(stream[-state_bits:]))
        search = NaiveSearch(x, book, 0, n, start)
        states = search.best(n, start)
        least = search.costs[n][states[-1]]
        assert found <= least + rounding_bound(book, n, found)
        same += search.seen(start, 0) == search.seen(naive_start(x, book, wrap), 0)
    assert same >= 4  # 0 to 1 of 12 starts differ, where two cost the same but for rounding


@pytest.mark.parametrize(("bits", "n"), [(2, 64), (3, 5), (2.5, 33), (1, 16)])
def test_panel_is_the_loop_over_rows(bits, n):
    p = 7
    rng = np.random.default_rng(n)
    book = toy(8, bits)
    target, base = dyadic((p, n), 1), dyadic((p, n), 2)
    coeff = (rng.integers(-8, 9, (p, p)) / 16).astype(np.float32)
    scale = np.array([1, 0.5, 2, 0, 1, 0.25, 1], np.float32)
    error, codes = np.full((p, n), 7, np.float32), np.full((p, n), 255, np.uint8)
    kept = target.copy(), base.copy(), coeff.copy(), scale.copy()
    book.panel(target, base, coeff, scale, error, codes)
    for k in range(p - 1, -1, -1):
        y = target[k] + coeff[k + 1 :, k] @ error[k + 1 :]
        x = y / scale[k] if scale[k] > 0 else 0 * y
        np.testing.assert_array_equal(codes[k], book.encode(x[:, None]))
        np.testing.assert_array_equal(error[k], base[k] - scale[k] * book.decode(codes[k])[:, 0])
    for before, after in zip(kept, (target, base, coeff, scale), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("bits", "k", "k_next"),
    [
        *[(1, 1, 1), (1.5, 2, 1), (3, 3, 3), (3.5, 3, 4), (3.5, 4, 3)],
        *[(4.5, 4, 5), (4.5, 5, 4), (5.5, 6, 5), (6, 6, 6)],
    ],
)
def test_a_step_is_the_loop_over_states(bits, k, k_next):
    from lplr.kernels.trellis import _advance

    L, rng = 9, np.random.default_rng(k)
    tables, _, bound, doublings = Trellis(rng.standard_normal(1 << L), bits, 1.0)._integers
    size = max(32, 1 << (L - k_next))  # with a few states, two ways side by side
    before = rng.integers(0, 0xBFFF, 1 << (L - k), dtype=np.uint16, endpoint=True)
    after = np.empty(size, np.uint16)
    for x in (-int(bound), -1234, 0, 57, int(bound)):
        table = tables.ctypes.data + (2 * (k & 1) << L)
        addresses = before.ctypes.data, after.ctypes.data, table
        _advance(*addresses, x, size, (1 << L) // size, k, doublings)
        for g in range(size):
            costs = [0xBFFF]
            for s in range(g, 1 << L, size):
                d = int(np.clip(x - int(tables[2 << L :][s]), -(1 << 15), (1 << 15) - 1))
                one = other = d
                for i in range(doublings):
                    other = int(np.clip(2 * other, -(1 << 15), (1 << 15) - 1))
                    one = other if i == 0 else one
                costs.append(int(before[s >> k]) + (one * other >> 16))
            assert after[g] == min(costs)


@pytest.mark.parametrize(("state_bits", "bits", "n"), [(8, 2, 21), (6, 5, 9), (7, 2.5, 5)])
def test_search_kernels_are_what_they_say_unjitted(monkeypatch, state_bits, bits, n):
    from lplr.kernels import trellis as kernels

    book, p = toy(state_bits, bits), 3
    x, coeff = dyadic((p, n)), np.tril(np.full((p, p), 0.5, np.float32), -1)
    ones = np.ones(p, np.float32)

    def run():
        error, codes = np.empty_like(x), np.empty(x.shape, np.uint8)
        book.panel(x, x, coeff, ones, error, codes)
        return error, codes

    jitted = run()
    monkeypatch.setattr(kernels, "_forward", kernels._forward.py_func)  # the vectors stay jitted
    monkeypatch.setattr(kernels, "trellis_panel", kernels.trellis_panel.py_func)
    for one, other in zip(jitted, run(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "book",
    [
        *map(by_fours, (6, 10, 12, 13, 12, 10, 14, 6), (2, 2, 2, 2, 1, 1.75, 1.25, 3.25)),
        *map(toy, (8, 8, 8), (2, 2.75, 4)),
    ],
    ids=lambda book: f"{book.state_bits}-{book.bits}",
)
def test_products_are_those_of_the_decoded_matrix(book):
    # With 12 bits of state and 2 bits per entry, sequences of 16 and 20 do not wrap.
    for m, n in ((1, 1), (3, 7), (11, 16), (11, 20), (11, 52), (9, 130), (11, 160)):
        codes = random_codes(book, m, n)
        # Multiples of 1/16 times multiples of 1/32: all sums are exact.
        x, y = dyadic(m, 1), dyadic(n, 2)
        for size in {n, 16, 52} if n > 16 else {n}:
            segments = [codes[:, i : i + size] for i in range(0, n, size)]
            Q = np.concatenate([book.decode(s)[..., 0] for s in segments], axis=1)
            down, across = [], []
            for start, s in zip(range(0, n, size), segments, strict=True):
                part = book.part(book.pack(s), s.shape[1], m)
                down.append({**part, "columns": True, "target": m + start})
                across.append({**part, "source": start, "target": n})
            for found, expected in (
                (Parts(down).product(x, n), x @ Q),
                (Parts(across).product(y, m), Q @ y),
            ):
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, expected)


def test_extreme_rows_are_coded():
    book = Trellis.stored(8, 2)
    x = np.random.default_rng(0).standard_normal((4, 256, 1)).astype(np.float32)
    x[0, 10] = 1e6  # one far outlier leaves the rest of the row as good as before
    x[1] = 0
    x[2] *= 1e-30
    x[3] *= 1e30
    e = x - book.decode(book.encode(x))
    assert np.mean(np.delete(e[0], 10) ** 2) < 0.1
    assert np.isfinite(book.decode(book.encode(x))).all()


@pytest.mark.parametrize("n", [1, 4, 9, 30, 200])
@pytest.mark.parametrize("bits", [1, 2.5, 4, 6])
def test_a_path_keeps_to_its_start_whatever_it_costs(bits, n):
    book = Trellis.stored(8, bits)
    x = 1e30 * np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    ones, error, codes = np.ones(3, np.float32), np.empty_like(x), np.empty(x.shape, np.uint8)
    book.panel(np.sign(x), np.sign(x), np.empty((0, 0), np.float32), ones, error, codes)
    np.testing.assert_array_equal(error, np.sign(x) - book.decode(codes)[..., 0])
    book.panel(x, 0 * x, np.empty((0, 0), np.float32), ones, error, codes)
    np.testing.assert_array_equal(error, -book.decode(codes)[..., 0])


def test_widths_spread_evenly():
    for quarters in range(4, 25):
        widths = symbol_widths(quarters / 4)
        assert sum(widths) == quarters
        assert max(widths) - min(widths) <= 1
        book = toy(6, quarters / 4)
        for n in range(9):
            assert book.sequence_bits(n) == sum(widths[t % 4] for t in range(n))


@pytest.mark.parametrize("bits", [0.75, 6.25, 2.1, True, float("nan")])
def test_other_rates_are_refused(bits):
    for call in (symbol_widths, lambda bits: Trellis.stored(8, bits)):
        with pytest.raises(InputError, match="bits"):
            call(bits)


@pytest.mark.parametrize("state_bits", [5, 15, 8.5])
def test_other_state_bits_are_refused(state_bits):
    with pytest.raises(InputError, match="state bits"):
        Trellis.stored(state_bits, 2)


def test_state_bits_are_listed():
    assert list(STATE_BITS) == [6, 7, 8, 9, 10, 11, 12, 13, 14]
