"""Statements about LPLR: both factors quantized, R solved for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from lplr.theory.bounds import (
    feedback_lplr_bound,
    lplr_best_k,
    lplr_bits,
    lplr_bound,
    lplr_nested_bound,
    lplr_sharp_bound,
    lplr_theorem_3_2,
    pivot_bounds,
    sketch_range,
    uniform_step,
)
from lplr.theory.montecarlo import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import (
    Solved,
    cheap_dither,
    feedback_round,
    gaussian,
    pseudo_inverse_energy,
    round_endless,
    round_to_grid,
    solve,
    squared_error,
    unit_factor,
)
from lplr.theory.statements.matrices import (
    SHAPES,
    SPECTRA,
    Spectral,
    decomposed,
    grid,
    real_matrices,
)

__all__ = ["LPLR_STATEMENTS"]

Bound = Callable[[np.ndarray, tuple[int, int], int, tuple[float, float]], float]

_FAILURE = 1e-9  # probability that the range of L is exceeded in a trial
_PILOTS = 9


@dataclass(frozen=True)
class _Fixed:
    """LPLR with steps that are fixed before any trial, as the theorems have it.

    The range of L is the a-priori one. That of W* has such heavy tails for a sketch of nearly the
    rank that no a-priori range is of use: its step is that of B bits over the median range of a
    few pilots, and its grid has no ends. The bounds know the step alone.
    """

    spectral: Spectral
    m: int
    ranges: tuple[float, float]

    @classmethod
    def prepare(cls, setting: Setting, rng: np.random.Generator) -> _Fixed:
        spectral, m = decomposed(setting, rng), setting["m"]
        A = spectral.A
        left = sketch_range(np.linalg.norm(A, axis=1), m, _FAILURE)
        found = []
        for _ in range(_PILOTS):
            S = gaussian(A.shape[1], m, rng)
            L = round_to_grid(A @ S, setting.get("bits", 8), cheap_dither(rng), left).values
            found.append(np.abs(solve(L, A).W).max())
        return cls(spectral, m, (left, float(np.median(found))))

    def steps(self, bits: tuple[int, int]) -> tuple[float, float]:
        """Of L and R."""
        return uniform_step(bits[0], self.ranges[0]), uniform_step(bits[1], self.ranges[1])

    def sketch(self, bits: int, rng: np.random.Generator) -> tuple[Solved, bool]:
        """The least squares problem that the quantized sketch makes, and whether L saturated."""
        A = self.spectral.A
        Y = A @ gaussian(A.shape[1], self.m, rng)
        L = round_to_grid(Y, bits, cheap_dither(rng), self.ranges[0])
        return solve(L.values, A), L.saturated


def _bits(setting: Setting) -> tuple[int, int]:
    return setting["bits"], setting.get("bits_right", setting["bits"])


def _lplr(setting: Setting, rng: np.random.Generator) -> Trial:
    return _fixed_steps(setting, rng, partial(lplr_bound, k=setting.get("k")))


def _sharp(setting: Setting, rng: np.random.Generator) -> Trial:
    return _fixed_steps(setting, rng, lplr_sharp_bound)


def _nested(setting: Setting, rng: np.random.Generator) -> Trial:
    return _fixed_steps(setting, rng, lplr_nested_bound)


def _fixed_steps(setting: Setting, rng: np.random.Generator, bound: Bound) -> Trial:
    fixed, bits = _Fixed.prepare(setting, rng), _bits(setting)
    spectral = fixed.spectral
    value = bound(spectral.sigma, spectral.A.shape, fixed.m, fixed.steps(bits))
    return _plain_trial(fixed, bits, value)


def _plain_trial(fixed: _Fixed, bits: tuple[int, int], bound: float) -> Trial:
    energy, step = fixed.spectral.energy, fixed.steps(bits)[1]

    def trial(rng: np.random.Generator) -> Outcome:
        solved, saturated = fixed.sketch(bits[0], rng)
        R = round_endless(solved.W, step, cheap_dither(rng))
        error = squared_error(energy, solved, R)
        return Outcome(error, bound, saturated, rounding=ROUNDING * energy)

    return trial


def _theorem_3_2(setting: Setting, rng: np.random.Generator) -> Trial:
    """Bits from epsilon, a share of the energy; then what those bits reach."""
    fixed, k = _Fixed.prepare(setting, rng), setting["k"]
    spectral = fixed.spectral
    epsilon = setting["epsilon"] * spectral.energy
    sigma, shape = spectral.sigma, spectral.A.shape
    bits = lplr_bits(sigma, shape, fixed.m, k, epsilon, fixed.ranges)
    return _plain_trial(fixed, bits, lplr_theorem_3_2(sigma, fixed.m, k, epsilon))


def _own_range(setting: Setting, rng: np.random.Generator) -> Trial:
    """LPLR as in Algorithm 1: each step from the range of what is quantized.

    The steps are then random, and step depends on S, as ``|(V_k^T S)^+|`` does: the product of
    their means is not the mean of their product. But given S the dither of L is what it was, and
    given L so is that of R. So the derivation of `lplr_bound` holds with the means taken at the
    end: the mean error is at most that of
    ``(1 + k/(m-k-1)) |A - A_k|^2 + n step^2/4 |(V_k^T S)^+|^2 + d step'^2/4 |L|^2``,
    whose last two terms are those of the trial.
    """
    spectral, m, bits = decomposed(setting, rng), setting["m"], _bits(setting)
    A, sigma, energy = spectral.A, spectral.sigma, spectral.energy
    n, d = A.shape
    pilot = round_to_grid(A @ gaussian(d, m, rng), bits[0], cheap_dither(rng))
    k = lplr_best_k(sigma, (n, d), m, pilot.step)
    sketch_error = lplr_bound(sigma, (n, d), m, 0.0, k=k)
    leading = np.ascontiguousarray(spectral.V[:, :k].T)

    def trial(rng: np.random.Generator) -> Outcome:
        S, dither = gaussian(d, m, rng), cheap_dither(rng)
        L = round_to_grid(A @ S, bits[0], dither)
        solved = solve(L.values, A)
        R = round_to_grid(solved.W, bits[1], dither)
        spread = pseudo_inverse_energy(leading @ S) if k else 0.0
        size = float(np.trace(solved.gram))
        bound = sketch_error + n * L.step**2 / 4 * spread + d * R.step**2 / 4 * size
        error = squared_error(energy, solved, R.values)
        return Outcome(error, bound, rounding=ROUNDING * energy)

    return trial


def _feedback(setting: Setting, rng: np.random.Generator) -> Trial:
    fixed, bits = _Fixed.prepare(setting, rng), _bits(setting)
    spectral, steps = fixed.spectral, fixed.steps(bits)
    energy = spectral.energy
    bound = feedback_lplr_bound(spectral.sigma, spectral.A.shape, fixed.m, steps)

    def trial(rng: np.random.Generator) -> Outcome:
        solved, saturated = fixed.sketch(bits[0], rng)
        C, _ = unit_factor(solved.gram)
        E, _ = feedback_round(solved.W, C, steps[1], cheap_dither(rng))
        R = solved.W - E
        error = squared_error(energy, solved, R)
        return Outcome(error, bound, saturated, rounding=ROUNDING * energy)

    return trial


def _pivots(setting: Setting, rng: np.random.Generator) -> Trial:
    fixed, bits = _Fixed.prepare(setting, rng), setting["bits"]
    spectral = fixed.spectral
    step = uniform_step(bits, fixed.ranges[0])
    bound = float(pivot_bounds(spectral.sigma, spectral.A.shape, fixed.m, step).sum())

    def trial(rng: np.random.Generator) -> Outcome:
        solved, saturated = fixed.sketch(bits, rng)
        total = float(unit_factor(solved.gram)[1].sum())
        return Outcome(total, bound, saturated, rounding=ROUNDING * spectral.energy)

    return trial


def _never_larger(setting: Setting, rng: np.random.Generator) -> Trial:
    """Random spectra and steps of all sizes."""
    shape, m = (setting["n"], setting["d"]), setting["m"]

    def trial(rng: np.random.Generator) -> Outcome:
        sigma = np.sort(rng.random(min(shape)) ** rng.integers(0, 12))[::-1]
        steps = tuple(10.0 ** rng.uniform(-6, 1, 2))
        fed = feedback_lplr_bound(sigma, shape, m, steps)
        return Outcome(fed, lplr_bound(sigma, shape, m, steps))

    return trial


_TALL = SHAPES[:1]
_LINE = [
    *grid(SPECTRA, _TALL, m=16, bits=[2, 3, 6, 8]),
    *grid(SPECTRA, _TALL, m=16, bits=2, bits_right=6),
]
_GRID = [*grid(SPECTRA, SHAPES, m=[8, 16, 24], bits=[1, 4, 12]), *_LINE]
_SMALL_GRID = [*grid(SPECTRA, SHAPES, m=[8, 24], bits=[1, 4, 12]), *_LINE]
# Its bound takes a tenth of a second at 24 columns.
_FED_GRID = [*grid(SPECTRA, SHAPES, m=[8, 16], bits=[1, 4, 12]), *_LINE]
_REAL = real_matrices(m=[16, 64], bits=[2, 4, 8])

LPLR_STATEMENTS = (
    Statement(
        "lplr",
        "E |LR - A|^2 <= bound with explicit constants, steps fixed beforehand",
        "LPLR (2023), Theorem 3.2, with its constants",
        "expectation",
        _lplr,
        (*_GRID, *grid(SPECTRA, SHAPES, m=8, bits=6, k=6)),
        tuple(_REAL),
    ),
    Statement(
        "lplr-sharp",
        "the same, the competitor shrunk direction by direction",
        "this project, from the derivation of the LPLR bound",
        "expectation",
        _sharp,
        tuple(_SMALL_GRID),
        tuple(_REAL),
    ),
    Statement(
        "lplr-nested",
        "the same, the competitor in a nested basis",
        "this project, from the derivation of the LPLR bound",
        "expectation",
        _nested,
        tuple(_GRID),
        tuple(_REAL),
    ),
    Statement(
        "lplr-own-range",
        "the same, each step from the data's own range",
        "LPLR (2023), Algorithm 1",
        "expectation",
        _own_range,
        tuple(_SMALL_GRID),
        tuple(_REAL),
    ),
    Statement(
        "theorem-3.2",
        "E |LR - A|^2 <= (1 + k/(m-k-1)) |A_k - A|^2 + epsilon at the bits that it asks for",
        "LPLR (2023), Theorem 3.2",
        "expectation",
        _theorem_3_2,
        tuple(grid(SPECTRA, SHAPES, m=12, k=[4, 8], epsilon=[0.1, 0.001])),
        tuple(real_matrices(m=32, k=16, epsilon=[0.1, 0.01])),
    ),
    Statement(
        "feedback-lplr",
        "E |LR - A|^2 <= bound, R by feedback under L'L",
        "this project, by the LDLQ identity",
        "expectation",
        _feedback,
        tuple(_FED_GRID),
        tuple(_REAL),
    ),
    Statement(
        "feedback-pivots",
        "E tr(D) <= sum of b_j/m + n step^2/4, L'L = C D C'",
        "this project, step 3 of feedback LPLR",
        "expectation",
        _pivots,
        tuple(grid(SPECTRA, SHAPES, m=[8, 16], bits=[2, 8])),
    ),
    Statement(
        "feedback-never-larger",
        "the bound of feedback LPLR <= that of LPLR, any spectrum and steps",
        "this project",
        "always",
        _never_larger,
        tuple({"n": n, "d": d, "m": m} for n, d in ((12, 9), (9, 12)) for m in (3, 6)),
    ),
)
