"""What ``f[...]`` means: NumPy's indexing of the dense matrix, by decoding the rows it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.exceptions import BadIndexError

__all__ = ["select"]

_ALL = slice(None)


def select(
    take: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int], index: Any
) -> np.ndarray:
    """``A[index]`` of a matrix A; ``take`` gives its rows of ascending numbers, each once.

    BadIndexError says what NumPy would say, or that this would not be rows and columns.
    """
    rows, columns = _rows_and_columns(index)
    try:
        numbers = np.arange(shape[0])[rows]
        np.empty((1, shape[1]), np.bool_)[:, columns]  # refuses before anything is decoded
        needed, place = np.unique(numbers, return_inverse=True)
        if not isinstance(rows, slice):
            return take(needed)[place.reshape(numbers.shape), columns]
    except (IndexError, TypeError, ValueError) as error:
        raise BadIndexError(f"index: {error}") from None
    dense = take(needed)
    dense = dense if np.array_equal(needed, numbers) else dense[::-1]
    return dense if columns == _ALL else dense[:, columns]


def _rows_and_columns(index: Any) -> tuple[Any, Any]:
    given = index if isinstance(index, tuple) else (index,)
    if len(given) > 1 and given[-1] is Ellipsis:
        given = given[:-1]
    if len(given) > 2 or any(part is None for part in given):
        raise BadIndexError(f"index: must be of rows, or of rows and columns, found {index!r}")
    rows, columns = (*given, _ALL, _ALL)[:2]
    return _ALL if rows is Ellipsis else rows, _ALL if columns is Ellipsis else columns
