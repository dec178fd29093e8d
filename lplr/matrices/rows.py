"""Rows of an array, a packed matrix or a linear operator, read a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import squared_sums
from lplr.validation.matrices import check_matrix

__all__ = ["RowReader", "rows_of", "same_shape", "squares"]

_BLOCK = 1 << 18  # entries read at a time: 2 MB of float64


@dataclass(frozen=True)
class RowReader:
    """A matrix that is read a block of rows at a time.

    Parameters
    ----------
    shape : (int, int)
    read : callable
        ``read(start, stop)`` gives an array of shape (stop - start, d), float64; a new one, or a
        view of the caller's: not to be written to.
    block : int
        Rows to read at a time; depends on the shape alone.
    """

    shape: tuple[int, int]
    read: Callable[[int, int], np.ndarray]
    block: int

    def blocks(self) -> Iterator[tuple[int, int]]:
        """First and last-but-one row of each block."""
        n = self.shape[0]
        return ((start, min(start + self.block, n)) for start in range(0, n, self.block))

    def all(self) -> np.ndarray:
        """The dense matrix, float64."""
        return self.read(0, self.shape[0])


def rows_of(A: Any, name: str) -> RowReader:
    """How to read the rows of a matrix.

    Parameters
    ----------
    A : array_like, packed matrix or LinearOperator of shape (n, d), real and finite
        A `QPlusLowRank` with a transform of its rows is decoded once, as a whole; rows of an
        operator are products of its adjoint with unit vectors.
    name : str
        What the messages call it.

    Returns
    -------
    RowReader

    Raises
    ------
    InputError
        If it is not a finite real matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> from lplr.matrices.rows import rows_of
    >>> rows_of(aslinearoperator(np.diag([1.0, 2.0, 3.0])), "A").read(1, 3)
    array([[0., 2., 0.],
           [0., 0., 3.]])
    """
    from scipy.sparse.linalg import LinearOperator

    if isinstance(A, PackedMatrix):
        decode = A._row_reader()
        return RowReader(
            A.shape, lambda i, j: decode(i, j).astype(np.float64), _rows_in(A.shape[1])
        )
    if isinstance(A, LinearOperator):
        return _rows_of_operator(A, name)
    double = getattr(A, "dtype", None) == np.float64
    array = check_matrix(A, name, dtype=np.float64 if double else np.float32)
    return RowReader(
        (array.shape[0], array.shape[1]),
        lambda i, j: array[i:j].astype(np.float64, copy=False),
        _rows_in(array.shape[1]),
    )


def _rows_in(width: int) -> int:
    """A multiple of 8, so that no group of a lattice code is cut."""
    return max(8, _BLOCK // width // 8 * 8)


def _rows_of_operator(A: Any, name: str) -> RowReader:
    n, d = A.shape
    if n == 0 or d == 0 or np.issubdtype(A.dtype, np.complexfloating):
        raise InputError(f"{name}: must be a real operator, found {A.dtype} of shape {A.shape}")

    def read(start: int, stop: int) -> np.ndarray:
        unit = np.zeros((n, stop - start))
        unit[np.arange(start, stop), np.arange(stop - start)] = 1
        rows = np.asarray(A.rmatmat(unit).T, np.float64)
        if not np.isfinite(rows).all():
            raise InputError(f"{name}: has an entry that is not finite in rows {start} to {stop}")
        return rows

    return RowReader((n, d), read, _rows_in(n + d))


def same_shape(A: Any, B: Any, names: tuple[str, str] = ("A", "B")) -> tuple[RowReader, RowReader]:
    """Rows of an original and of its approximation, in blocks of one size.

    Raises
    ------
    InputError
        If one is not a finite real matrix, or the shapes differ.
    """
    a, b = rows_of(A, names[0]), rows_of(B, names[1])
    if a.shape != b.shape:
        raise InputError(
            f"{names[1]}: must have the shape {a.shape} of {names[0]}, found {b.shape}"
        )
    block = min(a.block, b.block)
    return RowReader(a.shape, a.read, block), RowReader(b.shape, b.read, block)


def squares(
    a: RowReader, b: RowReader, H: np.ndarray | None = None, by_row: bool = False
) -> np.ndarray:
    """Squares of the difference and of the original, weighted by H.

    The result has shape (2, n) by row, or (2, number of blocks) by block; sum it in this order.
    """
    return squared_sums(a.read, b.read, a.shape[0], a.block, H, by_row)
