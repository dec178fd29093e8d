"""Training of trellis tables: ``python -m lplr.quantizers.train_trellis --help``.

Training starts from a table that is linear in the bits of the state: the state whose bits are b_i
gets quantile number ``v = sum over i of a_i * b_i (mod 2**L)`` of a Gaussian. The newest symbol
shifts v by whole strata, so the values that may follow a state are spread over the line. With well
chosen ``a_i`` the same holds for any few paths that meet again; a random search and then hill
climbing on the error itself choose them. For L bits it keeps the ``a_i`` of L - 1 bits and adds
one. Lloyd passes on fresh samples then move each value to the mean of what it codes.

The tables that come with the package are part of its file format, so they are never trained again;
`Trellis` takes any other table. Tables are antisymmetric, ``table[~s] = -table[s]``, since the
Gaussian is symmetric.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lplr.parallel import run_blocks
from lplr.quantizers.trellis import STATE_BITS, Trellis, symbol_widths
from lplr.quantizers.trellis_tables import read_tables, rounded, write_tables

__all__ = ["gaussian_error", "linear_table", "lloyd_pass", "search_coefficients", "train_table"]

_SEQUENCE = 2048  # entries of a training sequence: long enough for its start not to matter
_SHRINK = 2.0  # a value that codes n samples moves by n / (n + 2) of the way to their mean


def linear_table(coefficients: np.ndarray, bits: int | float) -> np.ndarray:
    """The antisymmetric table of quantiles that is linear in the bits of the state.

    The coefficients are ``a_i / 2**L`` in [0, 1), that of the lowest bit first. The quantiles,
    float32, are those of a Gaussian of variance ``(1 - D) * 3**((bits / L)**1.5)``, D = 2**(-2
    bits). The values of an ideal code have variance 1 - D, which is the limit of many states. With
    one symbol per state each value has a cell of its own, and the best density of cells has
    variance 3. The power between the two is a fit to trials at 2, 3, 4 and 6 bits.
    """
    from scipy.special import ndtri

    L = len(coefficients)
    n = 1 << L
    a = np.round(coefficients * n).astype(np.int64)
    # With an added offset b, the complement of a state gets v' = sum(a) + 2 b - v. It is the
    # opposite quantile, n - 1 - v, if sum(a) + 2 b = -1; so the sum has to be odd.
    a[0] += 1 - a.sum() % 2
    offset = (-1 - a.sum()) // 2
    state_bits = np.arange(n)[:, None] >> np.arange(L) & 1
    v = (state_bits @ a + offset) % n
    variance = (1 - 4.0**-bits) * 3.0 ** ((bits / L) ** 1.5)
    return (np.sqrt(variance) * ndtri((v + 0.5) / n)).astype(np.float32)


def search_coefficients(
    state_bits: int,
    bits: int | float,
    *,
    start: np.ndarray | None = None,
    trials: int = 200,
    samples: int = 100_000,
    rng: int | np.random.Generator | None = None,
) -> np.ndarray:
    """Coefficients, float64 of shape (state_bits,), with which `linear_table` has a small error.

    Half of the trials are drawn at random; the others change one coefficient of the best. All keep
    ``start``, the coefficients of one bit less, and draw the new lowest one.
    """
    rng = np.random.default_rng(rng)
    x = _samples(samples, rng)
    widths = symbol_widths(bits)
    strata = 0.5 ** np.arange(min(max(widths), state_bits), 0, -1)  # for the newest symbol
    best, least = np.empty(0), np.inf
    for trial in range(trials):
        if trial < max(trials // 2, 1):
            a = rng.random(state_bits)
            if start is None:
                a[state_bits - len(strata) :] = strata
            else:
                a[1:] = start
        else:
            a = best.copy()
            i = int(rng.integers(max(state_bits - min(widths), 1)))
            a[i] = rng.random() if trial % 2 else (a[i] + 0.06 * rng.standard_normal()) % 1.0
        error = _code(linear_table(a, bits), bits, x)[0]
        if error < least:
            best, least = a, error
    return best


def lloyd_pass(table: np.ndarray, bits: int | float, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Move each value towards the mean of the samples that it codes.

    Takes sequences ``x``, float32 of shape (m, n); returns the new table and the mean squared
    error of the given one.
    """
    error, codes = _code(table, bits, x)
    # Decoded with the table 0, 1, 2, ..., the symbols give the state of every entry.
    numbers = Trellis(np.arange(len(table), dtype=np.float32), bits, 0.0)
    states = numbers.decode(codes).reshape(-1).astype(np.int64)
    count = np.bincount(states, minlength=len(table)).astype(np.float64)
    total = np.bincount(states, x.reshape(-1), len(table))
    count, total = count + count[::-1], total - total[::-1]
    return (table + (total - count * table) / (count + _SHRINK)).astype(np.float32), error


