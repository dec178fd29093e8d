"""Statements about Gaussian sketches, before anything is quantized."""

from __future__ import annotations

import numpy as np

from lplr.theory.bounds import range_finder_bound, range_finder_spectral_bound, sketch_range
from lplr.theory.montecarlo import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import gaussian, pseudo_inverse_energy
from lplr.theory.statements.matrices import SHAPES, SPECTRA, decomposed, grid, real_matrices

__all__ = ["SKETCH_STATEMENTS"]


def _range_finder(setting: Setting, rng: np.random.Generator) -> Trial:
    spectral, m, q = decomposed(setting, rng), setting["m"], setting["power_iterations"]
    A, energy = spectral.A, spectral.energy
    bound = range_finder_bound(spectral.sigma, m, n_power_iter=q)

    def trial(rng: np.random.Generator) -> Outcome:
        left = _missed(A, gaussian(A.shape[1], m, rng), q)
        # Entries of what is left are off by units in the last place of A, squared here.
        return Outcome(float(np.vdot(left, left)), bound, rounding=ROUNDING**2 * energy)

    return trial


def _spectral_norm(setting: Setting, rng: np.random.Generator) -> Trial:
    spectral, m, q = decomposed(setting, rng), setting["m"], setting["power_iterations"]
    A, largest = spectral.A, float(spectral.sigma[0])
    bound = range_finder_spectral_bound(spectral.sigma, m, n_power_iter=q)

    def trial(rng: np.random.Generator) -> Outcome:
        left = _missed(A, gaussian(A.shape[1], m, rng), q)
        return Outcome(float(np.linalg.norm(left, 2)), bound, rounding=ROUNDING * largest)

    return trial


def _missed(A: np.ndarray, S: np.ndarray, n_power_iter: int) -> np.ndarray:
    """A - Q Q^T A, Q a basis of (A A^T)^q A S, orthonormalised at each step."""
    from scipy.linalg import qr

    def basis(Y: np.ndarray) -> np.ndarray:
        return qr(Y, mode="economic", overwrite_a=True, check_finite=False)[0]

    Q = basis(A @ S)
    for _ in range(n_power_iter):
        Q = basis(A @ basis(A.T @ Q))
    return A - Q @ (Q.T @ A)


def _pseudo_inverse(setting: Setting, rng: np.random.Generator) -> Trial:
    m, k = setting["m"], setting["k"]
    bound = m * k / (m - k - 1)

    def trial(rng: np.random.Generator) -> Outcome:
        return Outcome(pseudo_inverse_energy(gaussian(k, m, rng)), bound)

    return trial


def _energy(setting: Setting, rng: np.random.Generator) -> Trial:
    spectral, m = decomposed(setting, rng), setting["m"]
    A, bound = spectral.A, spectral.energy

    def trial(rng: np.random.Generator) -> Outcome:
        Y = A @ gaussian(A.shape[1], m, rng)
        return Outcome(float(np.vdot(Y, Y)), bound)

    return trial


def _saturation(setting: Setting, rng: np.random.Generator) -> Trial:
    A, m, delta = decomposed(setting, rng).A, setting["m"], setting["failure_probability"]
    limit = sketch_range(np.linalg.norm(A, axis=1), m, delta)

    def trial(rng: np.random.Generator) -> Outcome:
        Y = A @ gaussian(A.shape[1], m, rng)
        return Outcome(float(np.abs(Y).max() > limit), delta)

    return trial


_M = [4, 8, 16, 24]

SKETCH_STATEMENTS = (
    Statement(
        "range-finder",
        "E |A - QQ'A|^2 <= min over k of (1 + k/(m-k-1)) |A - A_k|^2",
        "Halko, Martinsson and Tropp (2011), Theorem 10.5",
        "expectation",
        _range_finder,
        tuple(grid(SPECTRA, SHAPES, m=_M, power_iterations=0)),
        tuple(real_matrices(m=[16, 64], power_iterations=0)),
    ),
    Statement(
        "range-finder-power",
        "E |A - QQ'A|^2 after power iterations",
        "as Halko, Martinsson and Tropp (2011), Theorem 10.5, for (AA')^q A S",
        "expectation",
        _range_finder,
        tuple(grid(SPECTRA, SHAPES[:1], m=[8, 16], power_iterations=[1, 2])),
        tuple(real_matrices(m=[16, 64], power_iterations=1)),
    ),
    Statement(
        "range-finder-spectral",
        "E |A - QQ'A|_2, with and without power iterations",
        "Halko, Martinsson and Tropp (2011), Theorem 10.6 and Corollary 10.10",
        "expectation",
        _spectral_norm,
        tuple(grid(SPECTRA, SHAPES[:1], m=[8, 16], power_iterations=[0, 1])),
    ),
    Statement(
        "pseudo-inverse",
        "E |(V_k'S)^+|^2 = m k/(m-k-1)",
        "inverse Wishart; step 4 of the LPLR bound",
        "expectation",
        _pseudo_inverse,
        tuple({"m": m, "k": k} for m in (8, 16, 24) for k in (1, 2, m // 2, m - 3, m - 2)),
    ),
    Statement(
        "sketch-energy",
        "E |AS|^2 = |A|^2",
        "step 2 of the LPLR bound",
        "expectation",
        _energy,
        tuple(grid(SPECTRA, SHAPES, m=[8, 24])),
    ),
    Statement(
        "sketch-range",
        "P(an entry of AS is beyond the a-priori range) <= delta",
        "union bound; LPLR (2023), Appendix",
        "expectation",
        _saturation,
        tuple(grid(SPECTRA, SHAPES, m=[8, 24], failure_probability=[0.05, 0.5])),
        tuple(real_matrices(m=[16, 64], failure_probability=0.05)),
    ),
)
