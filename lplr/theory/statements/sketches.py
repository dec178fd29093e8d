"""Statements about random sketches."""

from __future__ import annotations

import numpy as np

from lplr.theory.montecarlo import Outcome, Setting, Statement, Trial
from lplr.theory.statements.matrices import SHAPES, SPECTRA, decomposed

__all__ = ["RANGE_FINDER"]


def _range_finder(setting: Setting, rng: np.random.Generator) -> Trial:
    from scipy.linalg import qr

    spectral, m = decomposed(setting, rng), setting["m"]
    A, sigma = spectral.A, spectral.sigma
    tail = np.append(np.cumsum(np.square(sigma[::-1]))[::-1], 0.0)
    k = np.arange(m - 1)
    bound = float(((1 + k / (m - k - 1)) * tail[k]).min())
    energy = float(tail[0])

    def trial(rng: np.random.Generator) -> Outcome:
        Y = A @ rng.standard_normal((A.shape[1], m))
        Q, _ = qr(Y, mode="economic", overwrite_a=True, check_finite=False)
        left = A - Q @ (Q.T @ A)
        return Outcome(float(np.vdot(left, left)), bound, rounding=1e-24 * energy)

    return trial


RANGE_FINDER = Statement(
    "range-finder",
    "E|A - QQ'A|^2 <= min over k of (1 + k/(m-k-1)) sum_{j>k} sigma_j^2",
    "Halko, Martinsson and Tropp 2011, Theorem 10.5",
    "expectation",
    _range_finder,
    tuple(
        {"matrix": name, "n": n, "d": d, "m": m}
        for name in SPECTRA
        for n, d in SHAPES
        for m in (4, 12, 24)
    ),
)
