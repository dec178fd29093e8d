"""Statements about LDL feedback (LDLQ)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lplr.theory.bounds import (
    ldlq_expected_loss,
    ldlq_loss,
    ldlq_ratio,
    nearest_high_rate_error,
    rounding_expected_loss,
    rounding_worst_loss,
    uniform_step,
)
from lplr.theory.montecarlo import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import (
    Dither,
    cheap_dither,
    feedback_round,
    hessian_loss,
    nearest,
    round_endless,
    unit_factor,
)
from lplr.theory.statements.matrices import SPECTRA, Problem, grid, problem, real_layers

__all__ = ["LDLQ_STATEMENTS", "Layer"]

RANGE = 4.0  # of the quantizer, in deviations of W: its levels go on beyond


@dataclass(frozen=True)
class Layer:
    """Weights under a Hessian, a quantizer for them, and the factor for feedback.

    Parameters
    ----------
    problem : Problem
    step : float
    C : ndarray of shape (d, d), float64
        H = C diag(D) C^T.
    """

    problem: Problem
    step: float
    C: np.ndarray

    @classmethod
    def prepare(cls, setting: Setting, rng: np.random.Generator) -> Layer:
        """Of the setting's matrix and bits."""
        found = problem(setting, rng)
        return cls(found, uniform_step(setting["bits"], RANGE), unit_factor(found.H)[0])

    @property
    def H(self) -> np.ndarray:
        """Shape (d, d)."""
        return self.problem.H

    def feedback(self, W: np.ndarray, dither: Dither) -> tuple[np.ndarray, np.ndarray]:
        """W - Q of LDLQ and the rounding errors, both of shape (n, d)."""
        E, eta = feedback_round(np.ascontiguousarray(W.T), self.C, self.step, dither)
        return E.T, eta.T

    def plain(self, W: np.ndarray, dither: Dither) -> np.ndarray:
        """W - Q of rounding entry by entry, shape (n, d)."""
        return W - round_endless(W, self.step, dither)


def _identity(setting: Setting, rng: np.random.Generator) -> Trial:
    layer = Layer.prepare(setting, rng)

    def trial(rng: np.random.Generator) -> Outcome:
        E, eta = layer.feedback(layer.problem.weights(rng), cheap_dither(rng))
        # Errors are off by some units in the last place of W, not of the step.
        value, lost = hessian_loss(E, layer.H), ROUNDING / layer.step
        return Outcome(value, ldlq_loss(eta, layer.H), rounding=lost * value)

    return trial


def _expected(setting: Setting, rng: np.random.Generator) -> Trial:
    layer = Layer.prepare(setting, rng)
    bound = ldlq_expected_loss(layer.H, layer.problem.n, layer.step**2 / 4)

    def trial(rng: np.random.Generator) -> Outcome:
        E, _ = layer.feedback(layer.problem.weights(rng), cheap_dither(rng))
        return Outcome(hessian_loss(E, layer.H), bound)

    return trial


def _always(setting: Setting, rng: np.random.Generator) -> Trial:
    layer = Layer.prepare(setting, rng)
    bound = ldlq_expected_loss(layer.H, layer.problem.n, layer.step**2 / 4)

    def trial(rng: np.random.Generator) -> Outcome:
        E, _ = layer.feedback(layer.problem.weights(rng), nearest)
        return Outcome(hessian_loss(E, layer.H), bound)

    return trial


def _high_rate(setting: Setting, rng: np.random.Generator) -> Trial:
    layer = Layer.prepare(setting, rng)
    variance = nearest_high_rate_error(layer.step)
    bound = ldlq_expected_loss(layer.H, layer.problem.n, variance)

    def trial(rng: np.random.Generator) -> Outcome:
        E, _ = layer.feedback(layer.problem.weights(rng), nearest)
        return Outcome(hessian_loss(E, layer.H), bound)

    return trial


def _ratio(setting: Setting, rng: np.random.Generator) -> Trial:
    layer = Layer.prepare(setting, rng)
    ratio = ldlq_ratio(layer.H)

    def trial(rng: np.random.Generator) -> Outcome:
        W = layer.problem.weights(rng)
        fed, plain = layer.feedback(W, nearest)[0], layer.plain(W, nearest)
        return Outcome(hessian_loss(fed, layer.H), ratio * hessian_loss(plain, layer.H))

    return trial


def _rounding(setting: Setting, rng: np.random.Generator) -> Trial:
    layer = Layer.prepare(setting, rng)
    bound = rounding_expected_loss(layer.H, layer.problem.n, layer.step**2 / 4)

    def trial(rng: np.random.Generator) -> Outcome:
        E = layer.plain(layer.problem.weights(rng), cheap_dither(rng))
        return Outcome(hessian_loss(E, layer.H), bound)

    return trial


def _worst(setting: Setting, rng: np.random.Generator) -> Trial:
    """The errors nearest to the leading eigenvector, which is where rounding is at its worst."""
    layer = Layer.prepare(setting, rng)
    bound = rounding_worst_loss(layer.H, layer.problem.n, layer.step)
    leading = np.sign(np.linalg.eigh(layer.H)[1][:, -1])

    def trial(rng: np.random.Generator) -> Outcome:
        levels = layer.step * (rng.integers(-2, 3, (layer.problem.n, layer.problem.d)) + 0.5)
        W = levels + 0.499 * layer.step * leading
        return Outcome(hessian_loss(layer.plain(W, nearest), layer.H), bound)

    return trial


_SHAPE = ((16, 24),)
_COARSE = (*grid(SPECTRA, _SHAPE, bits=[1, 2, 4, 8, 12]),)
_FINE = (*grid(SPECTRA, _SHAPE, bits=[6, 8, 12]),)
_REAL = (*real_layers(bits=[2, 4]),)
_QUIP = "QuIP (2023), Theorem 1"

LDLQ_STATEMENTS = (
    Statement(
        "ldlq",
        "tr(E H E') = tr(eta D eta') for LDL feedback",
        f"{_QUIP}; CALDERA (2024), Section 4",
        "identity",
        _identity,
        _COARSE,
        _REAL,
    ),
    Statement(
        "ldlq-dithered",
        "E tr(E H E') <= n step^2/4 tr(D), dithered feedback",
        _QUIP,
        "expectation",
        _expected,
        _COARSE,
        _REAL,
    ),
    Statement(
        "ldlq-nearest",
        "tr(E H E') <= n step^2/4 tr(D), nearest feedback",
        _QUIP,
        "always",
        _always,
        _COARSE,
        _REAL,
    ),
    Statement(
        "ldlq-high-rate",
        "E tr(E H E') = n step^2/12 tr(D), nearest feedback at high rate",
        _QUIP,
        "expectation",
        _high_rate,
        _FINE,
    ),
    Statement(
        "ldlq-ratio",
        "loss of feedback = tr(D)/tr(H) of that of rounding, in the mean, at high rate",
        f"{_QUIP} and Lemma 2",
        "expectation",
        _ratio,
        _FINE,
    ),
    Statement(
        "rounding-dithered",
        "E tr(E H E') <= n step^2/4 tr(H), dithered, no feedback",
        "QuIP (2023), Section 3",
        "expectation",
        _rounding,
        _COARSE,
        _REAL,
    ),
    Statement(
        "rounding-nearest",
        "tr(E H E') <= n step^2/4 sum |H_ij|, nearest, no feedback",
        "this project",
        "always",
        _worst,
        _COARSE,
    ),
)
