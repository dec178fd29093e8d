"""Theorem 3.2 of paper 1 and its inverse: the bits that bring LPLR within epsilon of a sketch."""

from __future__ import annotations

from math import ceil, log2, sqrt
from typing import Any

from lplr.theory.bounds.quantizer import uniform_step
from lplr.theory.broadcast import broadcast
from lplr.theory.checks import (
    check_k,
    check_n_columns,
    check_shape,
    check_spectrum,
    squared_tails,
)
from lplr.validation.arguments import check_pair, check_real

__all__ = ["lplr_bits", "lplr_theorem_3_2"]


@broadcast
def lplr_theorem_3_2(singular_values: Any, m: int, k: int, epsilon: float) -> float:
    """Bound on ``E |L R - A|_F^2`` for LPLR whose bits suffice for epsilon.

    ``(1 + k/(m-k-1)) |A_k - A|_F^2 + epsilon``

    Parameters
    ----------
    singular_values, m
        As in `lplr_bound`.
    k : int
        From 0 to m - 2 and at most the rank of A.
    epsilon : float
        Not negative, in squared units of A.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: those of `lplr_bound`, and bits of both quantizers at least those of
    `lplr_bits`. Source: LPLR (NeurIPS 2023), Theorem 3.2; the bits are derived there from the
    dynamic ranges, here from the same ranges with explicit constants.

    Examples
    --------
    >>> from lplr.theory.bounds import lplr_theorem_3_2
    >>> lplr_theorem_3_2([3.0, 2.0, 1.0], m=4, k=1, epsilon=0.5)
    8.0
    """
    sigma = check_spectrum(singular_values)
    m = check_n_columns(m)
    k = check_k(k, m, sigma)
    epsilon = check_real(epsilon, "epsilon", strict=False)
    return float((1 + k / (m - k - 1)) * squared_tails(sigma)[k] + epsilon)


@broadcast
def lplr_bits(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    k: int,
    epsilon: float,
    ranges: float | tuple[float, float],
) -> tuple[int, int]:
    """Bits (B, B') of L and R that suffice for `lplr_theorem_3_2`, in closed form.

    Parameters
    ----------
    singular_values, shape, m
        As in `lplr_bound`.
    k : int
        From 0 to m - 2 and at most the rank of A.
    epsilon : float
        Positive, in squared units of A.
    ranges : float or (float, float)
        The points of the quantizers of L and R lie from -range to range.

    Returns
    -------
    (int, int)
        Both at least 1. `lplr_bound` with these bits and this k is at most the bound of
        Theorem 3.2; with B bits for L, one bit less for R is not enough.

    Notes
    -----
    *Assumptions*: those of `lplr_bound`. With B bits ``step^2/4 = range^2 / (2^B - 1)^2``
    (`uniform_step`). `lplr_bound` exceeds the sketch's own error by two terms. The first,
    ``n m k/(m-k-1) range^2/(2^B-1)^2``, is given half of epsilon, so

    ``B >= log2(1 + range sqrt(2 n m k / ((m-k-1) epsilon)))``.

    B is rounded up, so the first term leaves epsilon' of epsilon, at least a half. It is for the
    second term, ``d range'^2/(2^B'-1)^2 (|A|_F^2 + n m range^2/(2^B-1)^2)``:

    ``B' >= log2(1 + range' sqrt(d (|A|_F^2 + n m range^2/(2^B-1)^2) / epsilon'))``.

    Giving each term a half is a choice; another one trades bits of L for bits of R.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import lplr_bits
    >>> lplr_bits(1 / np.arange(1.0, 101), (200, 100), m=20, k=8, epsilon=0.01, ranges=(0.5, 2))
    (9, 9)
    """
    n, d = check_shape(shape)
    sigma = check_spectrum(singular_values, min(n, d))
    m = check_n_columns(m)
    k = check_k(k, m, sigma)
    epsilon = check_real(epsilon, "epsilon")
    left, right = (check_real(r, "ranges") for r in check_pair(ranges, "ranges"))
    weight = n * m * k / (m - k - 1)
    B = max(1, ceil(log2(1 + left * sqrt(2 * weight / epsilon))))
    variance = uniform_step(B, left) ** 2 / 4
    size = float(squared_tails(sigma)[0]) + n * m * variance
    B_right = max(1, ceil(log2(1 + right * sqrt(d * size / (epsilon - weight * variance)))))
    return B, B_right
