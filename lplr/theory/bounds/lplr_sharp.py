"""LPLR with a better competitor: directions that the noise drowns are shrunk, not inverted."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.theory.bounds._checks import (
    check_n_columns,
    check_rank_below_sketch,
    check_shape,
    check_spectrum,
    check_steps,
    squared_tails,
)

__all__ = ["lplr_sharp_bound", "sketch_errors"]


def lplr_sharp_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
    *,
    k: int | None = None,
) -> float:
    """Sharper bound on ``E |L R - A|_F^2`` for LPLR, under the same assumptions.

    ``|A - A_k|_F^2 + sum_(i<=k) sigma_i^2 tau / (sigma_i^2 + tau)
    + d step'^2/4 (|A|_F^2 + n m step^2/4)``, ``tau = (|A - A_k|_F^2 + n m step^2/4) / (m-k-1)``

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
    k : int, optional
        From 0 to m - 2 and at most the rank; by default the one that makes the bound least.

    Returns
    -------
    float
        In squared units of A; never more than `lplr_bound` at the same arguments. With steps 0,
        a sharper bound for the range finder as well.

    Raises
    ------
    InputError
        If an argument is out of range or an assumption fails; the message names it.

    Notes
    -----
    *Assumptions*: those of `lplr.theory.bounds.lplr_bound`. Neither paper has this statement.

    Steps 1, 2 and 4 there, unchanged. In step 3 the competitor is ``Y = G C V_k^T``,
    ``G = (V_k^T S)^+``, with a fixed diagonal C, which there is the identity. Now
    ``A S Y - A = -(A - A_k) - U_k Sigma_k (I - C) V_k^T + (A - A_k) S G C V_k^T``. The first is
    orthogonal to the others; the last has mean zero given G, so that
    ``E |A S Y + E Y - A|^2 <= |A - A_k|^2 + sum_i (1 - c_i)^2 sigma_i^2
    + (|A - A_k|^2 / m + n step^2/4) E |G C|^2``, and
    ``E |G C|^2 = tr(C^2 E (V_k^T S S^T V_k)^-1) = m/(m-k-1) sum_i c_i^2``. Together
    ``|A - A_k|^2 + sum_i ((1 - c_i)^2 sigma_i^2 + c_i^2 tau)``, which is least at
    ``c_i = sigma_i^2 / (sigma_i^2 + tau)``, each term being ``sigma_i^2 tau/(sigma_i^2 + tau)``:
    less than tau, the term of `lplr_bound` (c_i = 1), and less than sigma_i^2.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import lplr_bound, lplr_sharp_bound
    >>> sigma = 1 / np.arange(1.0, 101)
    >>> round(lplr_sharp_bound(sigma, (200, 100), 20, 0.05), 3)
    0.843
    >>> round(lplr_bound(sigma, (200, 100), 20, 0.05), 3)
    0.983
    """
    n, d = check_shape(shape)
    sigma = check_spectrum(singular_values, min(n, d))
    m = check_n_columns(m)
    step, step_right = check_steps(steps)
    errors = sketch_errors(sigma, n, m, m, step)
    left = errors.min() if k is None else errors[check_rank_below_sketch(k, m, sigma)]
    size = squared_tails(sigma)[0] + n * m * step**2 / 4
    return float(left + d * step_right**2 / 4 * size)


def sketch_errors(sigma: np.ndarray, n: int, m: int, columns: int, step: float) -> np.ndarray:
    """Bound on ``E min_W |L W - A|_F^2``, L the first ``columns`` columns, for each k.

    Parameters
    ----------
    sigma : ndarray of shape (r,), float64, descending
    n : int
    m : int
        1 over the variance of the entries of S, whatever the number of columns used.
    columns : int
        From 0 to m.
    step : float

    Returns
    -------
    ndarray of shape (K + 1,)
        For k = 0 ... K = min(columns - 2, rank), at least k = 0, where it is ``|A|_F^2``.
    """
    most = max(min(columns - 2, int(np.count_nonzero(sigma))), 0)
    errors = squared_tails(sigma)[: most + 1]
    square = np.square(sigma)
    for k in range(1, most + 1):
        tau = (errors[k] + n * m * step**2 / 4) / (columns - k - 1)
        errors[k] += (square[:k] * (tau / (square[:k] + tau))).sum()
    return errors
