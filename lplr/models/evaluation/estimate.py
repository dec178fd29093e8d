"""A measured number and how far it is likely to be from the true one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Estimate", "mean_of", "ratio_of"]


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error, which is NaN where there was only one sample.

    Parameters
    ----------
    value : float
    standard_error : float

    Examples
    --------
    >>> from lplr.models.evaluation.estimate import Estimate
    >>> Estimate(3.0, 0.1).exp()
    Estimate(value=20.085536923187668, standard_error=2.008553692318767)
    """

    value: float
    standard_error: float

    def exp(self) -> Estimate:
        """Its exponential; the error by the delta method, ``exp(x) se(x)``."""
        value = math.exp(self.value) if self.value < 700 else math.inf
        return Estimate(value, value * self.standard_error)


def ratio_of(totals: ArrayLike, counts: ArrayLike) -> Estimate:
    """``sum(totals) / sum(counts)`` over independent sequences.

    Parameters
    ----------
    totals : array_like of shape (n,)
        Of each sequence, the sum over its tokens.
    counts : array_like of shape (n,)
        The tokens of each.

    Returns
    -------
    Estimate
        The tokens of a sequence depend on each other, sequences do not: with the ratio r, the
        standard error is that of the mean of ``totals - r counts``, over the mean count. Where all
        counts are equal it is ``sd / sqrt(n)`` of the means of the sequences, with n - 1 in sd.

    Examples
    --------
    >>> from lplr.models.evaluation.estimate import ratio_of
    >>> ratio_of([2.0, 4.0], [1, 1])
    Estimate(value=3.0, standard_error=1.0)
    """
    totals, counts = np.asarray(totals, np.float64), np.asarray(counts, np.float64)
    n, value = len(totals), float(totals.sum() / counts.sum())
    if n < 2:
        return Estimate(value, math.nan)
    spread = float(np.square(totals - value * counts).sum()) * n / (n - 1)
    return Estimate(value, math.sqrt(spread) / float(counts.sum()))


def mean_of(values: ArrayLike) -> Estimate:
    """The mean of independent samples.

    Parameters
    ----------
    values : array_like of shape (n,)

    Returns
    -------
    Estimate
        The standard error is ``sd / sqrt(n)``, with n - 1 in sd.

    Examples
    --------
    >>> from lplr.models.evaluation.estimate import mean_of
    >>> mean_of([True, False, True, True]).value
    0.75
    """
    values = np.asarray(values, np.float64)
    return ratio_of(values, np.ones(len(values)))
