"""Rows of data that come in pieces, each of which has to be decoded as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["Forward"]

Pieces = Iterator[np.ndarray]


class Forward:
    """Slices of rows, cut from consecutive pieces; read in order, no piece is decoded twice.

    One piece is kept. A slice that begins neither in it nor where it ends starts anew. Not for
    several threads at once.

    Parameters
    ----------
    shape : (int, int)
    dtype : dtype
    height : int
        Rows of the highest piece.
    begin : callable
        ``begin(row)`` gives the first row of a piece at or before ``row``, and the pieces from
        there to the end: arrays of shape (m, d), one after the other.
    again : tuple, optional
        A function and its arguments that make the same again where this is unpickled.

    Raises
    ------
    ValueError
        By a slice, if the pieces have not the rows that were declared.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.inputs.forward import Forward
    >>> A = np.arange(10.0).reshape(5, 2)
    >>> rows = Forward(A.shape, A.dtype, 3, lambda row: (0, iter([A[:2], A[2:]])))
    >>> rows[1:3]
    array([[2., 3.],
           [4., 5.]])
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: np.dtype,
        height: int,
        begin: Callable[[int], tuple[int, Pieces]],
        again: tuple[Any, ...] | None = None,
    ) -> None:
        self.shape, self.dtype, self.height, self.again = shape, dtype, height, again
        self._begin = begin
        self._restart(0)

    def __reduce__(self) -> Any:
        return super().__reduce__() if self.again is None else (self.again[0], self.again[1:])

    def _restart(self, row: int) -> None:
        self._pieces: Pieces | None = None
        self._first = row
        self._piece = np.empty((0, self.shape[1]), self.dtype)

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        stop = max(start, stop)
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        at = start
        try:
            while at < stop:
                self._seek(at)
                found = self._piece[at - self._first : stop - self._first]
                out[at - start : at - start + len(found)] = found
                at += len(found)
        except BaseException:
            self._restart(0)
            raise
        return out

    def _seek(self, row: int) -> None:
        """Make the piece that has this row the present one."""
        if self._pieces is None or not self._first <= row <= self._first + len(self._piece):
            self._restart(row)
            self._first, self._pieces = self._begin(row)
        while row >= self._first + len(self._piece):
            self._first += len(self._piece)
            piece = next(self._pieces, None)
            if piece is None or piece.ndim != 2 or piece.shape[1] != self.shape[1]:
                found = "nothing" if piece is None else f"a piece of shape {piece.shape}"
                raise ValueError(f"{found} after row {self._first} of {self.shape}")
            self._piece = piece

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows."""
        return self[:].astype(dtype or self.dtype, copy=False)
