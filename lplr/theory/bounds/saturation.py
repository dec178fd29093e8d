"""The assumption behind every bound: a quantizer's range, and how often it was too small."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.theory.bounds._checks import (
    check_failure_probability,
    check_n_columns,
    check_shape,
    check_spectrum,
)
from lplr.validation import check_integer, check_matrix, check_real

__all__ = [
    "ldlq_range",
    "pilot_range",
    "saturated_entries",
    "saturation_p_value",
    "sketch_range",
    "solution_range",
]


def sketch_range(row_norms: Any, m: int, failure_probability: float) -> float:
    """Range that all entries of ``A S`` are within, but for a probability of failure.

    Parameters
    ----------
    row_norms : array_like of shape (n,)
        Euclidean norms of the rows of A; each is at most sigma_1.
    m : int
        Columns of S.
    failure_probability : float
        delta, between 0 and 1.

    Returns
    -------
    float
        The t at which ``sum_i 2 m Phi(-t sqrt(m) / |a_i|) = delta``; in units of A.

    Raises
    ------
    InputError

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
    delta = check_failure_probability(failure_probability)
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


def solution_range(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    step: float,
    failure_probability: float,
    *,
    column_norm: float | None = None,
) -> float:
    """Range that all entries of ``W* = argmin_W |L W - A|_F`` are within, but for failures.

    Parameters
    ----------
    singular_values : array_like of shape (r,)
        Of A, descending.
    shape : (int, int)
        Rows n and columns d of A.
    m : int
        Sketch size.
    step : float
        Of the dithered quantizer of L; 0: not quantized.
    failure_probability : float
        delta, between 0 and 1; half of it, or all if step is 0, for the sketch.
    column_norm : float, optional
        Largest norm of a column of A; sigma_1 by default, which no column exceeds.

    Returns
    -------
    float
        ``column_norm / s`` with s what sigma_min(L) exceeds but for failures. Infinite if there
        is no such s > 0 by this argument: too few singular values, or too coarse a quantizer.

    Raises
    ------
    InputError

    Notes
    -----
    *Assumptions*: those of `lplr.theory.bounds.lplr_bound`. ``W* = L^+ A``, so
    ``|W*_ij| <= |L^+| |a_j| = |a_j| / sigma_min(L)``. A worst case twice over: `pilot_range` is
    several times smaller in practice.

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
    delta = check_failure_probability(failure_probability)
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


def ldlq_range(W: Any, hessian: Any, bits: int, failure_probability: float | None = None) -> float:
    """Dynamic range that all that LDL feedback rounds is within, W and what is fed back.

    Parameters
    ----------
    W : array_like of shape (n, d)
    hessian : array_like of shape (d, d)
        Symmetric positive definite.
    bits : int
        Of the quantizer, whose step grows with its range.
    failure_probability : float, optional
        Of a dithered quantizer; by default none, nearest rounding.

    Returns
    -------
    float
        In units of W. Infinite if no range suffices by this argument: too few bits for this
        Hessian.

    Raises
    ------
    InputError, HessianError

    Notes
    -----
    *Assumption*: columns processed from the last to the first. With ``H = L D L^T``,
    ``(W - Q) L = eta``, what is rounded is ``Q + eta = W - eta (L^-1 - I)``: entry (i, k) is off
    W_ik by ``sum_(j>k) eta_ij M_jk``, ``M = L^-1 - I``.

    Nearest: ``|eta| <= step/2``, so this is at most ``step/2 max_k sum_j |M_jk|``. Dithered:
    ``|eta| <= step``, and each eta_ij has, given those before it, mean zero in an interval of
    length step; by Hoeffding and Azuma it exceeds u with probability at most
    ``2 exp(-2 u^2 / (step^2 sum_j M_jk^2))``, for each of n d entries; u is the smaller of the
    one and the other. With c the factor on the step, ``range = max |W| + c step`` and
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
    if ldl_pivots(hessian).shape != (d,):
        raise InputError(f"hessian: must have shape ({d}, {d}), one row a column of W")
    L, _ = ldl(np.asarray(hessian, np.float64))
    bits = check_integer(bits, "bits", 1, 52)
    M = solve_triangular(L, np.eye(d), lower=True, unit_diagonal=True) - np.eye(d)
    worst = np.abs(M).sum(axis=0).max()
    if failure_probability is None:
        factor = worst / 2
    else:
        delta = check_failure_probability(failure_probability)
        spread = np.sqrt(np.square(M).sum(axis=0).max())
        factor = min(worst, spread * np.sqrt(np.log(2 * n * d / delta) / 2))
    room = 1 - 2 * factor / (2**bits - 1)
    return float(np.abs(W).max() / room) if room > 0 else float("inf")


