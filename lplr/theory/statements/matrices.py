"""The matrices that statements are tested on, synthetic and real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lplr.datasets import layer, layer_names, shepp_logan, synthetic, text_embeddings
from lplr.theory.montecarlo import Setting

__all__ = ["DECAYING", "REAL", "SHAPES", "SPECTRA", "Spectral", "decomposed"]

SHAPES = ((96, 40), (40, 96), (64, 64))  # tall, wide, square
DECAYING = ("k^-1/2", "k^-1", "k^-2", "exponential")
SPECTRA = ("flat", *DECAYING, "low-rank", "outlier")
REAL = (*layer_names(), "fortune_embeddings", "shepp_logan")

_RULES: dict[str, dict[str, Any]] = {
    "flat": {"spectrum": "flat"},
    "k^-1/2": {"spectrum": "power", "exponent": 0.5},
    "k^-1": {"spectrum": "power", "exponent": 1.0},
    "k^-2": {"spectrum": "power", "exponent": 2.0},
    "exponential": {"spectrum": "exponential", "rank": 5},
    "low-rank": {"spectrum": "low-rank", "rank": 8},
    "outlier": {"spectrum": "outlier", "rank": 1},
}


@dataclass(frozen=True)
class Spectral:
    """A matrix and its singular value decomposition.

    Parameters
    ----------
    A : ndarray of shape (n, d), float64
    U : ndarray of shape (n, r), float64, r = min(n, d)
    sigma : ndarray of shape (r,), float64, descending
    V : ndarray of shape (d, r), float64
    """

    A: np.ndarray
    U: np.ndarray
    sigma: np.ndarray
    V: np.ndarray


def decomposed(setting: Setting, rng: np.random.Generator) -> Spectral:
    """The matrix that a setting names by ``"matrix"``, ``"n"`` and ``"d"``.

    Parameters
    ----------
    setting : dict
    rng : numpy.random.Generator
        Draws the singular vectors of a synthetic matrix.
    """
    name = setting["matrix"]
    if name in REAL:
        return _real(name)
    return _decompose(synthetic(setting["n"], setting["d"], rng=rng, **_RULES[name]))


@lru_cache(maxsize=1)  # cells of one matrix follow each other
def _real(name: str) -> Spectral:
    if name in layer_names():
        return _decompose(layer(name).W)
    if name == "shepp_logan":
        return _decompose(shepp_logan(256))
    return _decompose(text_embeddings().embeddings[:1024])


def _decompose(A: np.ndarray) -> Spectral:
    from scipy.linalg import svd

    A = np.ascontiguousarray(A, np.float64)
    U, sigma, Vt = svd(A, full_matrices=False, check_finite=False)
    sigma[sigma < sigma[0] * max(A.shape) * np.finfo(np.float64).eps] = 0.0  # rounding errors
    return Spectral(A, U, sigma, np.ascontiguousarray(Vt.T))


def real_shapes() -> Iterator[dict[str, Any]]:
    """Settings that name the real matrices."""
    for name in REAL:
        n, d = _SHAPES_OF_REAL[name]
        yield {"matrix": name, "n": n, "d": d}


_SHAPES_OF_REAL = {
    "minilm_l2_query": (384, 384),
    "minilm_l3_output": (384, 1536),
    "smollm2_l10_up": (1536, 576),
    "fortune_embeddings": (1024, 384),
    "shepp_logan": (256, 256),
}