def gaussian_error(
    table: np.ndarray, bits: int | float, *, samples: int = 1_000_000, rng: int = 0
) -> float:
    """Mean squared error of a table on N(0, 1), measured on long sequences."""
    return _code(table, bits, _samples(samples, np.random.default_rng(rng)))[0]


def train_table(
    state_bits: int,
    bits: int | float,
    *,
    start: np.ndarray | None = None,
    trials: int = 200,
    passes: int = 25,
    per_state: int = 200,
    rng: int | np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Train one table, float32 (2**L,); return it and the coefficients of the one it started from.

    ``trials`` starts are compared, see `search_coefficients`; the search keeps ``start``,
    coefficients of one bit less. Each Lloyd pass takes ``per_state`` samples for each state, and at
    least 100 000.
    """
    rng = np.random.default_rng(rng)
    a = search_coefficients(state_bits, bits, start=start, trials=trials, rng=rng)
    table = linear_table(a, bits)
    for _ in range(passes):
        table, _ = lloyd_pass(table, bits, _samples(max(per_state << state_bits, 100_000), rng))
    return table, a


def _samples(count: int, rng: np.random.Generator) -> np.ndarray:
    """Sequences of samples of N(0, 1), about ``count`` of them in all."""
    return rng.standard_normal((-(-count // _SEQUENCE), _SEQUENCE), dtype=np.float32)


def _code(table: np.ndarray, bits: int | float, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean squared error and symbols of sequences, coded in threads."""
    book = Trellis(table, bits, 0.0)
    codes = np.empty(x.shape, np.uint8)
    errors = np.empty(len(x))

    def block(start: int, stop: int) -> None:
        codes[start:stop] = book.encode(x[start:stop, :, None])
        e = x[start:stop] - book.decode(codes[start:stop])[..., 0]
        errors[start:stop] = np.mean(e.astype(np.float64) ** 2, 1)

    run_blocks(block, len(x), 8)
    return float(errors.mean()), codes


def main(argv: Sequence[str] | None = None) -> int:
    """Train tables and write them to one file."""
    parser = argparse.ArgumentParser(
        prog="python -m lplr.quantizers.train_trellis", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--state-bits", type=int, nargs="+", default=list(STATE_BITS))
    parser.add_argument("--bits", type=float, nargs="+", default=[i / 4 for i in range(4, 25)])
    parser.add_argument("--output", type=Path, required=True, help="a better table in it stays")
    parser.add_argument("--trials", type=int, default=200, help="starts that are compared")
    parser.add_argument("--passes", type=int, default=25, help="Lloyd passes")
    parser.add_argument("--per-state", type=int, default=200, help="samples per state and pass")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    tables = read_tables(args.output) if args.output.exists() else {}
    effort = {"trials": args.trials, "passes": args.passes, "per_state": args.per_state}
    for bits in args.bits:
        coefficients: np.ndarray | None = None
        for state_bits in sorted(args.state_bits):
            key = state_bits, int(4 * bits)
            is_next = coefficients is not None and len(coefficients) == state_bits - 1
            start, rng = coefficients if is_next else None, np.random.default_rng([args.seed, *key])
            table, coefficients = train_table(state_bits, bits, start=start, rng=rng, **effort)
            table = rounded(table, bits)
            error = gaussian_error(table, bits)
            if key not in tables or error < tables[key][1]:
                tables[key] = (table, error)
                write_tables(args.output, tables)
            print(f"L = {state_bits:2}, {bits:4} bits: {error:.5f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
