"""Simpler methods beside LPLR: the SVD with rounded factors, and A rounded entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.theory.broadcast import broadcast
from lplr.theory.checks import LplrArguments, check_lplr, check_shape, squared_tails
from lplr.validation.arguments import check_integer, check_real

__all__ = ["direct_svd_bound", "lplr_svd_bound", "naive_bound"]


@broadcast
def direct_svd_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
) -> float:
    """Bound on ``E |L R - A|_F^2`` for ``L = Q(U_m)``, ``R = Q'(Sigma_m V_m^T)``: direct-SVD.

    ``|A - A_m|_F^2 + n step^2/4 |A_m|_F^2 + m d step'^2/4 + n m d step^2/4 step'^2/4``

    Parameters
    ----------
    singular_values, shape
        As in `lplr_bound`.
    m : int
        Rank, from 1 to min(n, d).
    steps
        As in `lplr_bound`.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: both quantizers dithered, with independent dithers, steps fixed beforehand,
    unsaturated. Source: the baseline of LPLR (NeurIPS 2023), Section 4; derived here.

    With errors E, F: ``L R - A = (A_m - A) + E Sigma V^T + U F + E F``. E and F are independent
    of each other, of independent entries with mean zero, so all cross terms vanish in the mean;
    ``E |E Sigma V^T|^2 <= n step^2/4 |Sigma_m|^2`` and ``E |U F|^2 = E |F|^2 <= m d step'^2/4``;
    ``E |E F|^2`` is at most n m d times both variances. An equality if all variances are equal to
    their bound.

    Examples
    --------
    >>> from lplr.theory.bounds import direct_svd_bound
    >>> direct_svd_bound([2.0, 1.0], (4, 3), 1, (0.5, 1.0))
    2.9375
    """
    sigma, n, d, m, left, right = _check(singular_values, shape, m, steps)
    tails = squared_tails(sigma)
    tail = tails[min(m, len(sigma))]
    return float(tail + n * left * (tails[0] - tail) + m * d * right + n * m * d * left * right)


@broadcast
def lplr_svd_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
) -> float:
    """Bound on ``E |L R - A|_F^2`` for ``L = Q(U_m Sigma_m)``, R by least squares: LPLR-SVD.

    ``min_k (|A - A_k|_F^2 + n k step^2/4) + d step'^2/4 (|A_m|_F^2 + n m step^2/4)``

    Parameters
    ----------
    singular_values, shape, m, steps
        As in `direct_svd_bound`.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: both quantizers dithered, with independent dithers, steps fixed beforehand,
    unsaturated. Source: the variant of LPLR (NeurIPS 2023), Section 4; derived here.

    Steps 1 and 2 are those of `lplr_bound`. For step 3, ``L = U_m Sigma_m + E`` and Y, with which
    the solution R is compared, has the first k <= m rows of V_m^T and zeros below:
    ``L Y - A = (A_k - A) + E Y``, whose mean square is at most ``|A - A_k|^2 + n k step^2/4``.

    Examples
    --------
    >>> from lplr.theory.bounds import lplr_svd_bound
    >>> lplr_svd_bound([2.0, 1.0], (4, 3), 1, (0.5, 1.0))
    4.4375
    """
    sigma, n, d, m, left, right = _check(singular_values, shape, m, steps)
    tails = squared_tails(sigma)
    k = np.arange(min(m, len(sigma)) + 1)
    size = tails[0] - tails[k[-1]] + n * m * left
    return float((tails[k] + n * k * left).min() + d * right * size)


def _check(singular_values: Any, shape: Any, m: Any, steps: Any) -> LplrArguments:
    """Arguments as those of LPLR, but m is a rank."""
    given = check_lplr(singular_values, shape, 2, steps)
    return given._replace(m=check_integer(m, "m", 1, min(given.n, given.d)))


@broadcast
def naive_bound(shape: tuple[int, int], step: float) -> float:
    """Bound on ``|Q(A) - A|_F^2`` for A rounded entry by entry: ``n d step^2/4``.

    Parameters
    ----------
    shape : (int, int)
        Rows n and columns d of A.
    step : float
        Step of the quantizer, in units of A.

    Returns
    -------
    float

    Notes
    -----
    *Assumption*: unsaturated. For a dithered quantizer it holds in the mean
    (`dithered_variance_bound`), for rounding to nearest always (`nearest_error_bound`).

    Examples
    --------
    >>> from lplr.theory.bounds import naive_bound
    >>> naive_bound((4, 3), 1.0)
    3.0
    """
    n, d = check_shape(shape)
    return n * d * check_real(step, "step", strict=False) ** 2 / 4
