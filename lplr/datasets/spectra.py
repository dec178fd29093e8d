"""Random matrices with given singular values."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.qr import haar
from lplr.parallel import reproducible
from lplr.validation.arguments import check_choice, check_integer, check_real, check_rng

__all__ = ["synthetic"]

_SPECTRA = ("flat", "power", "exponential", "low-rank", "outlier")


def synthetic(
    n: int,
    d: int,
    spectrum: Any = "power",
    *,
    exponent: float = 1.0,
    rank: int = 10,
    rng: int | np.random.Generator | None = None,
) -> np.ndarray:
    """A matrix U diag(σ) Vᵀ with given singular values and Haar-distributed U and V.

    Parameters
    ----------
    n, d : int
        Rows and columns.
    spectrum : str or array_like of shape (min(n, d),)
        The singular values, or the name of a rule for σ_k, k = 1, 2, …: ``"flat"`` is 1;
        ``"power"`` is k^-exponent; ``"exponential"`` is exp(-(k - 1)/rank); ``"low-rank"`` is 1 up
        to `rank`, then 0; ``"outlier"`` is 10 up to `rank`, then 1.
    exponent : float
        The exponent of the power law, at least 0.
    rank : int
        At least 1; it may exceed min(n, d).
    rng : int, numpy.random.Generator or None
        The same seed gives the same matrix; with another LAPACK, it differs by rounding.

    Returns
    -------
    ndarray of shape (n, d), float64

    Raises
    ------
    InputError
        If an argument is outside its range.

    Notes
    -----
    Q of a QR factorization of a Gaussian matrix is Haar-distributed once R has a positive diagonal
    (Mezzadri, "How to generate random matrices from the classical compact groups", 2007).

    Examples
    --------
    The 1000×1000 matrix of the results tables, σ_k = 1/k, is
    ``synthetic(1000, 1000, "power", exponent=1.0, rng=0)``. A smaller one of the same kind:

    >>> import numpy as np
    >>> from lplr.datasets import synthetic
    >>> A = synthetic(60, 40, "power", exponent=1.0, rng=0)
    >>> np.linalg.svd(A, compute_uv=False)[:4].round(3)
    array([1.   , 0.5  , 0.333, 0.25 ])
    """
    n = check_integer(n, "n", 1)
    d = check_integer(d, "d", 1)
    sigma = _singular_values(min(n, d), spectrum, exponent, rank)
    generator = check_rng(rng)
    with reproducible():  # the same bits on any number of cores
        U = haar(n, len(sigma), generator)
        V = haar(d, len(sigma), generator)
        return (U * sigma) @ V.T


def _singular_values(count: int, spectrum: Any, exponent: float, rank: int) -> np.ndarray:
    if not isinstance(spectrum, str):
        sigma = np.asarray(spectrum)
        if sigma.shape != (count,) or sigma.dtype.kind not in "fiu":
            raise InputError(
                f"spectrum: must be a name or {count} real numbers, one for each of min(n, d); "
                f"found an array of shape {sigma.shape} and dtype {sigma.dtype}"
            )
        if not (np.isfinite(sigma) & (sigma >= 0)).all():
            raise InputError("spectrum: singular values must be finite and not negative")
        return sigma.astype(np.float64)
    check_choice(spectrum, "spectrum", _SPECTRA)
    exponent = check_real(exponent, "exponent", strict=False)
    rank = check_integer(rank, "rank", 1)
    k = np.arange(1, count + 1, dtype=np.float64)
    rules = {
        "flat": np.ones(count),
        "power": k**-exponent,
        "exponential": np.exp(-(k - 1) / rank),
        "low-rank": np.where(k <= rank, 1.0, 0.0),
        "outlier": np.where(k <= rank, 10.0, 1.0),
    }
    return rules[spectrum]
