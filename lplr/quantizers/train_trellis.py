"""Training of trellis tables: ``python -m lplr.quantizers.train_trellis --help``.

The start is a table that is linear in the bits of the state: the numbers v of 2**L quantiles of
a Gaussian are ``v = sum over b of a_b * bit_b (mod 2**L)``. The newest symbol shifts v by whole
strata, so that the values that may follow are spread over the line, and with the other ``a_b``
well chosen so are those of any few paths that meet again; a random search followed by hill
climbing on the error itself finds them. From L - 1 to L bits only one more is sought. Lloyd
passes on fresh samples then move each value to the mean of what it codes, shrunk by
``count / (count + 2)``.

The tables that the package comes with are part of its file format, so they are never trained
again; others serve through `Trellis.from_table`. Tables are antisymmetric,
``table[~s] = -table[s]``, as the source is symmetric, and half of each is stored.
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
_COUNT = 2.0  # shrinkage: a value moves by count / (count + 2) of the way


def linear_table(coefficients: np.ndarray, bits: int | float) -> np.ndarray:
    """The antisymmetric table of quantiles that is linear in the bits of the state.

    Parameters
    ----------
    coefficients : ndarray of shape (L,), float64 in [0, 1)
        ``a_b / 2**L`` of each bit, the lowest first.
    bits : int or float

    Returns
    -------
    ndarray of shape (2**L,), float32
        Quantiles of a Gaussian of variance ``(1 - D) * 3**((bits / L)**1.5)``, D = 2**(-2 bits).

    Notes
    -----
    The values of an ideal code have variance 1 - D, which is the limit of many states. With one
    state a value is a cell of its own, and the best density of cells has variance 3. The power
    between the two is a fit to trials at 2, 3, 4 and 6 bits.
    """
    from scipy.special import ndtri

    L = len(coefficients)
    n = 1 << L
    a = np.round(coefficients * n).astype(np.int64)
    # The complement of a state has v' = sum(a) + 2 b - v for an offset b; it is n - 1 - v, the
    # opposite quantile, if sum(a) + 2 b = -1, so the sum must be odd.
    a[0] += 1 - a.sum() % 2
    offset = (-1 - a.sum()) // 2
    v = (_bits_of_states(L) @ a + offset) % n
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
    """Coefficients of `linear_table` of small error.

    Parameters
    ----------
    state_bits : int
    bits : int or float
    start : ndarray of shape (state_bits - 1,), float64, optional
        Coefficients of one bit less, which the new lowest bit is put before.
    trials : int
        Half of them are drawn at random, the others change one coefficient of the best.
    samples : int
    rng : int, numpy.random.Generator or None

    Returns
    -------
    ndarray of shape (state_bits,), float64
    """
    rng = np.random.default_rng(rng)
    x = _samples(samples, rng)
    top = max(symbol_widths(bits))
    strata = 0.5 ** np.arange(min(top, state_bits), 0, -1)  # the newest symbol: whole strata
    best, least = None, np.inf
    for trial in range(trials):
        if best is None or trial < trials // 2:
            a = rng.random(state_bits)
            if start is None:
                a[state_bits - len(strata) :] = strata
            else:
                a[1:] = start
        else:
            a = best.copy()
            b = int(rng.integers(max(state_bits - min(symbol_widths(bits)), 1)))
            a[b] = rng.random() if trial % 2 else (a[b] + 0.06 * rng.standard_normal()) % 1.0
        error = _mean_square(linear_table(a, bits), bits, x)[0]
        if error < least:
            best, least = a, error
    assert best is not None
    return best


def lloyd_pass(table: np.ndarray, bits: int | float, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Move each value to the mean of the samples that it codes.

    Parameters
    ----------
    table : ndarray of shape (2**L,), float32, antisymmetric
    bits : int or float
    x : ndarray of shape (m, n), float32
        Sequences of samples.

    Returns
    -------
    table : ndarray of shape (2**L,), float32
    error : float
        Mean squared error of the table that was given.
    """
    error, codes = _mean_square(table, bits, x)
    states = _states(codes, len(table), bits)
    count = np.bincount(states, minlength=len(table)).astype(np.float64)
    total = np.bincount(states, x.reshape(-1), len(table))
    count, total = count + count[::-1], total - total[::-1]
    return (table + (total - count * table) / (count + _COUNT)).astype(np.float32), error


