"""Uniform quantizers: the error of one rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.theory.broadcast import broadcast
from lplr.validation.arguments import check_integer, check_real
from lplr.validation.matrices import check_matrix

__all__ = [
    "dithered_moments",
    "dithered_variance_bound",
    "nearest_error_bound",
    "nearest_high_rate_error",
    "uniform_step",
]


@broadcast
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


def dithered_moments(
    values: Any, step: Any, *, offset: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each entry after dithered rounding.

    Parameters
    ----------
    values : array_like
        The entries before they are rounded.
    step : float or array_like
        Positive, in units of the values; it is broadcast with them, and so is the offset.
    offset : float or array_like, optional
        A point of the grid, any of them. By default step/2, a point of the paper's quantizer:
        its ``2^B`` points from -R to R are the odd multiples of step/2, and 0 is half-way between
        two of them. A grid with a point at 0 has the offset 0; one that begins at the smallest
        entry of a matrix has that entry.

    Returns
    -------
    mean : ndarray of the shape of the values, float64
        Dithered rounding is unbiased: this is ``values`` up to floating-point errors.
    variance : ndarray of the shape of the values, float64
        At most ``step^2 / 4``.

    Raises
    ------
    InputError
        If an argument is not finite, the step is not positive, or the shapes do not fit.

    Notes
    -----
    *Assumptions*: unsaturated (each entry is within the range of the quantizer); the dither is
    independent of the entry and of other dithers.

    With the offset o, the entry x lies between the grid points
    ``a = o + step floor((x - o)/step)`` and ``a + step``. Rounding goes up with probability
    ``p = (x - a) / step``, else down, so the mean is
    ``a (1 - p) + (a + step) p = a + step p = x``, and the variance is that of a coin times
    ``step^2``: ``step^2 p (1 - p)``. Both are computed here from the two outcomes. In the paper's
    grid, ``R = (2^B - 1) step/2`` and ``-R = step/2 - 2^(B-1) step`` (LPLR, Section 2), so
    o = step/2, and x = 0 has p = 1/2: the largest variance, ``step^2 / 4``.

    Examples
    --------
    >>> from lplr.theory.bounds import dithered_moments
    >>> mean, variance = dithered_moments([0.0, 0.25, 0.5], step=1.0)
    >>> mean
    array([0.  , 0.25, 0.5 ])
    >>> variance
    array([0.25  , 0.1875, 0.    ])
    >>> dithered_moments([0.0, 0.25, 0.5], step=1.0, offset=0)[1]
    array([0.    , 0.1875, 0.25  ])
    """
    x, h = _finite(values, "values"), _finite(step, "step")
    if (h <= 0).any():
        raise InputError(f"step: must be above 0, found {h.min():g}")
    o = h / 2 if offset is None else _finite(offset, "offset")
    try:
        x, h, o = np.broadcast_arrays(x, h, o)
    except ValueError:
        raise InputError(
            f"step: values, step and offset have shapes {x.shape}, {h.shape} and {o.shape}, "
            "which cannot be broadcast"
        ) from None
    low = o + h * np.floor((x - o) / h)
    p = (x - low) / h
    mean = low * (1 - p) + (low + h) * p
    return mean, (low - mean) ** 2 * (1 - p) + (low + h - mean) ** 2 * p


def _finite(values: Any, name: str) -> np.ndarray:
    """Real numbers of any shape, in float64."""
    flat = check_matrix(np.reshape(values, (1, -1)), name, dtype=np.float64)
    return flat.reshape(np.shape(values))


@broadcast
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


@broadcast
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


@broadcast
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
