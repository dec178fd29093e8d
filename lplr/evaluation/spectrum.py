"""Singular values of a matrix and what they say of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from lplr.parallel import matmul, reproducible

__all__ = ["FORMULAS", "describe_spectrum", "singular_values"]

# What stands next to a printed number, by its name.
FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "stable_rank": "|A|_F^2 / |A|_2^2",
        **{
            f"rank_{share}": f"least r whose r largest sigma_k have {share} % of sum sigma_k^2"
            for share in (50, 90, 99)
        },
    }
)


def describe_spectrum(sigma: np.ndarray) -> dict[str, float]:
    """How many directions a matrix has; `FORMULAS` defines each number.

    Parameters
    ----------
    sigma : ndarray of shape (k,), descending, not negative

    Returns
    -------
    dict of str to float
        Zeros for the spectrum of a zero matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.spectrum import describe_spectrum
    >>> describe_spectrum(np.array([2.0, 1.0, 1.0, 1.0, 1.0]))
    {'stable_rank': 2.0, 'rank_50': 1, 'rank_90': 5, 'rank_99': 5}
    """
    if not sigma[0] > 0:
        return dict.fromkeys(FORMULAS, 0)
    energy = np.cumsum(np.square(sigma / sigma[0], dtype=np.float64))
    ranks = {
        f"rank_{share}": int(np.searchsorted(energy, share / 100 * energy[-1])) + 1
        for share in (50, 90, 99)
    }
    return {"stable_rank": float(energy[-1]), **ranks}


def singular_values(A: np.ndarray) -> np.ndarray:
    """Singular values from the smaller Gram matrix, in float64.

    Parameters
    ----------
    A : ndarray of shape (n, d), finite

    Returns
    -------
    ndarray of shape (min(n, d),), float64, descending
        Those below 1e-8 of the largest are rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.spectrum import singular_values
    >>> singular_values(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
    array([2., 1.])
    """
    A = A if A.shape[0] >= A.shape[1] else A.T
    d = A.shape[1]
    gram = np.zeros((d, d))
    rows = max(d, 1024)  # so that no copy in float64 is larger than the Gram matrix
    for start in range(0, len(A), rows):
        part = np.ascontiguousarray(A[start : start + rows], np.float64)
        gram += matmul(part.T, part)
    with reproducible():  # the same bits on any number of cores
        return np.sqrt(np.linalg.eigvalsh(gram).clip(0))[::-1]