def pilot_range(largest: Any, failure_probability: float) -> float:
    """Range for any quantized quantity, from the largest magnitudes in pilot trials.

    Parameters
    ----------
    largest : array_like of shape (N,)
        Largest magnitude of the quantity in each of N independent pilot trials.
    failure_probability : float
        delta, between 0 and 1; ``N >= 1/delta - 1`` pilots are needed.

    Returns
    -------
    float
        The r-th largest of them, ``r = floor(delta (N + 1))``.

    Raises
    ------
    InputError
        If there are too few pilots for this delta; the message says how many are needed.

    Notes
    -----
    *Assumption*: the next trial is independent of the pilots and of the same distribution;
    nothing else, so this serves W*, what feedback rounds, or a factor of any method. Among the
    N + 1 the rank of the next is uniform (ties only help), so it is above the r-th largest of the
    others with probability at most r/(N+1) <= delta. That probability is over pilots and trial
    together.

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
    delta = check_failure_probability(failure_probability)
    # The product may fall short of an integer by rounding.
    r = int(np.floor(delta * (len(maxima) + 1) * (1 + 1e-12)))
    if r < 1:
        raise InputError(
            f"largest: {len(maxima)} pilots are too few for a failure probability of {delta:g}; "
            f"run at least {int(np.ceil(1 / delta)) - 1}"
        )
    return float(np.sort(maxima)[-r])


def saturated_entries(values: Any, dynamic_range: float) -> int:
    """How many entries are beyond the range of their quantizer: the assumption of every bound.

    Parameters
    ----------
    values : array_like of shape (n, d)
        What was to be quantized.
    dynamic_range : float
        In units of the values.

    Returns
    -------
    int
        0: unsaturated.

    Raises
    ------
    InputError

    Examples
    --------
    >>> from lplr.theory.bounds import saturated_entries
    >>> saturated_entries([[0.5, -1.5, 2.0]], 1.0)
    2
    """
    X = check_matrix(values, "values", dtype=np.float64)
    return int(np.count_nonzero(np.abs(X) > check_real(dynamic_range, "dynamic_range")))


def saturation_p_value(saturated: int, trials: int, failure_probability: float) -> float:
    """Probability of at least so many saturated trials, if each were one with probability delta.

    Parameters
    ----------
    saturated : int
        Trials with any entry beyond the range; from 0 to trials.
    trials : int
    failure_probability : float
        The delta that the range was made for.

    Returns
    -------
    float
        From 0 to 1. Where it is tiny, the range was not good for its delta.

    Raises
    ------
    InputError

    Notes
    -----
    *Assumption*: independent trials, and a range that does not depend on them (for that of
    `pilot_range` the trials share the pilots, and large counts are likelier). The upper tail of
    the binomial distribution: a one-sided exact test of "the failure probability is at most
    delta".

    Examples
    --------
    >>> from lplr.theory.bounds import saturation_p_value
    >>> saturation_p_value(1, 2, 0.5)
    0.75
    """
    from scipy.stats import binom

    trials = check_integer(trials, "trials", 1)
    saturated = check_integer(saturated, "saturated", 0, trials)
    delta = check_failure_probability(failure_probability)
    return float(binom.sf(saturated - 1, trials, delta))
