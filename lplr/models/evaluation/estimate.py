"""A measured number and how far it is likely to be from the true one."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Estimate", "Measured", "mean_of", "ratio_of"]


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
    >>> print(Estimate(3.0, 0.1).exp())
    20.1 ± 2.0
    """

    value: float
    standard_error: float

    def exp(self) -> Estimate:
        """Its exponential; the error by the delta method, ``exp(x) se(x)``."""
        value = math.exp(self.value) if self.value < 700 else math.inf
        return Estimate(value, value * self.standard_error)

    def __str__(self) -> str:
        """The number to two digits of its error."""
        if not (math.isfinite(self.value) and 0 < self.standard_error < math.inf):
            return f"{self.value:.4g}"
        digits = max(0, 1 - math.floor(math.log10(self.standard_error)))
        return f"{self.value:.{digits}f} ± {self.standard_error:.{digits}f}"


class Measured:
    """Numbers with their errors, and how they were measured; printed, they stand in lines.

    A dataclass, whose numbers are the fields that hold an `Estimate`.

    Attributes
    ----------
    protocol : str
        How the numbers were measured, in a line.
    """

    protocol: Any

    @property
    def numbers(self) -> dict[str, Estimate]:
        """What was measured, by name."""
        found = ((field.name, getattr(self, field.name)) for field in fields(cast(Any, self)))
        return {name: value for name, value in found if isinstance(value, Estimate)}

    def __str__(self) -> str:
        found = {  # fields in words; other names as they are
            name.replace("_", " ") if hasattr(self, name) else name: value
            for name, value in self.numbers.items()
        }
        width = max(map(len, found), default=0)
        lines = [f"{name:{width}}  {value}" for name, value in found.items()]
        return "\n".join([*lines, self.protocol])


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
