"""A sharper bound for LPLR: its proof treats each singular direction by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_lplr, squared_tails

__all__ = ["lplr_sharp_bound", "sketch_error"]


@broadcast
def lplr_sharp_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
) -> float:
    """Sharper bound on ``E |L R - A|_F^2`` for LPLR under the same assumptions, without a k.

    ``sum_i sigma_i^2 tau_i / (sigma_i^2 + tau_i) + d step'^2/4 (|A|_F^2 + n m step^2/4)`` with
    ``tau_i = min_k (|A - A_k|_F^2 + n m step^2/4) / (m-k-1)`` over i <= k <= m - 2, infinite for
    i > m - 2

    Parameters
    ----------
    singular_values, shape, m, steps
        As in `lplr_bound`.

    Returns
    -------
    float
        Never more than `lplr_bound` at any k. With steps 0, a sharper bound for the range finder.

    Notes
    -----
    *Assumptions*: those of `lplr_bound`. Neither paper has this statement.

    Steps 1 and 2 of `lplr_bound` are unchanged; the matrix Y of step 3, with which W* competes, is
    another one. For each i choose k_i >= i, k_i <= m - 2 and at most the rank, and a number c_i.
    Let y_i be column i of ``(V_k^T S)^+``, k = k_i: then ``v_j^T S y_i`` is 1 for j = i and 0 for
    other j <= k_i. Let ``Y = sum_i c_i y_i v_i^T``. As ``A S y_i = sigma_i u_i + (A - A_k) S y_i``,

    ``L Y - A = sum_i ((c_i - 1) sigma_i u_i + c_i (A - A_k) S y_i + c_i E y_i) v_i^T``.

    The v_i are orthonormal, so the squared norm is the sum of those of the brackets. In each, the
    second and third terms have mean zero given ``V_k^T S`` (step 4 of `lplr_bound`), and
    ``E |y_i|^2 = E ((V_k^T S S^T V_k)^-1)_ii = m/(m-k-1)``: the mean square is at most
    ``(1 - c_i)^2 sigma_i^2 + c_i^2 tau``, ``tau = (|A - A_k|^2/m + n step^2/4) m/(m-k-1)``.
    The best c_i is ``sigma_i^2/(sigma_i^2 + tau)``, which leaves
    ``sigma_i^2 tau/(sigma_i^2 + tau)``; the best k_i makes tau least. For i > m - 2, c_i = 0.

    *Never larger.* In `lplr_bound`, at a given k, all i <= k pay the tau of that k, and the others
    sigma_i^2; here each i <= k pays less than the least of sigma_i^2 and that tau.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import lplr_bound, lplr_sharp_bound
    >>> sigma = 1 / np.arange(1.0, 101)
    >>> round(lplr_sharp_bound(sigma, (200, 100), 20, 0.05), 3)
    0.816
    >>> round(lplr_bound(sigma, (200, 100), 20, 0.05), 3)
    0.983
    """
    given = check_lplr(singular_values, shape, m, steps)
    sketched = sketch_error(given.sigma, given.n, given.m, given.m, given.left)
    return sketched + given.right_error


def sketch_error(sigma: np.ndarray, n: int, m: int, columns: int, variance: float) -> float:
    """Bound on ``E min_W |L W - A|_F^2`` where L is the first ``columns`` of the m columns.

    Parameters
    ----------
    sigma : ndarray of shape (r,), float64, descending
    n : int
    m : int
        The entries of S have variance 1/m, whatever the number of columns used.
    columns : int
        From 0 to m; 2 columns or fewer leave ``|A|_F^2``.
    variance : float
        Largest variance of a rounded entry of L, step^2/4.

    Returns
    -------
    float
    """
    square = np.square(sigma)
    tails = squared_tails(sigma)
    most = max(min(columns - 2, int(np.count_nonzero(sigma))), 0)
    k = np.arange(1, most + 1)
    tau = (tails[k] + n * m * variance) / (columns - k - 1)
    tau = np.minimum.accumulate(tau[::-1])[::-1]
    return float((square[:most] * (tau / (square[:most] + tau))).sum() + tails[most])
