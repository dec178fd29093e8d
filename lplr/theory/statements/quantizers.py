"""Statements about rounding: one entry, or a matrix entry by entry."""

from __future__ import annotations

import numpy as np

from lplr.theory.bounds import (
    dithered_moments,
    dithered_variance_bound,
    naive_bound,
    nearest_error_bound,
    nearest_high_rate_error,
    uniform_step,
)
from lplr.theory.records import Outcome, Setting, Statement, Trial
from lplr.theory.simulate import cheap_dither, nearest, round_endless, round_to_grid
from lplr.theory.statements.matrices import (
    SHAPES,
    SPECTRA,
    decomposed,
    grid,
    only_drawn,
    real_matrices,
)

__all__ = ["QUANTIZER_STATEMENTS"]

_BITS = [1, 2, 4, 8, 12]


def _matrix(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """Entries to round: those of a matrix, or midpoints of the cells, the worst for a dither."""
    if setting["matrix"] != "midpoints":
        return decomposed(setting, rng).A
    X = rng.integers(0, 2 ** setting["bits"] - 1, (setting["n"], setting["d"])) + 0.5
    X.flat[:2] = 0.0, 2.0 ** setting["bits"] - 1  # the ends of the range
    return X


def _unbiased(setting: Setting, rng: np.random.Generator) -> Trial:
    """For independent errors e, f of one distribution, 4 E|(e+f)/2|^2 = 2 E|e|^2 + 2 |E e|^2."""
    A, bits = _matrix(setting, rng), setting["bits"]

    def trial(rng: np.random.Generator) -> Outcome:
        dither = cheap_dither(rng)
        e, f = (round_to_grid(A, bits, dither).values - A for _ in range(2))
        both = e + f
        halves = float(np.vdot(e, e)) + float(np.vdot(f, f))
        return Outcome(float(np.vdot(both, both)) / 4, halves / 4)

    return trial


def _variance(setting: Setting, rng: np.random.Generator) -> Trial:
    A, bits = _matrix(setting, rng), setting["bits"]
    step = round_to_grid(A, bits, nearest).step
    _, variance = dithered_moments(A, step, offset=A.min())
    bound = float(variance.sum())

    def trial(rng: np.random.Generator) -> Outcome:
        error = round_to_grid(A, bits, cheap_dither(rng)).values - A
        # The dither has 16 bits: p (1 - p) is off by 2^-17.
        return Outcome(float(np.vdot(error, error)), bound, rounding=A.size * step**2 * 2.0**-17)

    return trial


def _dithered(setting: Setting, rng: np.random.Generator) -> Trial:
    A, bits = _matrix(setting, rng), setting["bits"]

    def trial(rng: np.random.Generator) -> Outcome:
        rounded = round_to_grid(A, bits, cheap_dither(rng))
        error = rounded.values - A
        bound = dithered_variance_bound(rounded.step)
        return Outcome(float(np.square(error).mean()), bound)

    return trial


def _nearest(setting: Setting, rng: np.random.Generator) -> Trial:
    shape, bits = (setting["n"], setting["d"]), setting["bits"]
    given = None if setting["matrix"] == "gaussian" else decomposed(setting, rng).A

    def trial(rng: np.random.Generator) -> Outcome:
        X = rng.standard_normal(shape) if given is None else given
        rounded = round_to_grid(X, bits, nearest)
        worst = float(np.square(rounded.values - X).max())
        # A point is off by some units in the last place of the range, an error by 2^bits as many.
        bound = nearest_error_bound(rounded.step)
        return Outcome(worst, bound, rounding=2.0**bits * 2.0**-48 * bound)

    return trial


def _high_rate(setting: Setting, rng: np.random.Generator) -> Trial:
    """Range 6 deviations, without ends: the gap is below 1e-15 of the value from 4 bits up."""
    only_drawn(setting)
    shape, step = (setting["n"], setting["d"]), uniform_step(setting["bits"], 6.0)
    bound = nearest_high_rate_error(step)

    def trial(rng: np.random.Generator) -> Outcome:
        X = rng.standard_normal(shape)
        error = round_endless(X, step, nearest) - X
        return Outcome(float(np.square(error).mean()), bound)

    return trial


def _naive(setting: Setting, rng: np.random.Generator) -> Trial:
    A, bits = decomposed(setting, rng).A, setting["bits"]

    def trial(rng: np.random.Generator) -> Outcome:
        dither = nearest if setting["rounding"] == "nearest" else cheap_dither(rng)
        rounded = round_to_grid(A, bits, dither)
        error = rounded.values - A
        return Outcome(float(np.vdot(error, error)), naive_bound(A.shape, rounded.step))

    return trial


_ENTRIES = (
    *grid(["midpoints"], SHAPES[:1], bits=_BITS),
    *grid(SPECTRA, SHAPES[:1], bits=[1, 4, 12]),
)

QUANTIZER_STATEMENTS = (
    Statement(
        "dithered-moments-mean",
        "dithered rounding has no bias: averaging two errors halves the mean square",
        "LPLR (2023), Section 2",
        "expectation",
        _unbiased,
        _ENTRIES,
        function="dithered_moments",
    ),
    Statement(
        "dithered-moments-variance",
        "dithered, x lies p steps above a point: mean (Q(x) - x)^2 = step^2 p (1-p)",
        "LPLR (2023), Section 2",
        "expectation",
        _variance,
        _ENTRIES,
        function="dithered_moments",
    ),
    Statement(
        "dithered-variance-bound",
        "dithered rounding: mean (Q(x) - x)^2 <= step^2/4",
        "LPLR (2023), Section 2",
        "expectation",
        _dithered,
        _ENTRIES,
        function="dithered_variance_bound",
    ),
    Statement(
        "nearest-error-bound",
        "rounding to the nearest point: (Q(x) - x)^2 <= step^2/4",
        "LPLR (2023), Section 2",
        "always",
        _nearest,
        grid(["gaussian"], SHAPES, bits=_BITS),
        function="nearest_error_bound",
    ),
    Statement(
        "nearest-high-rate-error",
        "rounding to the nearest point of a fine grid: mean (Q(x) - x)^2 = step^2/12",
        "Bennett (1948)",
        "expectation",
        _high_rate,
        grid(["gaussian"], SHAPES, bits=[4, 6, 8, 12]),
        function="nearest_high_rate_error",
    ),
    Statement(
        "naive-bound-dithered",
        "all entries rounded, dithered: mean |Q(A) - A|^2 <= n d step^2/4",
        "LPLR (2023), Section 4",
        "expectation",
        _naive,
        grid(SPECTRA, SHAPES, bits=[1, 4, 12], rounding="dithered"),
        real_matrices(bits=[2, 4], rounding="dithered"),
        function="naive_bound",
    ),
    Statement(
        "naive-bound-nearest",
        "all entries rounded to the nearest points: |Q(A) - A|^2 <= n d step^2/4",
        "LPLR (2023), Section 4",
        "always",
        _naive,
        grid(SPECTRA, SHAPES, bits=[1, 4, 12], rounding="nearest"),
        real_matrices(bits=[2, 4], rounding="nearest"),
        function="naive_bound",
    ),
)
