"""LPLR with explicit constants: a Gaussian sketch, two dithered factors (paper 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_k, check_lplr, squared_tails

__all__ = ["lplr_best_k", "lplr_bound"]


@broadcast
def lplr_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
    *,
    k: int | None = None,
) -> float:
    """Bound on ``E |L R - A|_F^2`` for LPLR, all constants explicit.

    ``(1 + k/(m-k-1)) |A - A_k|_F^2 + n m k/(m-k-1) step^2/4
    + d step'^2/4 (|A|_F^2 + n m step^2/4)``

    Parameters
    ----------
    singular_values : array_like of shape (r,) or (n, d)
        Singular values of A, descending; those that are left out count as zero. Or A itself.
    shape : (int, int)
        Rows n and columns d of A; not needed with A itself.
    m : int or array of int
        Sketch size: number of columns of L, at least 2.
    steps : float, array of float, or a pair of these
        Steps of the quantizers of L and R, in units of their entries; 0: not quantized.
    k : int or array of int, optional
        From 0 to m - 2 and at most the rank; by default the k that makes the bound least.

    Returns
    -------
    float or ndarray
        An array where a parameter is one.

    Notes
    -----
    *Assumptions*: S of shape (d, m) with independent entries N(0, 1/m); ``L = Q(A S)``,
    ``W* = argmin_W |L W - A|_F``, ``R = Q'(W*)``; both quantizers dithered, with independent
    dithers, steps fixed beforehand, and unsaturated (`lplr.theory.bounds.sketch_range`); k <=
    rank of A; m >= k + 2. Source: LPLR (NeurIPS 2023), Algorithm 1 and the method of its
    Theorem 3.2; the constants are derived here.

    *Step 1, R costs an extra term.* ``L W* - A`` is orthogonal to the range of L, so
    ``|L R - A|^2 = |L W* - A|^2 + |L (R - W*)|^2``. Given L, the entries of ``R - W*`` are
    independent, of mean zero and variance at most ``step'^2/4``, so the second term has mean at
    most ``d step'^2/4 |L|_F^2``.

    *Step 2, the size of L.* ``L = A S + E`` where, given S, the entries of E are independent, of
    mean zero and variance at most ``step^2/4``: ``E |L|^2 = E |A S|^2 + E |E|^2 <= |A|_F^2 +
    n m step^2/4``, since ``E S S^T`` is the identity.

    *Step 3, a competitor for W\\*.* W* does at least as well as any other matrix, so as
    ``Y = (V_k^T S)^+ V_k^T``, which does not depend on E, V_k being the leading right singular
    vectors. Hence ``E |L W* - A|^2 <= E |A S Y - A|^2 + E |E Y|^2``, where the cross term has
    mean zero. Almost surely ``V_k^T S``, of shape (k, m), has full row rank, so
    ``V_k^T S (V_k^T S)^+ = I`` and ``A S Y = A_k + (A - A_k) S (V_k^T S)^+ V_k^T``. Therefore
    ``A S Y - A = -(A - A_k) + (A - A_k) S (V_k^T S)^+ V_k^T``, and these two are orthogonal,
    because ``(A - A_k) V_k = 0``.

    *Step 4, Gaussian matrices.* ``V_k^T S`` and ``(A - A_k) S`` are independent: their entries
    are jointly Gaussian and uncorrelated. Given the former, ``E |(A - A_k) S G|^2 =
    |A - A_k|^2 |G|^2 / m`` with ``G = (V_k^T S)^+``. And ``|G|^2 = tr (V_k^T S S^T V_k)^-1``,
    the trace of an inverse Wishart matrix, has mean ``m k/(m-k-1)`` where m >= k + 2. This gives
    the first term. Rows of E have a diagonal covariance of at most ``step^2/4``, so
    ``E |E Y|^2 <= n step^2/4 E |Y|^2``, and ``|Y| = |G|``: the second term. At k = 0, Y = 0.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import lplr_bound
    >>> sigma = 1 / np.arange(1.0, 101)
    >>> round(lplr_bound(sigma, (200, 100), 20, 0.01), 3)
    0.258
    >>> lplr_bound(sigma, (200, 100), [10, 20, 40], 0.01).round(3)
    array([0.425, 0.258, 0.188])
    """
    given = check_lplr(singular_values, shape, m, steps)
    errors = _sketch_errors(given.sigma, given.n, given.m, given.left)
    left = errors.min() if k is None else errors[check_k(k, given.m, given.sigma)]
    return float(left + given.right_error)


@broadcast
def lplr_best_k(singular_values: Any, shape: tuple[int, int], m: int, step: float) -> int:
    """The k at which `lplr_bound` is least; it does not depend on the step of R.

    Parameters
    ----------
    singular_values, shape, m
        As in `lplr_bound`.
    step : float
        Step of the quantizer of L.

    Returns
    -------
    int
        From 0 to m - 2 and at most the rank.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import lplr_best_k
    >>> sigma = 1 / np.arange(1.0, 101)
    >>> lplr_best_k(sigma, (200, 100), 20, 0.01)
    7
    """
    given = check_lplr(singular_values, shape, m, step)
    return int(_sketch_errors(given.sigma, given.n, given.m, given.left).argmin())


def _sketch_errors(sigma: np.ndarray, n: int, m: int, variance: float) -> np.ndarray:
    """The first two terms of `lplr_bound` for each k from 0 to min(m - 2, rank)."""
    k = np.arange(min(m - 2, int(np.count_nonzero(sigma))) + 1)
    factor = k / (m - k - 1)
    return (1 + factor) * squared_tails(sigma)[: len(k)] + n * m * factor * variance
