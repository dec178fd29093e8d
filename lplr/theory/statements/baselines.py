"""Statements about the SVD with rounded factors, which LPLR is compared with."""

from __future__ import annotations

import numpy as np

from lplr.theory.bounds import direct_svd_bound, lplr_svd_bound
from lplr.theory.records import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import cheap_dither, round_endless, round_to_grid, solve, squared_error
from lplr.theory.statements.matrices import SHAPES, SPECTRA, decomposed, grid, real_matrices

__all__ = ["BASELINE_STATEMENTS"]


def _direct_svd(setting: Setting, rng: np.random.Generator) -> Trial:
    """U and S V^T are not random, so the steps of their own ranges are fixed beforehand."""
    given, m, bits = decomposed(setting, rng), setting["m"], setting["bits"]
    A, sigma = given.A, given.sigma
    U, V = given.U[:, :m], sigma[:m, None] * given.V[:, :m].T

    def trial(rng: np.random.Generator) -> Outcome:
        dither = cheap_dither(rng)
        L, R = round_to_grid(U, bits, dither), round_to_grid(V, bits, dither)
        error = L.values @ R.values - A
        bound = direct_svd_bound(sigma, A.shape, m, (L.step, R.step))
        return Outcome(float(np.vdot(error, error)), bound)

    return trial


def _lplr_svd(setting: Setting, rng: np.random.Generator) -> Trial:
    """The range of W* is random: its step comes from one draw beforehand, its grid has no ends."""
    given, m, bits = decomposed(setting, rng), setting["m"], setting["bits"]
    A, sigma, energy = given.A, given.sigma, given.energy
    Y = given.U[:, :m] * sigma[:m]
    W = solve(round_to_grid(Y, bits, cheap_dither(rng)).values, A).W
    step_right = float(np.ptp(W)) / (2**bits - 1)

    def trial(rng: np.random.Generator) -> Outcome:
        dither = cheap_dither(rng)
        L = round_to_grid(Y, bits, dither)
        solved = solve(L.values, A)
        error = squared_error(energy, solved, round_endless(solved.W, step_right, dither))
        bound = lplr_svd_bound(sigma, A.shape, m, (L.step, step_right))
        return Outcome(error, bound, rounding=ROUNDING * energy)

    return trial


_GRID = grid(SPECTRA, SHAPES, m=[8, 24], bits=[2, 8])
_REAL = real_matrices(m=[16, 64], bits=[2, 4, 8])

BASELINE_STATEMENTS = (
    Statement(
        "direct-svd-bound",
        "SVD U S V', both factors rounded: mean |Q(U) Q(S V') - A|^2 <= direct_svd_bound",
        "LPLR (2023), Section 4, with constants derived here",
        "expectation",
        _direct_svd,
        _GRID,
        _REAL,
        function="direct_svd_bound",
    ),
    Statement(
        "lplr-svd-bound",
        "SVD U S V', L = Q(U S), R solved for: mean |L R - A|^2 <= lplr_svd_bound",
        "LPLR (2023), Section 4, with constants derived here",
        "expectation",
        _lplr_svd,
        _GRID,
        _REAL,
        function="lplr_svd_bound",
    ),
)
