"""LPLR with a competitor that uses every direction of the sketch."""

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
from lplr.theory.bounds.lplr_sharp import sketch_error

__all__ = ["lplr_nested_bound", "nested_error"]

# Spacing and end of the trapezoidal rule in log t. The integrand is analytic in a strip of
# half-width pi/2, which makes its error exp(-pi^2/0.25), 7e-18; from exp(3.7) on, exp(-t) is 3e-18.
_SPACING, _END = 0.25, 3.7
# Weights are cut to this, which only enlarges the integral, so that products of 8 are finite.
_LARGEST, _AT_ONCE = 1e32, 8


def lplr_nested_bound(
    singular_values: Any,
    shape: tuple[int, int],
    m: int,
    steps: float | tuple[float, float],
) -> float:
    """Sharpest bound here on ``E |L R - A|_F^2`` for LPLR, under the same assumptions.

    ``sum_j sigma_j^2 phi_j + d step'^2/4 (|A|_F^2 + n m step^2/4)`` with
    ``phi_j = int_0^inf exp(-t) prod_(i<m) (1 + 2 t sigma_j^2/(m tau_ij))^(-1/2) dt`` and
    ``tau_ij = ((m-i) rho_(i+1) + sum_(l>i+1) rho_l)/m + n step^2/4`` over i = 0 ... m - 1, where
    rho_1, rho_2, ... are the squared singular values other than sigma_j^2, descending.

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
        In squared units of A; never more than `lplr_sharp_bound`, which is returned where it is
        less. With steps 0, a bound for the range finder as well.

    Raises
    ------
    InputError
        If an argument is out of range or an assumption fails; the message names it.

    Notes
    -----
    *Assumptions*: those of `lplr.theory.bounds.lplr_bound`. Neither paper has this statement.
    Steps 1 and 2 there are unchanged; this replaces steps 3 and 4.

    *Column by column.* With ``A = sum_j sigma_j u_j v_j^T``, ``h_l = S^T v_l`` and ``w_j = W v_j``,
    ``L = sum_l sigma_l u_l h_l^T + E`` and, the v_j being orthonormal, ``|L W - A|^2`` is the sum
    over j of ``|L w_j - sigma_j u_j|^2``. The h_l are independent, N(0, I/m). Let w = w_j depend
    on them only. Then, the u_l being orthonormal and E of mean zero given S, the mean over E is
    ``sigma_j^2 (1 - h_j . w)^2 + sum_(l != j) sigma_l^2 (h_l . w)^2``, plus at most
    ``n step^2/4 |w|^2``.

    *A nested basis.* Number the other h_l by descending sigma_l, l = 1, 2, ..., and let
    q_0 ... q_(m-1) be what Gram and Schmidt make of the first m (zero vectors with any Gaussian
    h_l are added where there are fewer). So ``h_l . q_i = 0`` for i >= l. The two factors of the
    QR decomposition of a Gaussian matrix are independent, and ``h_l . q_i`` for i < l - 1 is
    N(0, 1/m), while ``(h_l . q_(l-1))^2`` has mean ``(m-l+1)/m``, all independent of each other
    and of the basis. h_j is independent of all of them: ``g_i = h_j . q_i`` are independent
    N(0, 1/m). Take ``w = sum_i c_i q_i``, c a function of the g_i. Given the basis and g,
    products of different ``h_l . q_i`` of one l have mean zero, so the mean of the sum over l is
    ``sum_i c_i^2 ((m-i) sigma_(i+1)^2 + sum_(l>i+1) sigma_l^2)/m``: together with E,
    ``sigma_j^2 (1 - sum_i c_i g_i)^2 + sum_i c_i^2 tau_ij``.

    *The best c.* ``c_i = (g_i/tau_ij) sigma_j^2/(1 + sigma_j^2 X)`` with
    ``X = sum_i g_i^2/tau_ij`` leaves ``sigma_j^2/(1 + sigma_j^2 X)``. As
    ``1/(1 + x) = int exp(-t) exp(-t x) dt`` and ``m g_i^2`` are independent chi-squared variables
    of one degree of freedom, ``E 1/(1 + sigma_j^2 X) = phi_j``, a product of their Laplace
    transforms under the integral. It is computed by the trapezoidal rule in log t.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import lplr_bound, lplr_nested_bound
    >>> sigma, shape = np.exp(-np.arange(100) / 5), (200, 100)
    >>> plain = lplr_bound(sigma, shape, 20, 0.0)
    >>> round(lplr_nested_bound(sigma, shape, 20, 0.0) / plain, 3)
    0.458
    """
    n, d = check_shape(shape)
    sigma = check_spectrum(singular_values, min(n, d))
    m = check_n_columns(m)
    step, step_right = check_steps(steps)
    size = squared_tails(sigma)[0] + n * m * step**2 / 4
    return float(nested_error(sigma, n, m, m, step) + d * step_right**2 / 4 * size)


def nested_error(sigma: np.ndarray, n: int, m: int, columns: int, step: float) -> float:
    """Bound on ``E min_W |L W - A|_F^2``, L the first ``columns`` columns of m.

    At most `lplr.theory.bounds.lplr_sharp.sketch_error`, with the same parameters.

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
    float
    """
    sharp, unit = sketch_error(sigma, n, m, columns, step), float(sigma[0])
    if unit == 0 or columns == 0:
        return sharp
    # As a sketch of its own, L times sqrt(m/columns), with the step that this makes.
    noise = n * (step / unit) ** 2 / 4 * m / columns
    square = np.square(sigma / unit)
    kept = np.count_nonzero(square)
    return min(
        sharp, unit**2 * sum(square[j] * _phi(square, j, columns, noise) for j in range(kept))
    )


def _phi(square: np.ndarray, j: int, m: int, noise: float) -> float:
    """phi_j for squared singular values, descending, and ``noise = n step^2/4``."""
    rho = np.append(np.delete(square, j), np.zeros(m))
    i = np.arange(m)
    tau = ((m - i) * rho[:m] + squared_tails(np.sqrt(rho))[1 : m + 1]) / m + noise
    weight = np.zeros((_AT_ONCE, -(-m // _AT_ONCE)))
    with np.errstate(divide="ignore"):  # no noise in some direction
        weight.reshape(-1)[:m] = np.minimum(2 * square[j] / (m * tau), _LARGEST)
    # Before the first node the product is 1 to within 1e-9: the sum of exp(u) there is geometric.
    start = -np.log(max(weight.sum(), 1.0)) - 20
    log_t = np.arange(start, _END, _SPACING)
    t = np.exp(log_t)
    products = np.ones((len(t), weight.shape[1]))
    for row in weight:
        products *= 1 + t[:, None] * row
    values = t * np.exp(-t - 0.5 * np.log(products).sum(axis=1))
    return float(_SPACING * (values.sum() + t[0] / np.expm1(_SPACING)))
