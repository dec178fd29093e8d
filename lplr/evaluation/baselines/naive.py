"""Naive quantization: each entry rounded by itself."""

from __future__ import annotations

from typing import Any

from lplr.exceptions import BudgetError
from lplr.matrices.quantized import Quantized
from lplr.validation import check_integer, check_matrix, check_real

__all__ = ["naive", "naive_at"]


def naive(A: Any, bits: int) -> Quantized:
    """Uniform quantization of the matrix as it is, at the better of two ranges.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits : int
        1 to 8.

    Returns
    -------
    Quantized
        With the range of the extrema, as in the LPLR paper, or with the one of least squared
        error, whichever leaves less.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.baselines import naive
    >>> A = np.random.default_rng(0).standard_normal((50, 40))
    >>> round(naive(A, 2).relative_error(A), 1)
    0.3
    """
    import lplr

    A = check_matrix(A)
    bits = check_integer(bits, "bits", 1, 8)
    tried = [lplr.quantize(A, bits=bits, scaling=scaling) for scaling in ("minmax", "mse")]
    return min(tried, key=lambda q: q.relative_error(A))


def naive_at(A: Any, bits_per_entry: float) -> Quantized:
    """`naive` at a budget of whole bits; its scale and offset, 8 bytes, come on top.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float

    Returns
    -------
    Quantized

    Raises
    ------
    BudgetError
        If the budget is no whole number of bits from 1 to 8.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.baselines.naive import naive_at
    >>> naive_at(np.eye(64), 2.0).bits
    2
    """
    bits = check_real(bits_per_entry, "bits_per_entry")
    if bits not in range(1, 9):
        raise BudgetError(f"bits_per_entry: rounding entries takes 1 to 8 whole bits, not {bits:g}")
    return naive(A, int(bits))
