"""What ``f[...]`` means: NumPy's indexing of the dense matrix, by decoding the rows it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.exceptions import BadIndexError

__all__ = ["select"]


def select(
    take: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int], index: Any
) -> np.ndarray:
    """``A[index]`` of a matrix A; ``take`` gives its rows of ascending numbers, each once.

    BadIndexError says what NumPy would say, or that this would not be rows and columns.
    """
    rows, *columns = _rows_and_columns(index)
    try:
        # NumPy refuses what it would refuse, before anything is decoded.
        np.empty((shape[0], 0), np.bool_)[rows]
        np.empty((0, shape[1]), np.bool_)[:, *columns]
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise BadIndexError(f"index: {error}") from None
    if isinstance(rows, slice):
        numbers = np.arange(*rows.indices(shape[0]))
        backwards = rows.step is not None and rows.step < 0
        dense = take(numbers[::-1])[::-1] if backwards else take(numbers)
        return dense[:, *columns] if columns else dense
    numbers = _numbers(np.asarray(rows), shape[0])
    needed, place = np.unique(numbers, return_inverse=True)
    return take(needed)[place.reshape(numbers.shape), *columns]


def _rows_and_columns(index: Any) -> list[Any]:
    """The index of rows, and that of columns where there is one."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if len(parts) > 1 and parts[-1] is Ellipsis:
        parts.pop()
    odd = any(part is None or isinstance(part, (bool, np.bool_)) for part in parts)
    if odd or not 0 < len(parts) <= 2:
        raise BadIndexError(f"index: must be of rows, or of rows and columns, found {index!r}")
    return [slice(None) if part is Ellipsis else part for part in parts]


def _numbers(rows: np.ndarray, n: int) -> np.ndarray:
    """Row numbers from 0 on, of numbers that may count from the end, or of a mask."""
    if rows.dtype == np.bool_:
        return np.flatnonzero(rows)
    numbers = rows.astype(np.intp)
    return np.where(numbers < 0, numbers + n, numbers)
