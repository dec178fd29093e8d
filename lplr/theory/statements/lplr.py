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
from lplr.theory.records import ROUNDING, Outcome, Setting, Statement, Trial
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
    DecomposedMatrix,
    decomposed,
    grid,
    only_drawn,
    real_matrices,
)

__all__ = ["LPLR_STATEMENTS"]

_FAILURE = 1e-9  # probability that the range of L is exceeded in a trial
_PILOTS = 9


@dataclass(frozen=True)
class _FixedSteps:
    """LPLR with steps that are fixed before any trial, as the theorems have it.

    The range of L is `sketch_range`. W* has heavy tails when the sketch has nearly the rank of A,
    and no range known beforehand is of use: the step of R is that of B bits over the median range
    of a few pilot trials, and its grid has no ends. The bounds know the step alone.
    """

    given: DecomposedMatrix
    m: int
    ranges: tuple[float, float]

    @classmethod
    def prepare(cls, setting: Setting, rng: np.random.Generator) -> _FixedSteps:
        given, m = decomposed(setting, rng), setting["m"]
        A = given.A
        left = sketch_range(np.linalg.norm(A, axis=1), m, _FAILURE)
        found = []
        for _ in range(_PILOTS):
            S = gaussian(A.shape[1], m, rng)
            L = round_to_grid(A @ S, setting.get("bits", 8), cheap_dither(rng), left).values
            found.append(np.abs(solve(L, A).W).max())
        return cls(given, m, (left, float(np.median(found))))

    def steps(self, bits: tuple[int, int]) -> tuple[float, float]:
        """Steps of the quantizers of L and R."""
        return uniform_step(bits[0], self.ranges[0]), uniform_step(bits[1], self.ranges[1])

    def sketch(self, bits: int, rng: np.random.Generator) -> tuple[Solved, bool]:
        """The least squares problem that the quantized sketch makes, and whether L saturated."""
        A = self.given.A
        Y = A @ gaussian(A.shape[1], self.m, rng)
        L = round_to_grid(Y, bits, cheap_dither(rng), self.ranges[0])
        return solve(L.values, A), L.saturated

    def trial(self, bits: tuple[int, int], bound: float, feedback: bool = False) -> Trial:
        """Squared error of L R; with feedback, R is rounded by LDLQ under L^T L."""
        energy, step = self.given.energy, self.steps(bits)[1]

        def trial(rng: np.random.Generator) -> Outcome:
            solved, saturated = self.sketch(bits[0], rng)
            if feedback:
                C, _ = unit_factor(solved.gram)
                R = solved.W - feedback_round(solved.W, C, step, cheap_dither(rng))[0]
            else:
                R = round_endless(solved.W, step, cheap_dither(rng))
            error = squared_error(energy, solved, R)
            return Outcome(error, bound, saturated, rounding=ROUNDING * energy)

        return trial


def _bits(setting: Setting) -> tuple[int, int]:
    return setting["bits"], setting.get("bits_right", setting["bits"])


def _fixed_steps(
    setting: Setting,
    rng: np.random.Generator,
    bound: Callable[..., float],
    feedback: bool = False,
) -> Trial:
    fixed, bits = _FixedSteps.prepare(setting, rng), _bits(setting)
    keywords = {"k": setting["k"]} if "k" in setting else {}
    A, sigma = fixed.given.A, fixed.given.sigma
    value = bound(sigma, A.shape, fixed.m, fixed.steps(bits), **keywords)
    return fixed.trial(bits, value, feedback)


def _theorem_3_2(setting: Setting, rng: np.random.Generator) -> Trial:
    """The bits that epsilon, a share of |A|^2, asks for; then the error at those bits."""
    fixed, k = _FixedSteps.prepare(setting, rng), setting["k"]
    A, sigma = fixed.given.A, fixed.given.sigma
    epsilon = setting["epsilon"] * fixed.given.energy
    bits = lplr_bits(sigma, A.shape, fixed.m, k, epsilon, fixed.ranges)
    return fixed.trial(bits, lplr_theorem_3_2(sigma, fixed.m, k, epsilon))


def _own_range(setting: Setting, rng: np.random.Generator) -> Trial:
    """LPLR as in Algorithm 1: each step comes from the range of the matrix that is quantized.

    The steps are then random, and both the step and ``|(V_k^T S)^+|`` depend on S: the product of
    their means is not the mean of their product. But the dither of L does not depend on S, nor
    that of R on L. So the derivation of `lplr_bound` holds with the means taken at the end: the
    mean error is at most that of
    ``(1 + k/(m-k-1)) |A - A_k|^2 + n step^2/4 |(V_k^T S)^+|^2 + d step'^2/4 |L|^2``,
    whose last two terms are those of the trial.
    """
    given, m, bits = decomposed(setting, rng), setting["m"], _bits(setting)
    A, sigma, energy = given.A, given.sigma, given.energy
    n, d = A.shape
    pilot = round_to_grid(A @ gaussian(d, m, rng), bits[0], cheap_dither(rng))
    k = lplr_best_k(sigma, (n, d), m, pilot.step)
    sketch_error = lplr_bound(sigma, (n, d), m, 0.0, k=k)
    leading = np.ascontiguousarray(given.V[:, :k].T)

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


