"""The sharpest bound for LPLR: its proof uses every direction of the sketch."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.progress import parts
from lplr.theory.bounds.lplr_sharp import sketch_error
from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_lplr, squared_tails

__all__ = ["lplr_nested_bound", "nested_error"]

# Spacing and end of the trapezoidal rule in log t. The integrand is analytic in a strip of
# half-width pi/2, which makes its error exp(-pi^2/0.25), 7e-18; from exp(3.7) on, exp(-t) is 3e-18.
_SPACING, _END = 0.25, 3.7
# Weights are cut to this, which only enlarges the integral, so that products of 8 are finite.
_LARGEST, _AT_ONCE = 1e32, 8


@broadcast
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
    singular_values, shape, m, steps
        As in `lplr_bound`.

    Returns
    -------
    float
        Never more than `lplr_sharp_bound`, which is returned where it is less. With steps 0, a
        bound for the range finder.

    Notes
    -----
    *Assumptions*: those of `lplr_bound`. Neither paper has this statement.
    Steps 1 and 2 of `lplr_bound` are unchanged; this replaces its steps 3 and 4.

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
    given = check_lplr(singular_values, shape, m, steps)
    sketched = nested_error(given.sigma, given.n, given.m, given.m, given.left)
    return float(sketched + given.right_error)


def nested_error(sigma: np.ndarray, n: int, m: int, columns: int, variance: float) -> float:
    """Bound on ``E min_W |L W - A|_F^2`` where L is the first ``columns`` of the m columns.

    It is at most `lplr.theory.bounds.lplr_sharp.sketch_error`, whose parameters it has.

    Parameters
    ----------
    sigma, n, m, columns, variance
        As in `lplr.theory.bounds.lplr_sharp.sketch_error`.

    Returns
    -------
    float
    """
    sharp, unit = sketch_error(sigma, n, m, columns, variance), float(sigma[0])
    if unit == 0 or columns == 0:
        return sharp
    # As a sketch of its own, L times sqrt(m/columns), with the step that this makes.
    noise = n * (variance / unit**2) * m / columns
    square = np.square(sigma / unit)
    rank = np.count_nonzero(square)
    nested = sum(square[j] * _phi(square, j, columns, noise) for j in parts(range(rank)))
    return min(sharp, unit**2 * nested)


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
