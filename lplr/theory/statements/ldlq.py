"""Statements about rounding with LDL feedback (LDLQ)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from lplr.theory.bounds import (
    dithered_variance_bound,
    ldlq_expected_loss,
    ldlq_loss,
    ldlq_ratio,
    nearest_error_bound,
    nearest_high_rate_error,
    rounding_expected_loss,
    rounding_worst_loss,
    uniform_step,
)
from lplr.theory.records import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import (
    Dither,
    cheap_dither,
    feedback_round,
    hessian_loss,
    nearest,
    round_endless,
    unit_factor,
)
from lplr.theory.statements.matrices import (
    SPECTRA,
    WeightedProblem,
    grid,
    only_drawn,
    real_layers,
    weighted_problem,
)

__all__ = ["LDLQ_STATEMENTS", "RANGE", "RoundingProblem"]

RANGE = 4.0  # range of the quantizer in standard deviations of W; its levels go on beyond


@dataclass(frozen=True)
class RoundingProblem(WeightedProblem):
    """Weights under a Hessian, to be rounded with this step.

    Parameters
    ----------
    n, d, H, W
        As in `WeightedProblem`.
    step : float
    C : ndarray of shape (d, d), float64
        H = C diag(D) C^T.
    """

    step: float
    C: np.ndarray

    @classmethod
    def prepare(cls, setting: Setting, rng: np.random.Generator) -> RoundingProblem:
        """The problem of the setting's matrix and bits."""
        given = weighted_problem(setting, rng)
        step = uniform_step(setting["bits"], RANGE)
        return cls(given.n, given.d, given.H, given.W, step, unit_factor(given.H)[0])

    def feedback(self, W: np.ndarray, dither: Dither) -> tuple[np.ndarray, np.ndarray]:
        """W - Q of LDLQ and the rounding errors, both of shape (n, d)."""
        E, eta = feedback_round(np.ascontiguousarray(W.T), self.C, self.step, dither)
        return E.T, eta.T

    def plain(self, W: np.ndarray, dither: Dither) -> np.ndarray:
        """W - Q of rounding entry by entry, shape (n, d)."""
        return W - round_endless(W, self.step, dither)


def _identity(setting: Setting, rng: np.random.Generator) -> Trial:
    given = RoundingProblem.prepare(setting, rng)

    def trial(rng: np.random.Generator) -> Outcome:
        E, eta = given.feedback(given.weights(rng), cheap_dither(rng))
        # Errors are off by some units in the last place of W, not of the step.
        value, lost = hessian_loss(E, given.H), ROUNDING / given.step
        return Outcome(value, ldlq_loss(eta, given.H), rounding=lost * value)

    return trial


def _loss(
    setting: Setting,
    rng: np.random.Generator,
    variance: Callable[[float], float],
    dithered: bool,
    feedback: bool = True,
) -> Trial:
    """Loss of rounding errors whose mean square is ``variance(step)``."""
    if variance is nearest_high_rate_error:
        only_drawn(setting)
    given = RoundingProblem.prepare(setting, rng)
    expected = ldlq_expected_loss if feedback else rounding_expected_loss
    bound = expected(given.H, given.n, variance(given.step))

    def trial(rng: np.random.Generator) -> Outcome:
        W, dither = given.weights(rng), cheap_dither(rng) if dithered else nearest
        E = given.feedback(W, dither)[0] if feedback else given.plain(W, dither)
        return Outcome(hessian_loss(E, given.H), bound)

    return trial


def _ratio(setting: Setting, rng: np.random.Generator) -> Trial:
    only_drawn(setting)
    given = RoundingProblem.prepare(setting, rng)
    ratio = ldlq_ratio(given.H)

    def trial(rng: np.random.Generator) -> Outcome:
        W = given.weights(rng)
        fed, plain = given.feedback(W, nearest)[0], given.plain(W, nearest)
        return Outcome(hessian_loss(fed, given.H), ratio * hessian_loss(plain, given.H))

    return trial


def _worst(setting: Setting, rng: np.random.Generator) -> Trial:
    """The errors nearest to the leading eigenvector, which is where rounding is at its worst."""
    given = RoundingProblem.prepare(setting, rng)
    bound = rounding_worst_loss(given.H, given.n, given.step)
    leading = np.sign(np.linalg.eigh(given.H)[1][:, -1])

    def trial(rng: np.random.Generator) -> Outcome:
        levels = given.step * (rng.integers(-2, 3, (given.n, given.d)) + 0.5)
        W = levels + 0.499 * given.step * leading
        return Outcome(hessian_loss(given.plain(W, nearest), given.H), bound)

    return trial


_SHAPE = ((16, 24),)
_COARSE = grid(SPECTRA, _SHAPE, bits=[1, 2, 4, 8, 12])
_FINE = grid(SPECTRA, _SHAPE, bits=[6, 8, 12])
_REAL = real_layers(bits=[2, 4])
_QUIP = "QuIP (2023), Theorem 1"

LDLQ_STATEMENTS = (
    Statement(
        "ldlq-loss",
        "loss of rounding with feedback, exactly: tr(E H E') = tr(eta D eta')",
        f"{_QUIP}; CALDERA (2024), Section 4",
        "identity",
        _identity,
        _COARSE,
        _REAL,
        function="ldlq_loss",
    ),
    Statement(
        "ldlq-expected-loss-dithered",
        "dithered rounding with feedback: mean tr(E H E') <= n step^2/4 tr(D)",
        _QUIP,
        "expectation",
        partial(_loss, variance=dithered_variance_bound, dithered=True),
        _COARSE,
        _REAL,
        function="ldlq_expected_loss",
    ),
    Statement(
        "ldlq-expected-loss-nearest",
        "nearest rounding with feedback: tr(E H E') <= n step^2/4 tr(D)",
        _QUIP,
        "always",
        partial(_loss, variance=nearest_error_bound, dithered=False),
        _COARSE,
        _REAL,
        function="ldlq_expected_loss",
    ),
    Statement(
        "ldlq-expected-loss-high-rate",
        "nearest rounding with feedback on a fine grid: mean tr(E H E') = n step^2/12 tr(D)",
        _QUIP,
        "expectation",
        partial(_loss, variance=nearest_high_rate_error, dithered=False),
        _FINE,
        function="ldlq_expected_loss",
    ),
    Statement(
        "ldlq-ratio",
        "on a fine grid the mean loss with feedback = tr(D)/tr(H) times the mean loss without it",
        f"{_QUIP} and Lemma 2",
        "expectation",
        _ratio,
        _FINE,
        function="ldlq_ratio",
    ),
    Statement(
        "rounding-expected-loss",
        "dithered rounding without feedback: mean tr(E H E') <= n step^2/4 tr(H)",
        "QuIP (2023), Section 3",
        "expectation",
        partial(_loss, variance=dithered_variance_bound, dithered=True, feedback=False),
        _COARSE,
        _REAL,
        function="rounding_expected_loss",
    ),
    Statement(
        "rounding-worst-loss",
        "nearest rounding without feedback: tr(E H E') <= n step^2/4 times the sum of |H_ij|",
        "this project",
        "always",
        _worst,
        _COARSE,
        function="rounding_worst_loss",
    ),
)
