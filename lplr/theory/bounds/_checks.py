"""The assumptions that the bounds share, each checked once and named when it fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import HessianError, InputError
from lplr.validation import (
    LARGEST,
    check_integer,
    check_matrix,
    check_pair,
    check_real,
)

__all__ = [
    "check_failure_probability",
    "check_hessian_matrix",
    "check_n_columns",
    "check_rank_below_sketch",
    "check_shape",
    "check_spectrum",
    "check_steps",
    "squared_tails",
]


def check_shape(shape: Any) -> tuple[int, int]:
    """Rows n and columns d."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise InputError(f"shape: must be two integers (rows, columns), found {shape!r}")
    return check_integer(shape[0], "shape", 1), check_integer(shape[1], "shape", 1)


def check_spectrum(singular_values: Any, most: int | None = None) -> np.ndarray:
    """Singular values as float64, assumed finite, not negative and descending.

    ``most`` is min(shape) where the shape is known; values that are left out count as zero.
    """
    try:
        sigma = np.asarray(singular_values)
    except ValueError as error:
        raise InputError(f"singular_values: is not an array: {error}") from None
    if sigma.ndim != 1 or sigma.dtype.kind not in "fiu" or not len(sigma):
        raise InputError(
            "singular_values: must be a list of real numbers, "
            f"found an array of shape {sigma.shape} and dtype {sigma.dtype}"
        )
    if most is not None and len(sigma) > most:
        raise InputError(
            f"singular_values: a matrix of this shape has at most {most}, found {len(sigma)}"
        )
    sigma = sigma.astype(np.float64)
    for assumption, bad in (
        ("finite", ~np.isfinite(sigma)),
        ("not negative", sigma < 0),
        ("in descending order", np.append(False, sigma[1:] > sigma[:-1])),
        (f"at most {LARGEST:g}", sigma > LARGEST),
    ):
        if bad.any():
            i = int(bad.argmax())
            raise InputError(
                f"singular_values: are assumed {assumption}, found {sigma[i]:g} at {i}"
            )
    return sigma


def check_n_columns(m: Any) -> int:
    """Sketch size m, at least 2: any bound that uses the sketch needs m >= k + 2."""
    return check_integer(m, "m", 2)


def check_rank_below_sketch(k: Any, m: int, sigma: np.ndarray, low: int = 0) -> int:
    """Target rank k, under the assumptions k <= rank of A and m >= k + 2."""
    k = check_integer(k, "k", low)
    rank = int(np.count_nonzero(sigma))
    if k > rank:
        raise InputError(f"k: the bound assumes k <= rank of A, found k={k} and rank {rank}")
    if m < k + 2:
        raise InputError(f"m: the bound assumes m >= k + 2, found m={m} and k={k}")
    return k


def check_steps(steps: Any) -> tuple[float, float]:
    """Quantizer steps of L and of R; 0 where a factor is not quantized."""
    left, right = check_pair(steps, "steps")
    return check_real(left, "steps", strict=False), check_real(right, "steps", strict=False)


def check_failure_probability(value: Any) -> float:
    """An a-priori failure probability, strictly between 0 and 1."""
    delta = check_real(value, "failure_probability")
    if delta >= 1:
        raise InputError(f"failure_probability: must be below 1, found {delta:g}")
    return delta


def check_hessian_matrix(hessian: Any) -> np.ndarray:
    """A symmetric matrix of shape (d, d), float64, with a diagonal that is not negative."""
    H = check_matrix(hessian, "hessian", dtype=np.float64)
    if H.shape[0] != H.shape[1]:
        raise InputError(f"hessian: must be square, found shape {H.shape}")
    if np.linalg.norm(H - H.T) > 1e-5 * np.linalg.norm(H):
        raise HessianError("hessian: is assumed symmetric; pass (H + H.T) / 2")
    if np.diagonal(H).min() < 0:
        raise HessianError(
            "hessian: is assumed positive semi-definite, has a negative diagonal entry"
        )
    return (H + H.T) / 2


def squared_tails(sigma: np.ndarray) -> np.ndarray:
    """``|A - A_k|_F^2`` for k = 0 ... len(sigma), summed from the smallest."""
    return np.append(np.cumsum(np.square(sigma[::-1]))[::-1], 0.0)
