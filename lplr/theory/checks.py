"""Checks of arguments that several results share; a refusal names the assumption that fails."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.hessian import check_hessian
from lplr.validation.arguments import check_integer, check_pair, check_real

__all__ = [
    "LplrArguments",
    "check_k",
    "check_lplr",
    "check_n_columns",
    "check_probability",
    "check_second_moment",
    "check_shape",
    "check_spectrum",
    "check_variances",
    "n_axes",
    "singular_values_of",
    "squared_tails",
    "without_rounding_errors",
]

_LARGEST = 1e140  # squares, and their sums over any matrix, stay finite in float64


def check_shape(shape: Any) -> tuple[int, int]:
    """Rows n and columns d."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise InputError(f"shape: must be two integers (rows, columns), found {shape!r}")
    return check_integer(shape[0], "shape", 1), check_integer(shape[1], "shape", 1)


def check_spectrum(
    singular_values: Any, most: int | None = None, *, descending: bool = True
) -> np.ndarray:
    """Singular values as float64, descending; ``descending=False`` accepts any order and sorts.

    ``most`` is min(shape) where the shape is known; singular values that are left out are zero.
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
    if not descending:
        sigma = np.sort(sigma)[::-1]
    for assumption, bad in (
        ("finite", ~np.isfinite(sigma)),
        ("not negative", sigma < 0),
        ("in descending order", np.append(False, sigma[1:] > sigma[:-1])),
        (f"at most {_LARGEST:g}", sigma > _LARGEST),
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


def check_k(k: Any, m: int, sigma: np.ndarray, low: int = 0) -> int:
    """Rank k of the compared approximation; k <= rank of A and m >= k + 2 are assumed."""
    k = check_integer(k, "k", low)
    rank = int(np.count_nonzero(sigma))
    if k > rank:
        raise InputError(f"k: the bound assumes k <= rank of A, found k={k} and rank {rank}")
    if m < k + 2:
        raise InputError(f"m: the bound assumes m >= k + 2, found m={m} and k={k}")
    return k


def check_variances(steps: Any) -> tuple[float, float]:
    """Largest variances ``step^2/4`` of rounded entries of L and R; 0: not quantized."""
    left, right = (check_real(s, "steps", strict=False) for s in check_pair(steps, "steps"))
    return left**2 / 4, right**2 / 4


class LplrArguments(NamedTuple):
    """Checked arguments of a bound for LPLR."""

    sigma: np.ndarray
    n: int
    d: int
    m: int
    left: float  # largest variance of a rounded entry of L, step^2/4
    right: float  # and of R

    @property
    def right_error(self) -> float:
        """``d step'^2/4 (|A|_F^2 + n m step^2/4)``: steps 1 and 2 of `lplr_bound`."""
        size = squared_tails(self.sigma)[0] + self.n * self.m * self.left
        return float(self.d * self.right * size)


def check_lplr(singular_values: Any, shape: Any, m: Any, steps: Any) -> LplrArguments:
    """The arguments that all bounds for LPLR have in common."""
    n, d = check_shape(shape)
    sigma = check_spectrum(singular_values, min(n, d))
    return LplrArguments(sigma, n, d, check_n_columns(m), *check_variances(steps))


def check_probability(value: Any, name: str = "failure_probability") -> float:
    """A probability strictly between 0 and 1."""
    probability = check_real(value, name)
    if probability >= 1:
        raise InputError(f"{name}: must be below 1, found {probability:g}")
    return probability


def check_second_moment(hessian: Any, d: int | None = None, name: str = "hessian") -> np.ndarray:
    """H as a symmetric (d, d) matrix in float64; without d, its own last axis says how wide."""
    H = check_hessian(hessian, d, name)
    return H if H.ndim == 2 else np.diag(H)


def n_axes(value: Any) -> int:
    """Dimensions of an array, a list or a number; 0 for rows of different lengths."""
    try:
        return int(np.ndim(value))
    except ValueError:
        return 0


def singular_values_of(A: np.ndarray) -> np.ndarray:
    """Singular values of a checked matrix in float64, descending."""
    from scipy.linalg import svdvals

    return without_rounding_errors(svdvals(A, check_finite=False), A.shape)


def without_rounding_errors(sigma: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Computed singular values; those that rounding alone makes positive are 0."""
    return np.where(sigma < sigma[0] * max(shape) * np.finfo(np.float64).eps, 0.0, sigma)


def squared_tails(sigma: np.ndarray) -> np.ndarray:
    """``|A - A_k|_F^2`` for k = 0 ... len(sigma), summed from the smallest."""
    return np.append(np.cumsum(np.square(sigma[::-1]))[::-1], 0.0)
