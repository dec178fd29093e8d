"""What the tests of the theory share: matrices of a given spectrum, rounding, and means."""

from __future__ import annotations

import numpy as np

SPECTRA = {
    "flat": np.ones(30),
    "root": np.arange(1.0, 31) ** -0.5,
    "inverse": 1 / np.arange(1.0, 31),
    "square": np.arange(1.0, 31) ** -2,
    "exponential": np.exp(-np.arange(30.0) / 3),
    "low-rank": np.r_[np.ones(5), np.zeros(25)],
    "outlier": np.r_[30.0, np.ones(29)],
}


def spectral(sigma: np.ndarray, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """A matrix with these singular values and Haar factors."""
    U, _ = np.linalg.qr(rng.standard_normal((n, len(sigma))))
    V, _ = np.linalg.qr(rng.standard_normal((d, len(sigma))))
    return (U * sigma) @ V.T


def second_moment(d: int, rng: np.random.Generator, samples: int = 0) -> np.ndarray:
    """The second moment of correlated inputs; singular where there are fewer than d samples."""
    X = rng.standard_normal((samples or 2 * d, d)) @ rng.standard_normal((d, d))
    return X.T @ X / len(X)


def dithered(X: np.ndarray, step: float, rng: np.random.Generator) -> np.ndarray:
    """Unbiased rounding to the integers times step; nothing saturates."""
    return step * np.floor(X / step + rng.random(X.shape)) if step else X


def mean_and_error(values: list[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis, and its standard error."""
    x = np.asarray(values)
    return x.mean(axis=0), x.std(axis=0, ddof=1) / np.sqrt(len(x))
