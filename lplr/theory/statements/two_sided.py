"""Statements about feedback with errors weighed on both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from lplr.theory.bounds import (
    dithered_variance_bound,
    incoherent_pivot_bound,
    ldl_pivots,
    ldlq_ratio,
    nearest_error_bound,
    nearest_high_rate_error,
    two_sided_bound,
    two_sided_expected_loss,
    two_sided_loss,
)
from lplr.theory.records import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import (
    Dither,
    cheap_dither,
    nearest,
    two_sided_round,
    unit_factor,
)
from lplr.theory.statements.ldlq import RoundingProblem
from lplr.theory.statements.matrices import (
    SPECTRA,
    grid,
    only_drawn,
    real_layers,
    weighted_problem,
)

__all__ = ["TWO_SIDED_STATEMENTS"]


@dataclass(frozen=True)
class TwoSidedProblem(RoundingProblem):
    """Weights under a Hessian and an output Hessian, to be rounded with this step.

    Parameters
    ----------
    n, d, H, W, step, C
        As in `RoundingProblem`.
    G : ndarray of shape (n, n), float64
    B : ndarray of shape (n, n), float64
        G = B diag(D) B^T.
    """

    G: np.ndarray
    B: np.ndarray

    @classmethod
    def prepare(cls, setting: Setting, rng: np.random.Generator) -> TwoSidedProblem:
        """H is that of the setting's matrix; G has the spectrum that ``"outputs"`` names."""
        given = RoundingProblem.prepare(setting, rng)
        G = weighted_problem({"matrix": setting["outputs"], "n": 1, "d": given.n}, rng).H
        return cls(**vars(given), G=G, B=unit_factor(G)[0])

    def both(
        self, W: np.ndarray, dither: Dither, subtractive: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """W - Q of two-sided feedback and the rounding errors, both of shape (n, d)."""
        return two_sided_round(W, self.B, self.C, self.step, dither, subtractive)

    def loss(self, E: np.ndarray) -> float:
        """tr(G E H E^T)."""
        return float(np.vdot(self.G @ E, E @ self.H))


def _identity(setting: Setting, rng: np.random.Generator) -> Trial:
    given = TwoSidedProblem.prepare(setting, rng)

    def trial(rng: np.random.Generator) -> Outcome:
        E, eta = given.both(given.weights(rng), cheap_dither(rng))
        # Errors are off by some units in the last place of W, not of the step.
        value, lost = given.loss(E), ROUNDING / given.step
        return Outcome(value, two_sided_loss(eta, given.H, given.G), rounding=lost * value)

    return trial


def _mean(
    setting: Setting,
    rng: np.random.Generator,
    variance: Callable[[float], float],
    dithered: bool,
    subtractive: bool = False,
) -> Trial:
    """Loss of rounding errors whose mean square is ``variance(step)``."""
    given = TwoSidedProblem.prepare(setting, rng)
    bound = two_sided_expected_loss(given.H, given.G, variance(given.step))

    def trial(rng: np.random.Generator) -> Outcome:
        dither = cheap_dither(rng) if dithered else nearest
        E, _ = given.both(given.weights(rng), dither, subtractive)
        return Outcome(given.loss(E), bound)

    return trial


def _spectral(setting: Setting, rng: np.random.Generator) -> Trial:
    given = TwoSidedProblem.prepare(setting, rng)
    bound = two_sided_bound(given.H, given.G, given.step)

    def trial(rng: np.random.Generator) -> Outcome:
        return Outcome(given.loss(given.both(given.weights(rng), nearest)[0]), bound)

    return trial


def _gain(setting: Setting, rng: np.random.Generator) -> Trial:
    only_drawn(setting)
    given = TwoSidedProblem.prepare(setting, rng)
    ratio = ldlq_ratio(given.G)

    def trial(rng: np.random.Generator) -> Outcome:
        W = given.weights(rng)
        both, rows = given.both(W, nearest)[0], given.feedback(W, nearest)[0]
        return Outcome(given.loss(both), ratio * given.loss(rows))

    return trial


def _pivots(setting: Setting, rng: np.random.Generator) -> Trial:
    """Eigenvectors are drawn in each trial, and pivots taken in both orders."""

    def trial(rng: np.random.Generator) -> Outcome:
        H = weighted_problem(setting, rng, damping=1e-6).H
        most = max(float(ldl_pivots(H, order=order).sum()) for order in ("natural", "min-pivot"))
        return Outcome(most, incoherent_pivot_bound(H))

    return trial


_SHAPE = ((8, 12),)
_COARSE = grid(SPECTRA, _SHAPE, outputs=["k^-1", "outlier"], bits=[1, 4])
_FINE = grid(SPECTRA, _SHAPE, outputs=["k^-1", "outlier"], bits=8)
_REAL = real_layers(outputs="k^-1", bits=2)
_SOURCE = "this project; QuIP (2023), Theorem 1, is the case G = I"

TWO_SIDED_STATEMENTS = (
    Statement(
        "two-sided-loss",
        "feedback on both sides, exactly: tr(G E H E') = sum of D_G[i] eta[i,j]^2 D_H[j]",
        _SOURCE,
        "identity",
        _identity,
        _COARSE,
        _REAL,
        function="two_sided_loss",
    ),
    Statement(
        "two-sided-expected-loss-dithered",
        "dithered, feedback on both sides: mean tr(G E H E') <= step^2/4 tr(D_G) tr(D_H)",
        _SOURCE,
        "expectation",
        partial(_mean, variance=dithered_variance_bound, dithered=True),
        _COARSE,
        _REAL,
        function="two_sided_expected_loss",
    ),
    Statement(
        "two-sided-expected-loss-nearest",
        "to the nearest, feedback on both sides: tr(G E H E') <= step^2/4 tr(D_G) tr(D_H)",
        _SOURCE,
        "always",
        partial(_mean, variance=nearest_error_bound, dithered=False),
        _COARSE,
        _REAL,
        function="two_sided_expected_loss",
    ),
    Statement(
        "two-sided-expected-loss-subtractive",
        "subtractive dither, any step: mean tr(G E H E') = step^2/12 tr(D_G) tr(D_H)",
        _SOURCE,
        "expectation",
        partial(_mean, variance=nearest_high_rate_error, dithered=True, subtractive=True),
        _COARSE,
        _REAL,
        function="two_sided_expected_loss",
    ),
    Statement(
        "two-sided-bound",
        "to the nearest: tr(G E H E') <= step^2/4 times incoherent-pivot-bound of G and of H",
        "this project; QuIP (2023), Theorem 1 and Lemma 2",
        "always",
        _spectral,
        _COARSE,
        _REAL,
        function="two_sided_bound",
    ),
    Statement(
        "two-sided-gain",
        "on a fine grid feedback on both sides = tr(D_G)/tr(G) times the mean loss on one side",
        _SOURCE,
        "expectation",
        _gain,
        _FINE,
    ),
    Statement(
        "incoherent-pivot-bound",
        "tr(D) <= the largest diagonal entry of H^(1/2), times tr(H^(1/2))",
        "this project; QuIP (2023), Lemma 2, follows from it",
        "always",
        _pivots,
        grid(SPECTRA, ((1, 8), (1, 24))),
        real_layers(),
        function="incoherent_pivot_bound",
    ),
)