def gaussian_error(
    table: np.ndarray, bits: int | float, *, samples: int = 1_000_000, rng: int = 0
) -> float:
    """Mean squared error on N(0, 1) of long sequences.

    Parameters
    ----------
    table : ndarray of shape (2**L,), float32
    bits : int or float
    samples : int
    rng : int

    Returns
    -------
    float
    """
    return _mean_square(table, bits, _samples(samples, np.random.default_rng(rng)))[0]


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
    """Train one table.

    Parameters
    ----------
    state_bits : int
    bits : int or float
    start, trials
        As in `search_coefficients`.
    passes : int
        Lloyd passes.
    per_state : int
        Samples of a pass for each state; at least 100 000 in all.
    rng : int, numpy.random.Generator or None

    Returns
    -------
    table : ndarray of shape (2**L,), float32
    coefficients : ndarray of shape (L,), float64
        Those of the table that training started from.

    Examples
    --------
    >>> from lplr.quantizers.train_trellis import gaussian_error, train_table
    >>> table, _ = train_table(6, 2, trials=4, passes=2, rng=0)
    >>> gaussian_error(table, 2, samples=100_000) < 0.1
    True
    """
    rng = np.random.default_rng(rng)
    a = search_coefficients(state_bits, bits, start=start, trials=trials, rng=rng)
    table = linear_table(a, bits)
    for _ in range(passes):
        x = _samples(max(per_state << state_bits, 100_000), rng)
        table, _ = lloyd_pass(table, bits, x)
    return table, a


def _samples(count: int, rng: np.random.Generator) -> np.ndarray:
    """Sequences of samples of N(0, 1), about ``count`` of them in all."""
    return rng.standard_normal((-(-count // _SEQUENCE), _SEQUENCE), dtype=np.float32)


def _mean_square(table: np.ndarray, bits: int | float, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean squared error and symbols, coded in threads."""
    book = Trellis.from_table(table, bits, 0.0)
    codes = np.empty(x.shape, np.uint8)
    errors = np.empty(len(x))

    def block(start: int, stop: int) -> None:
        codes[start:stop] = book.encode(x[start:stop, :, None])
        e = x[start:stop] - book.decode(codes[start:stop])[..., 0]
        errors[start:stop] = np.mean(e.astype(np.float64) ** 2, 1)

    run_blocks(block, len(x), 8)
    return float(errors.mean()), codes


def _states(codes: np.ndarray, size: int, bits: int | float) -> np.ndarray:
    """State of every entry: what is decoded with the table 0, 1, 2, …"""
    numbers = Trellis.from_table(np.arange(size, dtype=np.float32), bits, 0.0)
    return numbers.decode(codes).reshape(-1).astype(np.int64)


def _bits_of_states(state_bits: int) -> np.ndarray:
    return np.arange(1 << state_bits)[:, None] >> np.arange(state_bits) & 1


def main(argv: Sequence[str] | None = None) -> int:
    """Train tables and write them to one file."""
    parser = argparse.ArgumentParser(
        prog="python -m lplr.quantizers.train_trellis", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--state-bits", type=int, nargs="+", default=list(STATE_BITS))
    parser.add_argument("--bits", type=float, nargs="+", default=[i / 4 for i in range(4, 25)])
    parser.add_argument("--output", type=Path, required=True, help="a better table is kept")
    parser.add_argument("--trials", type=int, default=200, help="starts that are compared")
    parser.add_argument("--passes", type=int, default=25, help="Lloyd passes")
    parser.add_argument("--per-state", type=int, default=200, help="samples of a pass a state")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    tables = read_tables(args.output) if args.output.exists() else {}
    for bits in args.bits:
        start = None
        for state_bits in sorted(args.state_bits):
            rng = np.random.default_rng([args.seed, state_bits, int(4 * bits)])
            if start is not None and len(start) != state_bits - 1:
                start = None
            table, start = train_table(
                state_bits,
                bits,
                start=start,
                trials=args.trials,
                passes=args.passes,
                per_state=args.per_state,
                rng=rng,
            )
            table = rounded(table, bits)
            error = gaussian_error(table, bits)
            key = (state_bits, int(4 * bits))
            if key not in tables or error < tables[key][1]:
                tables[key] = (table, error)
                write_tables(args.output, tables)
            print(f"L = {state_bits:2}, {bits:4} bits: {error:.5f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
