"""The matrices and Hessians that statements are tested on, synthetic and real."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lplr.datasets import layer, layer_names, shepp_logan, synthetic, text_embeddings
from lplr.theory.montecarlo import Setting

__all__ = [
    "DECAYING",
    "REAL",
    "SHAPES",
    "SPECTRA",
    "Problem",
    "Spectral",
    "decomposed",
    "grid",
    "problem",
    "real_layers",
    "real_matrices",
]

SHAPES = ((96, 40), (40, 96), (64, 64))  # tall, wide, square
DECAYING = ("k^-1/2", "k^-1", "k^-2", "exponential")
SPECTRA = ("flat", *DECAYING, "low-rank", "outlier")

_RULES: dict[str, dict[str, Any]] = {
    "flat": {"spectrum": "flat"},
    "k^-1/2": {"spectrum": "power", "exponent": 0.5},
    "k^-1": {"spectrum": "power", "exponent": 1.0},
    "k^-2": {"spectrum": "power", "exponent": 2.0},
    "exponential": {"spectrum": "exponential", "rank": 5},
    "low-rank": {"spectrum": "low-rank", "rank": 8},
    "outlier": {"spectrum": "outlier", "rank": 1},
}

# Rows and columns of the real matrices, of which the first so many are taken.
REAL = {
    "minilm_l2_query": (384, 384),
    "minilm_l3_output": (384, 1536),
    "smollm2_l10_up": (1536, 576),
    "text_embeddings": (1024, 384),
    "shepp_logan": (256, 256),
}
_LAYER_SHAPE = (128, 256)  # of the part of a layer that a Hessian goes with


def grid(names: Iterable[str], shapes: Iterable[tuple[int, int]], **options: Any) -> list[Setting]:
    """Settings of all combinations; an option that is a list is another axis, in its order."""
    shapes = list(shapes)
    settings = [{"matrix": name, "n": n, "d": d} for name in names for n, d in shapes]
    return _cross(settings, options)


def real_matrices(**options: Any) -> list[Setting]:
    """Settings of all real matrices and all combinations of the options."""
    return _cross([{"matrix": name, "n": n, "d": d} for name, (n, d) in REAL.items()], options)


def real_layers(**options: Any) -> list[Setting]:
    """Settings of the leading parts of the real layers and of their Hessians."""
    n, d = _LAYER_SHAPE
    return _cross([{"matrix": name, "n": n, "d": d} for name in layer_names()], options)


def _cross(settings: list[dict[str, Any]], options: dict[str, Any]) -> list[Setting]:
    for key, values in options.items():
        listed = values if isinstance(values, (list, tuple)) else [values]
        settings = [setting | {key: value} for setting in settings for value in listed]
    return list(settings)


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

    @property
    def energy(self) -> float:
        """|A|_F^2."""
        return float(np.vdot(self.A, self.A))


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
    n, d = REAL[name]
    if name in layer_names():
        A = layer(name).W
    elif name == "shepp_logan":
        A = shepp_logan(n)
    else:
        A = text_embeddings().embeddings
    return _decompose(A[:n, :d])


def _decompose(A: np.ndarray) -> Spectral:
    from scipy.linalg import svd

    A = np.ascontiguousarray(A, np.float64)
    U, sigma, Vt = svd(A, full_matrices=False, check_finite=False)
    sigma[sigma < sigma[0] * max(A.shape) * np.finfo(np.float64).eps] = 0.0  # rounding errors
    return Spectral(A, U, sigma, np.ascontiguousarray(Vt.T))


@dataclass(frozen=True)
class Problem:
    """A weight matrix, which may be drawn anew in each trial, and the Hessian of its inputs.

    Parameters
    ----------
    n, d : int
    H : ndarray of shape (d, d), float64
    W : ndarray of shape (n, d), float64, or None
        None: each trial draws entries N(0, 1).
    """

    n: int
    d: int
    H: np.ndarray
    W: np.ndarray | None

    def weights(self, rng: np.random.Generator) -> np.ndarray:
        """W, shape (n, d)."""
        return rng.standard_normal((self.n, self.d)) if self.W is None else self.W


def problem(setting: Setting, rng: np.random.Generator, *, damping: float = 1e-2) -> Problem:
    """A layer: H has the eigenvalues sigma_k of the spectrum, plus ``damping`` times their mean.

    Parameters
    ----------
    setting : dict
        ``"matrix"`` names the spectrum or the layer, ``"n"`` and ``"d"`` the shape of W.
    rng : numpy.random.Generator
        Draws the eigenvectors of H.
    damping : float
        0 leaves a singular H as it is.
    """
    name, n, d = setting["matrix"], setting["n"], setting["d"]
    W = None
    if name in REAL:
        whole = layer(name)
        W = np.ascontiguousarray(whole.W[:n, :d], np.float64)
        H = np.array(whole.H[:d, :d], np.float64)
        H /= np.trace(H) / d
        W /= np.sqrt(np.square(W).mean())
    else:
        spectral = _decompose(synthetic(d, d, rng=rng, **_RULES[name]))
        H = (spectral.V * spectral.sigma) @ spectral.V.T
        H = (H + H.T) / 2
    return Problem(n, d, H + damping * np.trace(H) / d * np.eye(d), W)
