"""This project's methods, in the form of the baselines."""

from __future__ import annotations

from typing import Any

from lplr.factors import LowRank

__all__ = ["STORES", "factorize"]

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


def optional_methods() -> list:
    return []
