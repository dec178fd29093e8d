"""Ranges of quantizers that all entries stay within, but for a small probability of failure."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.theory.broadcast import broadcast
from lplr.theory.checks import (
    check_n_columns,
    check_probability,
    check_second_moment,
    check_shape,
    check_spectrum,
)
from lplr.validation.arguments import check_integer, check_real
from lplr.validation.matrices import check_matrix

__all__ = [
    "ldlq_range",
    "pilot_range",
    "saturated_entries",
    "sketch_range",
    "solution_range",
]


@broadcast
def sketch_range(row_norms: Any, m: int, failure_probability: float) -> float:
    """Range that contains all entries of ``A S``, but for a probability of failure.

    Parameters
    ----------
    row_norms : array_like of shape (n,) or (n, d)
        Euclidean norms of the rows of A, each at most sigma_1; or A itself.
    m : int
        Number of columns of S.
    failure_probability : float
        A number delta between 0 and 1.

    Returns
    -------
    float
        The t at which ``sum_i 2 m Phi(-t sqrt(m) / |a_i|) = delta``.

    Notes
    -----
    *Assumption*: S with independent entries N(0, 1/m). Entry (i, j) of A S is ``N(0, |a_i|^2/m)``,
    beyond t in magnitude with probability ``2 Phi(-t sqrt(m)/|a_i|)``; the sum over all entries
    bounds the probability that any is (union bound). About
    ``max |a_i| sqrt(2 log(2 n m / delta) / m)`` where rows are alike.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import sketch_range
    >>> round(sketch_range(np.ones(100), 25, 0.01), 4)
    0.9223
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri

    norms = check_matrix(np.reshape(row_norms, (1, -1)), "row_norms", dtype=np.float64)[0]
    if norms.min() < 0:
        raise InputError(f"row_norms: are norms, not negative, found {norms.min():g}")
    m = check_integer(m, "m", 1)
    delta = check_probability(failure_probability)
    if norms.max() == 0:
        return 0.0
    deviation = norms[norms > 0] / np.sqrt(m)

    def surplus(log_t: float) -> float:
        return float(np.log(2 * m * ndtr(-np.exp(log_t) / deviation).sum() / delta))

    # Alone, the largest row needs the first of these; if all were as large, the second would do.
    low = -ndtri(min(delta / (2 * m), 0.4)) * deviation.max()
    high = -ndtri(delta / (2 * m * len(deviation))) * deviation.max()
    ends = np.log(low) - 1e-9, np.log(high) + 1e-9
    return float(np.exp(brentq(surplus, *ends, xtol=1e-12))) if low < high else float(high)


@broadcast
def solution_range(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    step: float,
    failure_probability: float,
    *,
    column_norm: float | None = None,
) -> float:
    """Range that contains all entries of ``W* = argmin_W |L W - A|_F``, but for failures.

    Parameters
    ----------
    singular_values, shape, m
        As in `lplr_bound`.
    step : float
        Step of the dithered quantizer of L; 0: not quantized.
    failure_probability : float
        A number delta between 0 and 1. The sketch may fail with probability delta/2 (delta if the
        step is 0), the quantizer with the rest.
    column_norm : float, optional
        Largest norm of a column of A; by default sigma_1, which no column exceeds.

    Returns
    -------
    float
        ``column_norm / s`` where sigma_min(L) > s, but for failures. Infinite if this argument
        finds no such s > 0: too few singular values, or too coarse a quantizer.

    Notes
    -----
    *Assumptions*: those of `lplr_bound`. ``W* = L^+ A``, so
    ``|W*_ij| <= |L^+| |a_j| = |a_j| / sigma_min(L)``. Both inequalities are worst cases: the range
    from pilot trials (`pilot_range`) is several times smaller in practice.

    ``sigma_min(L) >= sigma_min(A S) - |E|``. For each k >= m, with A split after k,
    ``|A S x| >= |Sigma_k V_k^T S x| >= sigma_k sigma_min(G) |x|``, G = V_k^T S being Gaussian of
    shape (k, m) and variance 1/m. By Chen and Dongarra (2005; Halko et al., Proposition A.3),
    with q = k - m + 1, ``P(sigma_min(sqrt(m) G) < 1/t) <= (e sqrt(k) / (q t))^q / sqrt(2 pi q)``,
    which is solved for t; the best k is taken.

    The entries of E are, given S, independent, of mean zero, in intervals of length step, hence
    sub-Gaussian with parameter ``step^2/4`` (Hoeffding). On nets of 9^n and 9^m points, fine to
    1/4, ``|E| <= 2 max x^T E y``, so
    ``P(|E| > 2 u) <= 2 9^(n+m) exp(-2 u^2/step^2)``, and always ``|E| <= step sqrt(n m)``.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import solution_range
    >>> bool(1 < solution_range(np.ones(100), (200, 100), 20, 0.0, 0.01) < 10)
    True
    """
    n, d = check_shape(shape)
    sigma = check_spectrum(singular_values, min(n, d))
    m = check_n_columns(m)
    step = check_real(step, "step", strict=False)
    delta = check_probability(failure_probability)
    longest = sigma[0] if column_norm is None else check_real(column_norm, "column_norm")
    share = delta / 2 if step else delta
    k = np.arange(m, np.count_nonzero(sigma) + 1)
    if not len(k):
        return float("inf")
    q = k - m + 1
    log_t = 1 + np.log(k) / 2 - np.log(q) - (np.log(2 * np.pi * q) / 2 + np.log(share)) / q
    least = float((sigma[k - 1] * np.exp(-log_t)).max()) / np.sqrt(m)
    net = np.sqrt(2 * ((n + m) * np.log(9) + np.log(2 / share)))
    least -= step * min(net, np.sqrt(n * m))
    return float(longest / least) if least > 0 else float("inf")