def _pivots(setting: Setting, rng: np.random.Generator) -> Trial:
    fixed, bits = _FixedSteps.prepare(setting, rng), setting["bits"]
    given, step = fixed.given, uniform_step(bits, fixed.ranges[0])
    bound = float(pivot_bounds(given.sigma, given.A.shape, fixed.m, step).sum())

    def trial(rng: np.random.Generator) -> Outcome:
        solved, saturated = fixed.sketch(bits, rng)
        total = float(unit_factor(solved.gram)[1].sum())
        return Outcome(total, bound, saturated, rounding=ROUNDING * given.energy)

    return trial


def _never_larger(setting: Setting, rng: np.random.Generator) -> Trial:
    """Random spectra and steps of all sizes."""
    only_drawn(setting)
    shape, m = (setting["n"], setting["d"]), setting["m"]

    def trial(rng: np.random.Generator) -> Outcome:
        sigma = np.sort(rng.random(min(shape)) ** rng.integers(0, 12))[::-1]
        steps = tuple(10.0 ** rng.uniform(-6, 1, 2))
        fed = feedback_lplr_bound(sigma, shape, m, steps)
        return Outcome(fed, lplr_bound(sigma, shape, m, steps))

    return trial


_TALL = SHAPES[:1]
_LINE = (
    *grid(SPECTRA, _TALL, m=16, bits=[2, 3, 6, 8]),
    *grid(SPECTRA, _TALL, m=16, bits=2, bits_right=6),
)
_GRID = (*grid(SPECTRA, SHAPES, m=[8, 16, 24], bits=[1, 4, 12]), *_LINE)
_SMALL_GRID = (*grid(SPECTRA, SHAPES, m=[8, 24], bits=[1, 4, 12]), *_LINE)
# Its bound takes a tenth of a second at 24 columns.
_FEEDBACK_GRID = (*grid(SPECTRA, SHAPES, m=[8, 16], bits=[1, 4, 12]), *_LINE)
_REAL = real_matrices(m=[16, 64], bits=[2, 4, 8])
_DERIVED = "this project, from the derivation of lplr_bound"

LPLR_STATEMENTS = (
    Statement(
        "lplr-bound",
        "A ~ L R by LPLR: mean |L R - A|^2 <= lplr_bound, with explicit constants",
        "LPLR (2023), Theorem 3.2, with its constants",
        "expectation",
        partial(_fixed_steps, bound=lplr_bound),
        (*_GRID, *grid(SPECTRA, SHAPES, m=8, bits=6, k=6)),
        _REAL,
        function="lplr_bound",
    ),
    Statement(
        "lplr-sharp-bound",
        "a smaller bound: mean |L R - A|^2 <= lplr_sharp_bound",
        _DERIVED,
        "expectation",
        partial(_fixed_steps, bound=lplr_sharp_bound),
        _SMALL_GRID,
        _REAL,
        function="lplr_sharp_bound",
    ),
    Statement(
        "lplr-nested-bound",
        "the smallest bound: mean |L R - A|^2 <= lplr_nested_bound",
        _DERIVED,
        "expectation",
        partial(_fixed_steps, bound=lplr_nested_bound),
        _GRID,
        _REAL,
        function="lplr_nested_bound",
    ),
    Statement(
        "lplr-bound-own-range",
        "lplr_bound where each quantizer takes its range from the matrix that it rounds",
        "LPLR (2023), Algorithm 1",
        "expectation",
        _own_range,
        _SMALL_GRID,
        _REAL,
        function="lplr_bound",
    ),
    Statement(
        "lplr-theorem-3-2",
        "enough bits: mean |L R - A|^2 <= (1 + k/(m-k-1)) |A - A_k|^2 + epsilon",
        "LPLR (2023), Theorem 3.2",
        "expectation",
        _theorem_3_2,
        grid(SPECTRA, SHAPES, m=12, k=[4, 8], epsilon=[0.1, 0.001]),
        real_matrices(m=32, k=16, epsilon=[0.1, 0.01]),
        function="lplr_theorem_3_2",
    ),
    Statement(
        "feedback-lplr-bound",
        "R rounded with feedback, H = L'L: mean |L R - A|^2 <= feedback_lplr_bound",
        "this project, by the LDLQ identity",
        "expectation",
        partial(_fixed_steps, bound=feedback_lplr_bound, feedback=True),
        _FEEDBACK_GRID,
        _REAL,
        function="feedback_lplr_bound",
    ),
    Statement(
        "pivot-bounds",
        "pivots D of H = L'L: mean tr(D) <= sum of pivot_bounds",
        "this project, step 3 in the docstring of feedback_lplr_bound",
        "expectation",
        _pivots,
        grid(SPECTRA, SHAPES, m=[8, 16], bits=[2, 8]),
        function="pivot_bounds",
    ),
    Statement(
        "feedback-lplr-bound-never-larger",
        "feedback never raises the bound: feedback_lplr_bound <= lplr_bound",
        "this project",
        "always",
        _never_larger,
        tuple({"n": n, "d": d, "m": m} for n, d in ((12, 9), (9, 12)) for m in (3, 6)),
        function="feedback_lplr_bound",
    ),
)
