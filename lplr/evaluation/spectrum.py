"""Singular values of a matrix and what they say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from lplr.parallel import matmul, reproducible

__all__ = ["FORMULAS", "Spectrum", "singular_values"]

# What stands next to a printed number, by the name of the field.
FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "stable_rank": "|A|_F^2 / |A|_2^2",
        "rank_50": "least r whose r largest singular values have 50 % of sum sigma_k^2",
        "rank_90": "least r whose r largest singular values have 90 % of sum sigma_k^2",
        "rank_99": "least r whose r largest singular values have 99 % of sum sigma_k^2",
    }
)


@dataclass(frozen=True)
class Spectrum:
    """How many directions a matrix has; `FORMULAS` defines each number.

    Parameters
    ----------
    stable_rank : float
        From 1, where one direction has all the energy, to min(n, d), where all have the same.
    rank_50, rank_90, rank_99 : int

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.spectrum import Spectrum
    >>> Spectrum.of(np.array([2.0, 1.0, 1.0, 1.0, 1.0]))
    Spectrum(stable_rank=2.0, rank_50=1, rank_90=5, rank_99=5)
    """

    stable_rank: float
    rank_50: int
    rank_90: int
    rank_99: int

    @classmethod
    def of(cls, sigma: np.ndarray) -> Spectrum:
        """The numbers of a spectrum; zeros for that of a zero matrix.

        Parameters
        ----------
        sigma : ndarray of shape (k,), descending, not negative
        """
        if not sigma[0] > 0:
            return cls(0.0, 0, 0, 0)
        energy = np.cumsum(np.square(sigma / sigma[0], dtype=np.float64))
        ranks = [int(np.searchsorted(energy, share * energy[-1])) + 1 for share in (0.5, 0.9, 0.99)]
        return cls(float(energy[-1]), *ranks)


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