@broadcast
def ldlq_range(W: Any, hessian: Any, bits: int, failure_probability: float | None = None) -> float:
    """Range that contains everything that LDL feedback rounds: W and the errors fed back.

    Parameters
    ----------
    W : array_like of shape (n, d)
    hessian
        As in `ldl_pivots`.
    bits : int
        Bits of the quantizer, whose step grows with its range.
    failure_probability : float, optional
        A number delta between 0 and 1 for a dithered quantizer. By default the quantizer rounds
        to the nearest point, and the range never fails.

    Returns
    -------
    float
        Infinite if this argument finds no range: too few bits for this Hessian.

    Notes
    -----
    *Assumption*: columns processed from the last to the first. With ``H = L D L^T``,
    ``(W - Q) L = eta``, what is rounded is ``Q + eta = W - eta (L^-1 - I)``: entry (i, k) is off
    W_ik by ``sum_(j>k) eta_ij M_jk``, ``M = L^-1 - I``.

    Nearest: ``|eta| <= step/2``, so this is at most ``step/2 max_k sum_j |M_jk|``. Dithered:
    ``|eta| <= step``, and each eta_ij has, given those before it, mean zero in an interval of
    length step; by Hoeffding and Azuma it exceeds u with probability at most
    ``2 exp(-2 u^2 / (step^2 sum_j M_jk^2))``, for each of n d entries; the smaller of the two
    bounds is used. With c the factor on the step, ``range = max |W| + c step`` and
    ``step = 2 range/(2^B - 1)`` give ``range = max |W| / (1 - 2 c/(2^B - 1))``.

    Examples
    --------
    >>> from lplr.theory.bounds import ldlq_range
    >>> round(ldlq_range([[1.0, -3.0]], [[4.0, 2.0], [2.0, 2.0]], bits=2), 12)
    3.6
    """
    from scipy.linalg import solve_triangular

    from lplr.linalg.ldl import ldl
    from lplr.theory.bounds.ldlq import ldl_pivots

    W = check_matrix(W, "W", dtype=np.float64)
    n, d = W.shape
    H = check_second_moment(hessian, d)
    ldl_pivots(H)  # refuses an H that is not positive definite
    L, _ = ldl(H)
    bits = check_integer(bits, "bits", 1, 52)
    M = solve_triangular(L, np.eye(d), lower=True, unit_diagonal=True) - np.eye(d)
    worst = np.abs(M).sum(axis=0).max()
    if failure_probability is None:
        factor = worst / 2
    else:
        delta = check_probability(failure_probability)
        spread = np.sqrt(np.square(M).sum(axis=0).max())
        factor = min(worst, spread * np.sqrt(np.log(2 * n * d / delta) / 2))
    room = 1 - 2 * factor / (2**bits - 1)
    return float(np.abs(W).max() / room) if room > 0 else float("inf")


@broadcast
def pilot_range(largest: Any, failure_probability: float) -> float:
    """Range for any quantized quantity, from the largest magnitudes in pilot trials.

    Parameters
    ----------
    largest : array_like of shape (N,)
        Largest magnitude of the quantity in each of N independent pilot trials.
    failure_probability : float
        A number delta between 0 and 1; ``N >= 1/delta - 1`` pilots are needed.

    Returns
    -------
    float
        The r-th largest of the N magnitudes, ``r = floor(delta (N + 1))``.

    Notes
    -----
    *Assumption*: the next trial is independent of the pilots and of the same distribution, and
    nothing else. So this serves W*, what feedback rounds, or a factor of any method. Among the
    N + 1 magnitudes the rank of the next is uniform (ties only help), so it is above the r-th
    largest of the others with probability at most r/(N+1) <= delta. That probability is over
    pilots and trial together.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import pilot_range
    >>> pilot_range(np.arange(1.0, 100.0), 0.02)
    98.0
    """
    maxima = check_matrix(np.reshape(largest, (1, -1)), "largest", dtype=np.float64)[0]
    if maxima.min() < 0:
        raise InputError(f"largest: are magnitudes, not negative, found {maxima.min():g}")
    delta = check_probability(failure_probability)
    # The product may fall short of an integer by rounding.
    r = int(np.floor(delta * (len(maxima) + 1) * (1 + 1e-12)))
    if r < 1:
        raise InputError(
            f"largest: {len(maxima)} pilots are too few for a failure probability of {delta:g}; "
            f"run at least {int(np.ceil(1 / delta)) - 1}"
        )
    return float(np.sort(maxima)[-r])


@broadcast
def saturated_entries(values: Any, dynamic_range: float) -> int:
    """Number of entries beyond the range of their quantizer; every bound assumes that it is 0.

    Parameters
    ----------
    values : array_like of shape (n, d)
        The entries before they are quantized.
    dynamic_range : float
        The points of the quantizer lie from -range to range.

    Returns
    -------
    int

    Examples
    --------
    >>> from lplr.theory.bounds import saturated_entries
    >>> saturated_entries([[0.5, -1.5, 2.0]], 1.0)
    2
    """
    X = check_matrix(values, "values", dtype=np.float64)
    return int(np.count_nonzero(np.abs(X) > check_real(dynamic_range, "dynamic_range")))
