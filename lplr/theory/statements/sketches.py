"""Statements about Gaussian sketches, before anything is quantized."""

from __future__ import annotations

from functools import partial

import numpy as np

from lplr.linalg.qr import orthonormal_basis
from lplr.linalg.svd import range_finder
from lplr.theory.bounds import range_finder_bound, range_finder_spectral_bound, sketch_range
from lplr.theory.records import ROUNDING, Outcome, Setting, Statement, Trial
from lplr.theory.simulate import gaussian, pseudo_inverse_energy
from lplr.theory.statements.matrices import SHAPES, SPECTRA, decomposed, grid, real_matrices

__all__ = ["SKETCH_STATEMENTS"]


def _missed(setting: Setting, rng: np.random.Generator, spectral_norm: bool) -> Trial:
    """The part of A outside the span of a sketch."""
    given, m, q = decomposed(setting, rng), setting["m"], setting["power_iterations"]
    A = given.A
    bound_of = range_finder_spectral_bound if spectral_norm else range_finder_bound
    bound = bound_of(given.sigma, m, n_power_iter=q)
    # Entries of the difference are off by units in the last place of A.
    rounding = ROUNDING * float(given.sigma[0]) if spectral_norm else ROUNDING**2 * given.energy

    def trial(rng: np.random.Generator) -> Outcome:
        Q = orthonormal_basis(range_finder(A, m, n_power_iter=q, rng=rng))
        left = A - Q @ (Q.T @ A)
        value = np.linalg.norm(left, 2) if spectral_norm else np.vdot(left, left)
        return Outcome(float(value), bound, rounding=rounding)

    return trial


def _pseudo_inverse(setting: Setting, rng: np.random.Generator) -> Trial:
    m, k = setting["m"], setting["k"]
    bound = m * k / (m - k - 1)

    def trial(rng: np.random.Generator) -> Outcome:
        return Outcome(pseudo_inverse_energy(gaussian(k, m, rng)), bound)

    return trial


def _energy(setting: Setting, rng: np.random.Generator) -> Trial:
    given, m = decomposed(setting, rng), setting["m"]
    A, bound = given.A, given.energy

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


_HMT = "Halko, Martinsson and Tropp (2011), Theorem 10."

SKETCH_STATEMENTS = (
    Statement(
        "range-finder-bound",
        "mean |A - P P'A|^2 <= min over k of (1 + k/(m-k-1)) |A - A_k|^2, P a basis of A S",
        f"{_HMT}5",
        "expectation",
        partial(_missed, spectral_norm=False),
        grid(SPECTRA, SHAPES, m=[4, 8, 16, 24], power_iterations=0),
        real_matrices(m=[16, 64], power_iterations=0),
        function="range_finder_bound",
    ),
    Statement(
        "range-finder-bound-power",
        "mean |A - P P'A|^2 <= range_finder_bound, P a basis of (A A')^q A S",
        f"derived here as {_HMT}5",
        "expectation",
        partial(_missed, spectral_norm=False),
        grid(SPECTRA, SHAPES[:1], m=[8, 16], power_iterations=[1, 2]),
        real_matrices(m=[16, 64], power_iterations=1),
        function="range_finder_bound",
    ),
    Statement(
        "range-finder-spectral-bound",
        "mean largest singular value of A - P P'A <= range_finder_spectral_bound",
        f"{_HMT}6 and Corollary 10.10",
        "expectation",
        partial(_missed, spectral_norm=True),
        grid(SPECTRA, SHAPES[:1], m=[8, 16], power_iterations=[0, 1]),
        function="range_finder_spectral_bound",
    ),
    Statement(
        "pseudo-inverse",
        "pseudo-inverse G^+ of a k x m Gaussian matrix: mean |G^+|^2 = m k/(m-k-1)",
        "mean of an inverse Wishart matrix; step 4 in the docstring of lplr_bound",
        "expectation",
        _pseudo_inverse,
        tuple({"m": m, "k": k} for m in (8, 16, 24) for k in (1, 2, m // 2, m - 3, m - 2)),
    ),
    Statement(
        "sketch-energy",
        "a sketch keeps the squared norm in the mean: mean |A S|^2 = |A|^2",
        "step 2 in the docstring of lplr_bound",
        "expectation",
        _energy,
        grid(SPECTRA, SHAPES, m=[8, 24]),
    ),
    Statement(
        "sketch-range",
        "probability that some entry of A S exceeds sketch_range <= failure_probability",
        "union bound; LPLR (2023), Appendix",
        "expectation",
        _saturation,
        grid(SPECTRA, SHAPES, m=[8, 24], failure_probability=[0.05, 0.5]),
        real_matrices(m=[16, 64], failure_probability=0.05),
        function="sketch_range",
    ),
)
