"""LPLR with a better competitor: one for each direction, shrunk where the noise drowns it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.theory.bounds._checks import (
    check_n_columns,
    check_shape,
    check_spectrum,
    check_steps,
    squared_tails,
)

__all__ = ["lplr_sharp_bound", "sketch_error"]


def lplr_sharp_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
) -> float:
    """Sharper bound on ``E |L R - A|_F^2`` for LPLR, under the same assumptions; it has no k.

    ``sum_i sigma_i^2 tau_i / (sigma_i^2 + tau_i) + d step'^2/4 (|A|_F^2 + n m step^2/4)`` with
    ``tau_i = min_k (|A - A_k|_F^2 + n m step^2/4) / (m-k-1)`` over i <= k <= m - 2, infinite for
    i > m - 2

    Parameters
    ----------
    singular_values : array_like of shape (r,)
        Of A, descending; those left out count as zero.
    shape : (int, int)
        Rows n and columns d of A.
    m : int
        Sketch size: columns of L.
    steps : float or (float, float)
        Steps of the quantizers of L and R, in units of their entries; 0: not quantized.

    Returns
    -------
    float
        In squared units of A; never more than `lplr_bound` at any k. With steps 0, a sharper
        bound for the range finder as well.

    Raises
    ------
    InputError
        If an argument is out of range or an assumption fails; the message names it.

    Notes
    -----
    *Assumptions*: those of `lplr.theory.bounds.lplr_bound`. Neither paper has this statement.

    Steps 1 and 2 there are unchanged; this replaces the competitor of step 3. For each i choose
    k_i >= i, k_i <= m - 2 and at most the rank, and a number c_i. Let y_i be column i of
    ``(V_k^T S)^+``, k = k_i: then ``v_j^T S y_i`` is 1 for j = i and 0 for other j <= k_i. The
    competitor is ``Y = sum_i c_i y_i v_i^T``. From
    ``A S y_i = sigma_i u_i + (A - A_k) S y_i``,

    ``L Y - A = sum_i ((c_i - 1) sigma_i u_i + c_i (A - A_k) S y_i + c_i E y_i) v_i^T``.

    The v_i are orthonormal, so the squared norm is the sum of those of the brackets. In each, the
    second and third terms have mean zero given ``V_k^T S`` (step 4 there), and
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
    n, d = check_shape(shape)
    sigma = check_spectrum(singular_values, min(n, d))
    m = check_n_columns(m)
    step, step_right = check_steps(steps)
    size = squared_tails(sigma)[0] + n * m * step**2 / 4
    return sketch_error(sigma, n, m, m, step) + float(d * step_right**2 / 4 * size)


def sketch_error(sigma: np.ndarray, n: int, m: int, columns: int, step: float) -> float:
    """Bound on ``E min_W |L W - A|_F^2``, L the first ``columns`` columns of m.

    Parameters
    ----------
    sigma : ndarray of shape (r,), float64, descending
    n : int
    m : int
        1 over the variance of the entries of S, whatever the number of columns used.
    columns : int
        From 0 to m; up to 2 leave ``|A|_F^2``.
    step : float

    Returns
    -------
    float
    """
    square = np.square(sigma)
    tails = squared_tails(sigma)
    most = max(min(columns - 2, int(np.count_nonzero(sigma))), 0)
    k = np.arange(1, most + 1)
    tau = (tails[k] + n * m * step**2 / 4) / (columns - k - 1)
    tau = np.minimum.accumulate(tau[::-1])[::-1]
    return float((square[:most] * (tau / (square[:most] + tau))).sum() + tails[most])
