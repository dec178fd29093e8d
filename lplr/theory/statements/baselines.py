"""Statements about what LPLR is compared with: the SVD, its factors rounded."""

from __future__ import annotations

import numpy as np

from lplr.theory.bounds import direct_svd_bound, lplr_svd_bound
from lplr.theory.montecarlo import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import cheap_dither, round_endless, round_to_grid, solve, squared_error
from lplr.theory.statements.matrices import SHAPES, SPECTRA, decomposed, grid, real_matrices

__all__ = ["BASELINE_STATEMENTS"]


def _direct_svd(setting: Setting, rng: np.random.Generator) -> Trial:
    """What is rounded is not random: the steps of its own ranges are fixed beforehand."""
    spectral, m, bits = decomposed(setting, rng), setting["m"], setting["bits"]
    A, sigma = spectral.A, spectral.sigma
    U, V = spectral.U[:, :m], sigma[:m, None] * spectral.V[:, :m].T

    def trial(rng: np.random.Generator) -> Outcome:
        dither = cheap_dither(rng)
        L, R = round_to_grid(U, bits, dither), round_to_grid(V, bits, dither)
        error = L.values @ R.values - A
        bound = direct_svd_bound(sigma, A.shape, m, (L.step, R.step))
        return Outcome(float(np.vdot(error, error)), bound)

    return trial


def _lplr_svd(setting: Setting, rng: np.random.Generator) -> Trial:
    """The range of W* is random: its step is that of a first draw, on a grid without ends."""
    spectral, m, bits = decomposed(setting, rng), setting["m"], setting["bits"]
    A, sigma, energy = spectral.A, spectral.sigma, spectral.energy
    Y = spectral.U[:, :m] * sigma[:m]
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
        "direct-svd",
        "E |Q(U)Q'(SV') - A|^2 <= bound",
        "LPLR (2023), Section 4, with constants derived here",
        "expectation",
        _direct_svd,
        tuple(_GRID),
        tuple(_REAL),
    ),
    Statement(
        "lplr-svd",
        "E |LR - A|^2 <= bound, L = Q(US), R by least squares",
        "LPLR (2023), Section 4, with constants derived here",
        "expectation",
        _lplr_svd,
        tuple(_GRID),
        tuple(_REAL),
    ),
)
