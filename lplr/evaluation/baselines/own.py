"""This project's methods, in the form of the baselines."""

from __future__ import annotations

from typing import Any

from lplr.matrices.low_rank import LowRank

__all__ = ["STORES", "compress", "factorize"]

STORES = "codes of two factors; their scales"


def factorize(A: Any, bits_per_entry: float, rng: int | None = None, *, method: str) -> LowRank:
    """`lplr.factorize` with the rank and the bits that lose least at a budget.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional
    method : {"feedback", "lplr", "lplr-svd", "direct-svd"}

    Returns
    -------
    LowRank

    Raises
    ------
    BudgetError
        If not even rank 1 fits.
    """
    import lplr

    return lplr.factorize(A, bits_per_entry=bits_per_entry, method=method, rng=rng)


def compress(A: Any, bits_per_entry: float, rng: int | None = None, *, hessian: Any = None) -> Any:
    """`lplr.compress`: what loses least at a budget, under the Hessian where there is one.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional
    hessian : array_like, optional

    Returns
    -------
    LowRank, QPlusLowRank or Quantized

    Raises
    ------
    BudgetError
        If nothing fits.
    """
    import lplr

    return lplr.compress(A, bits_per_entry=bits_per_entry, hessian=hessian, rng=rng)
