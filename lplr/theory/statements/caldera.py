"""Statements of CALDERA: rank-constrained regression and the error of Q + L R."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from lplr.linalg.least_squares import rank_constrained
from lplr.theory.bounds import (
    caldera_pivot_bound,
    caldera_theorem_4_1,
    caldera_theorem_4_1_spectral,
    rank_constrained_optimum,
)
from lplr.theory.records import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import cheap_dither, hessian_loss, round_to_grid
from lplr.theory.statements.ldlq import RANGE, RoundingProblem
from lplr.theory.statements.matrices import SPECTRA, grid, real_layers, weighted_problem

__all__ = ["CALDERA_STATEMENTS"]


def _optimum(setting: Setting, rng: np.random.Generator) -> Trial:
    """Lemma 4.2, H as it is: singular where the spectrum is."""
    given, k = weighted_problem(setting, rng, damping=setting["damping"]), setting["k"]

    def trial(rng: np.random.Generator) -> Outcome:
        A = given.weights(rng)
        U, V = rank_constrained(A, given.H, k)
        value = hessian_loss(A - U @ V, given.H)
        # Differences of losses below that of A itself by 12 digits are lost in eigenvectors.
        whole = hessian_loss(A, given.H)
        return Outcome(value, rank_constrained_optimum(A, given.H, k), rounding=ROUNDING * whole)

    return trial


def _competitor(setting: Setting, rng: np.random.Generator) -> Trial:
    """No matrix of rank k does better: the optimum is moved here by a little or by much."""
    from scipy.linalg import eigh

    given, k = weighted_problem(setting, rng, damping=setting["damping"]), setting["k"]
    leading = (given.n - k, given.n - 1)

    def trial(rng: np.random.Generator) -> Outcome:
        A = given.weights(rng)
        size = 10.0 ** rng.uniform(-6, 0)
        U = eigh(A @ given.H @ A.T, subset_by_index=leading)[1]
        U = U + size * rng.standard_normal(U.shape)
        V = U.T @ A + size * rng.standard_normal((k, given.d))
        best = rank_constrained_optimum(A, given.H, k)
        whole = hessian_loss(A, given.H)
        return Outcome(best, hessian_loss(A - U @ V, given.H), rounding=ROUNDING * whole)

    return trial


class _Fitted(NamedTuple):
    """Q by feedback, then the best L R for the rest, as it is and quantized."""

    eta: np.ndarray  # rounding errors of Q, (n, d)
    exact: float  # loss / n of Q + L R
    quantized: float  # the same, L and R quantized
    epsilon: float  # bound on the mean loss / n that this adds


def _fit(given: RoundingProblem, setting: Setting, rng: np.random.Generator) -> _Fitted:
    """With errors F of R and G of L, ``U V - L R = -(U F + G V + G F)``: as for direct-SVD.

    F and G have mean zero and independent entries given Q, so the cross terms vanish in the mean,
    and ``E tr(F H F^T) <= k step'^2/4 tr H``, ``E tr(G V H V^T G^T) <= n step^2/4 tr(V H V^T)``,
    ``E tr(G F H F^T G^T) <= n k step^2/4 step'^2/4 tr H``.
    """
    H, n, k, bits = given.H, given.n, setting["k"], setting["factor_bits"]
    W, dither = given.weights(rng), cheap_dither(rng)
    A, eta = given.feedback(W, dither)
    U, V = rank_constrained(A, H, k)
    L, R = round_to_grid(U, bits, dither), round_to_grid(V, bits, dither)
    left, right, trace = L.step**2 / 4, R.step**2 / 4, float(np.trace(H))
    epsilon = k * right * trace + n * left * hessian_loss(V, H) + n * k * left * right * trace
    return _Fitted(
        eta=eta,
        exact=hessian_loss(A - U @ V, H) / n,
        quantized=hessian_loss(A - L.values @ R.values, H) / n,
        epsilon=epsilon / n,
    )


def _spectral_exact(setting: Setting, rng: np.random.Generator) -> Trial:
    given = RoundingProblem.prepare(setting, rng)

    def trial(rng: np.random.Generator) -> Outcome:
        found = _fit(given, setting, rng)
        whole = float(np.square(found.eta).sum())
        bound = caldera_theorem_4_1_spectral(found.eta, given.H, setting["k"])
        return Outcome(found.exact, bound, rounding=ROUNDING * whole / given.step)

    return trial


def _spectral(setting: Setting, rng: np.random.Generator) -> Trial:
    given = RoundingProblem.prepare(setting, rng)

    def trial(rng: np.random.Generator) -> Outcome:
        found = _fit(given, setting, rng)
        bound = caldera_theorem_4_1_spectral(found.eta, given.H, setting["k"], found.epsilon)
        return Outcome(found.quantized, bound)

    return trial


def _from_bits(setting: Setting, rng: np.random.Generator, bound: Callable[..., float]) -> Trial:
    """The second form of Theorem 4.1, or its sharper version."""
    given = RoundingProblem.prepare(setting, rng)
    value = bound(given.H, given.n, setting["k"], setting["bits"], RANGE)

    def trial(rng: np.random.Generator) -> Outcome:
        found = _fit(given, setting, rng)
        return Outcome(found.quantized, value + found.epsilon)

    return trial


_SHAPES = ((16, 24), (24, 16))
_LEMMA = grid(SPECTRA, _SHAPES, k=[1, 8], damping=0.0)
_LEMMA_REAL = real_layers(k=[8, 32], damping=[0.0, 0.01])
_GRID = grid(SPECTRA, _SHAPES, k=4, bits=[1, 4], factor_bits=8)
_REAL = real_layers(k=[8, 32], bits=2, factor_bits=[4, 8])

CALDERA_STATEMENTS = (
    Statement(
        "rank-constrained-optimum",
        "loss of the best matrix of rank k: tr(E H E') = sum_{i>k} sigma_i(A H^(1/2))^2",
        "CALDERA (2024), Lemma 4.2",
        "identity",
        _optimum,
        _LEMMA,
        _LEMMA_REAL,
        function="rank_constrained_optimum",
    ),
    Statement(
        "rank-constrained-optimum-best",
        "no other matrix of rank k has a smaller loss tr(E H E')",
        "CALDERA (2024), Lemma 4.2",
        "always",
        _competitor,
        _LEMMA,
        _LEMMA_REAL,
        function="rank_constrained_optimum",
    ),
    Statement(
        "caldera-theorem-4-1-spectral-exact",
        "W ~ Q + L R, L R not rounded: loss/n = sum_{i>k} lambda_i(eta D eta')/n",
        "CALDERA (2024), Theorem 4.1, epsilon = 0",
        "identity",
        _spectral_exact,
        _GRID,
        _REAL,
        function="caldera_theorem_4_1_spectral",
    ),
    Statement(
        "caldera-theorem-4-1-spectral",
        "W ~ Q + L R, L R rounded: mean loss/n <= mean sum_{i>k} lambda_i(eta D eta')/n + epsilon",
        "CALDERA (2024), Theorem 4.1, first form",
        "expectation",
        _spectral,
        _GRID,
        _REAL,
        function="caldera_theorem_4_1_spectral",
    ),
    Statement(
        "caldera-theorem-4-1",
        "mean loss/n <= 4/pi d lambda_max(H) step^2/4 (1 - k/(2n))^2 + epsilon, from the bits of Q",
        "CALDERA (2024), Theorem 4.1, second form",
        "expectation",
        partial(_from_bits, bound=caldera_theorem_4_1),
        _GRID,
        _REAL,
        function="caldera_theorem_4_1",
    ),
    Statement(
        "caldera-pivot-bound",
        "a smaller bound: mean loss/n <= (1 - k/min(n, d)) tr(D) step^2/4 + epsilon",
        "this project, the proof of Theorem 4.1 stopped early",
        "expectation",
        partial(_from_bits, bound=caldera_pivot_bound),
        _GRID,
        _REAL,
        function="caldera_pivot_bound",
    ),
)
