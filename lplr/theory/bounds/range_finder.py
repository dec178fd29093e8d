"""The randomized range finder: how much of A the span of a sketch misses (Halko et al.)."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_k, check_n_columns, check_spectrum, squared_tails
from lplr.validation.arguments import check_integer

__all__ = ["range_finder_bound", "range_finder_spectral_bound"]


@broadcast
def range_finder_bound(
    singular_values: Any, m: int, *, k: int | None = None, n_power_iter: int = 0
) -> float:
    """Bound on ``E |A - Q Q^T A|_F^2``, Q an orthonormal basis of ``(A A^T)^q A S``.

    ``sum_(j>k) sigma_j^2 + 1/(m-k-1) sum_(i<=k) sigma_i^(-4q) sum_(j>k) sigma_j^(4q+2)``, which
    is ``(1 + k/(m-k-1)) sum_(j>k) sigma_j^2`` without power iterations.

    Parameters
    ----------
    singular_values : array_like of shape (r,) or (n, d)
        Singular values of A, descending; or A itself.
    m : int
        Columns of the sketch.
    k : int, optional
        From 0 to m - 2 and at most the rank; by default the k that makes the bound least.
    n_power_iter : int
        Number q of power iterations; orthonormalising between them does not change the span.

    Returns
    -------
    float

    Notes
    -----
    *Assumptions*: S with independent entries N(0, v), any v > 0; k <= rank of A; m >= k + 2.
    Source: q = 0 is Halko, Martinsson and Tropp (2011), Theorem 10.5, whose proof bounds the mean
    square; for q > 0 they have the spectral norm only (`range_finder_spectral_bound`), and this
    is derived here in the same way.

    Let ``A = U Sigma V^T`` be split after k into parts 1 and 2, ``G_i = V_i^T S``. Then
    ``Y = (A A^T)^q A S = U_1 Sigma_1^(2q+1) G_1 + U_2 Sigma_2^(2q+1) G_2``, and G_1, of shape
    (k, m), almost surely has full row rank. Whatever lies in the span of Y is at least as far
    from A as the projection, so
    ``|A - Q Q^T A|^2 <= |A - Y G_1^+ Sigma_1^(-2q) V_1^T|^2
    = |Sigma_2|^2 + |Sigma_2^(2q+1) G_2 G_1^+ Sigma_1^(-2q)|^2``:
    part 1 cancels, and what remains is orthogonal, V_1 to V_2. G_2 is independent of G_1, so the
    mean of the second is ``v |Sigma_2^(2q+1)|^2 E |G_1^+ Sigma_1^(-2q)|^2``, and
    ``E (G_1 G_1^T)^-1 = I / (v (m-k-1))``, an inverse Wishart matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import range_finder_bound
    >>> sigma = 1 / np.arange(1.0, 101)
    >>> round(range_finder_bound(sigma, 20, k=10), 3)
    0.18
    >>> round(range_finder_bound(sigma, 20, k=10, n_power_iter=1), 3)
    0.09
    """
    sigma = check_spectrum(singular_values)
    m = check_n_columns(m)
    q = check_integer(n_power_iter, "n_power_iter", 0)
    if k is not None:
        return _squared_error(sigma, m, check_k(k, m, sigma), q)
    most = min(m - 2, int(np.count_nonzero(sigma)))
    return min(_squared_error(sigma, m, k, q) for k in range(most + 1))


def _squared_error(sigma: np.ndarray, m: int, k: int, q: int) -> float:
    tail = float(squared_tails(sigma)[k])
    if k == 0 or tail == 0:
        return tail
    # Powers of ratios to sigma_k, all at most 1, so that nothing overflows.
    lead = np.power(sigma[k - 1] / sigma[:k], 4 * q).sum()
    rest = np.square(sigma[k:]) @ np.power(sigma[k:] / sigma[k - 1], 4 * q)
    return float(tail + lead * rest / (m - k - 1))


@broadcast
def range_finder_spectral_bound(
    singular_values: Any, m: int, *, k: int | None = None, n_power_iter: int = 0
) -> float:
    """Bound on the spectral norm ``E |A - Q Q^T A|_2``, Q as in `range_finder_bound`.

    With ``p = m - k`` and ``s_j = sigma_j^(2q+1)``:
    ``((1 + sqrt(k/(p-1))) s_(k+1) + e sqrt(m)/p sqrt(sum_(j>k) s_j^2))^(1/(2q+1))``

    Parameters
    ----------
    singular_values, m
        As in `range_finder_bound`.
    k : int, optional
        From 2 to m - 2 and at most the rank; by default the k that makes the bound least, and
        then the bound is at most sigma_1.
    n_power_iter : int
        Number q of power iterations.

    Returns
    -------
    float
        In units of A: this bounds the norm, not its square.

    Notes
    -----
    *Assumptions*: S with independent entries N(0, v), any v > 0; 2 <= k <= rank of A;
    m >= k + 2. Source: Halko, Martinsson and Tropp (2011), Theorem 10.6 and Corollary 10.10.

    Without power iterations, ``|A - Q Q^T A| <= |Sigma_2| + |Sigma_2 G_2 G_1^+|`` as in
    `range_finder_bound`. By Chevet's inequality the second has, given G_1, mean at most
    ``|Sigma_2| |G_1^+|_F + |Sigma_2|_F |G_1^+|``; and ``E |G_1^+|_F <= sqrt(k/(p-1))``,
    ``E |G_1^+| <= e sqrt(m)/p`` (their Proposition 10.2; unit variance). With them, Q spans a
    sketch of ``B = (A A^T)^q A``, and ``|(I - P) A|^(2q+1) <= |(I - P) B|`` for any orthogonal
    projector (their Proposition 8.6, B here); Jensen's inequality takes the mean inside the root.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import range_finder_spectral_bound
    >>> sigma = 1 / np.arange(1.0, 101)
    >>> round(range_finder_spectral_bound(sigma, 20, k=10), 3)
    0.542
    >>> round(range_finder_spectral_bound(sigma, 20, k=10, n_power_iter=2), 3)
    0.118
    """
    sigma = check_spectrum(singular_values)
    m = check_n_columns(m)
    q = check_integer(n_power_iter, "n_power_iter", 0)
    if k is not None:
        return _norm(sigma, m, check_k(k, m, sigma, low=2), q)
    most = min(m - 2, int(np.count_nonzero(sigma)))
    return min([float(sigma[0]), *(_norm(sigma, m, k, q) for k in range(2, most + 1))])


def _norm(sigma: np.ndarray, m: int, k: int, q: int) -> float:
    if k == len(sigma) or sigma[k] == 0:
        return 0.0
    p = m - k
    ratio = np.power(sigma[k:] / sigma[k], 2 * q + 1)
    total = 1 + np.sqrt(k / (p - 1)) + np.e * np.sqrt(m) / p * np.linalg.norm(ratio)
    return float(sigma[k] * total ** (1 / (2 * q + 1)))
