"""Uniform quantizers: the error of one rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.validation import check_integer, check_matrix, check_real

__all__ = [
    "dithered_moments",
    "dithered_variance_bound",
    "nearest_error_bound",
    "nearest_high_rate_error",
    "uniform_step",
]


def uniform_step(bits: int, dynamic_range: float) -> float:
    """The step of the quantizer of paper 1: ``2 range / (2^bits - 1)``.

    Parameters
    ----------
    bits : int
        From 1 to 52.
    dynamic_range : float
        The ``2^bits`` points of the quantizer are equally spaced from -range to range.

    Returns
    -------
    float
        Distance of neighbouring points, in the units of the range.

    Notes
    -----
    ``2^B`` points have ``2^B - 1`` gaps, and the outermost two are at -R and R (LPLR, Section 2).

    Examples
    --------
    >>> from lplr.theory.bounds import uniform_step
    >>> uniform_step(2, 3.0)
    2.0
    """
    bits = check_integer(bits, "bits", 1, 52)
    return 2 * check_real(dynamic_range, "dynamic_range") / (2**bits - 1)


def dithered_moments(values: Any, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each entry after dithered rounding.

    Parameters
    ----------
    values : array_like of shape (n, d)
    step : float
        Positive, in units of the values.

    Returns
    -------
    mean : ndarray of shape (n, d), float64
        Dithered rounding is unbiased: this is ``values`` up to floating-point errors.
    variance : ndarray of shape (n, d), float64
        At most ``step^2 / 4``.

    Notes
    -----
    *Assumptions*: unsaturated (each entry is within the range of the quantizer); the dither is
    independent of the entry and of other dithers; 0 is a point of the grid.

    The entry x lies between the grid points ``a = step floor(x / step)`` and ``a + step``.
    Rounding goes up with probability ``p = (x - a) / step``, else down, so the mean is
    ``a (1 - p) + (a + step) p = a + step p = x``, and the variance is that of a coin times
    ``step^2``: ``step^2 p (1 - p)``. Both are computed here from the two outcomes.

    Examples
    --------
    >>> from lplr.theory.bounds import dithered_moments
    >>> mean, variance = dithered_moments([[0.25, 0.5, 1.0]], step=1.0)
    >>> mean
    array([[0.25, 0.5 , 1.  ]])
    >>> variance
    array([[0.1875, 0.25  , 0.    ]])
    """
    X = check_matrix(values, "values", dtype=np.float64)
    step = check_real(step, "step")
    low = step * np.floor(X / step)
    p = (X - low) / step
    mean = low * (1 - p) + (low + step) * p
    return mean, (low - mean) ** 2 * (1 - p) + (low + step - mean) ** 2 * p


def dithered_variance_bound(step: float) -> float:
    """Largest variance of a dithered rounding: ``step^2 / 4``.

    Parameters
    ----------
    step : float
        Not negative, in units of the entries.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: unsaturated; dither independent of the entry. Lemma on the uniformly dithered
    quantizer, LPLR (NeurIPS 2023), Section 2. By `dithered_moments` the variance is
    ``step^2 p (1 - p)``, which is largest at p = 1/2.

    Examples
    --------
    >>> from lplr.theory.bounds import dithered_variance_bound
    >>> dithered_variance_bound(0.5)
    0.0625
    """
    return check_real(step, "step", strict=False) ** 2 / 4


def nearest_error_bound(step: float) -> float:
    """Largest squared error of rounding to the nearest point: ``step^2 / 4``, always.

    Parameters
    ----------
    step : float
        Not negative, in units of the entries.

    Returns
    -------
    float

    Notes
    -----
    *Assumption*: unsaturated. No entry is farther than half a step from its nearest grid point.
    This holds for each entry, not only in the mean; but the errors may have a bias.

    Examples
    --------
    >>> from lplr.theory.bounds import nearest_error_bound
    >>> nearest_error_bound(0.5)
    0.0625
    """
    return check_real(step, "step", strict=False) ** 2 / 4


def nearest_high_rate_error(step: float) -> float:
    """Mean squared error of rounding to the nearest point of a fine grid: ``step^2 / 12``.

    Parameters
    ----------
    step : float
        Not negative, in units of the entries.

    Returns
    -------
    float
        An approximation, not a bound.

    Notes
    -----
    *Assumptions*: unsaturated; high rate, that is, the density f of the entries is nearly
    constant over a step (Bennett 1948).

    Where f is constant over a cell the error is uniform on ``[-step/2, step/2]``, and its mean
    square is ``(1/step) int e^2 de = step^2 / 12``. For a smooth density the difference is minute:
    for N(0, s^2) and a grid without ends it falls as ``exp(-2 pi^2 s^2 / step^2)``.

    Examples
    --------
    >>> from lplr.theory.bounds import nearest_high_rate_error
    >>> nearest_high_rate_error(6.0)
    3.0
    """
    return check_real(step, "step", strict=False) ** 2 / 12
