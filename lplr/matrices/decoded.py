"""A matrix that is decoded a block of rows at a time: its rows, its dense form, its products."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.exceptions import InputError
from lplr.matrices.errors import ReadRows
from lplr.matrices.indexing import select
from lplr.matrices.vector_product import VectorProduct
from lplr.memory import LOADING, available_memory
from lplr.parallel import reproducible, run_blocks

__all__ = ["DecodedMatrix"]

_BLOCK = 1 << 20  # entries decoded at a time: 4 MB of float32
_NEAR = 64  # rows between two that are asked for which cost less than another call


class DecodedMatrix(LinearOperator):
    """A linear operator that is never dense as a whole unless asked; abstract.

    A subclass says how blocks of rows are decoded, by `_row_reader`; where it knows a better way to
    multiply than block by block, it overrides `_matmat` and `_rmatmat`.

    Attributes
    ----------
    shape : (int, int)
    dtype : float32, of the decoded entries
    """

    dtype = np.dtype(np.float32)
    shape: tuple[int, int]

    def __len__(self) -> int:
        """The number of rows."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows of the dense matrix, or entries of them; only what holds these rows is decoded.

        Parameters
        ----------
        index : int, slice, array_like of int or of bool, or a pair of them
            As NumPy understands it: rows, or rows and columns.

        Returns
        -------
        ndarray, float32
            ``f[i]`` has the shape (d,), ``f[i:j]`` and ``f[[3, 8]]`` have (m, d).

        Raises
        ------
        BadIndexError
            If there are no such rows or columns; it is an IndexError.

        Examples
        --------
        >>> import lplr
        >>> f = lplr.quantize([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], bits=8)
        >>> f[-1].round(1), f[[2, 0], 1].round(1)
        (array([5., 6.], dtype=float32), array([6., 2.], dtype=float32))
        """
        with reproducible():
            return select(self._take, self.shape, index)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rows, one after the other; blocks of them are decoded together."""
        for start in range(0, self.shape[0], self._block_rows):
            yield from self.rows(start, min(start + self._block_rows, self.shape[0]))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of the dense matrix, ``f[start:stop]`` of rows that exist.

        Parameters
        ----------
        start, stop : int
            ``0 <= start <= stop <= n``.

        Returns
        -------
        ndarray of shape (stop - start, d), float32

        Raises
        ------
        InputError
            If there are no such rows.
        """
        whole = isinstance(start, Integral) and isinstance(stop, Integral)
        if not (whole and 0 <= start <= stop <= self.shape[0]):
            raise InputError(
                f"start, stop: must lie in 0 to {self.shape[0]}, found {start}, {stop}"
            )
        with reproducible():
            return self._take(np.arange(start, stop))

    def _take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of ascending numbers, each once, (len(rows), d), float32."""
        out = np.empty((len(rows), self.shape[1]), np.float32)
        read = self._row_reader()
        far = np.diff(rows) > _NEAR
        cut = far | (np.diff(rows // self._block_rows) > 0)
        edges = [0, *(np.flatnonzero(cut) + 1).tolist(), len(rows)]

        def groups(i: int, j: int) -> None:
            for low, high in pairwise(edges[i : j + 1]):
                first = rows[low]
                found = read(int(first), int(rows[high - 1]) + 1)
                out[low:high] = found[rows[low:high] - first]

        if len(rows):
            run_blocks(groups, len(edges) - 1, 1)
        return out

    def _row_reader(self) -> ReadRows:
        """A function for many calls of `rows`: what all blocks need is decoded once."""
        raise NotImplementedError

    def _row_reader_by_blocks(self) -> ReadRows:
        """The same where memory is short: what one call asks for is decoded in it."""
        return self._row_reader()

    def to_dense(self, rows: Any = None) -> np.ndarray:
        """The dense matrix, or some of its rows.

        Parameters
        ----------
        rows : slice or array_like of int or of bool, optional
            As NumPy understands it; all by default.

        Returns
        -------
        ndarray of shape ``shape``, or (m, d) for m rows, float32

        Raises
        ------
        BadIndexError
            If there are no such rows.
        InputError
            If there is no memory for all rows, which few bytes may stand for.
        """
        if rows is not None:
            return self[rows]
        nbytes = 4 * self.shape[0] * self.shape[1]
        if nbytes > LOADING and nbytes > (room := available_memory()):
            raise InputError(
                f"rows: all of them, dense, take {nbytes} bytes, and {room} are available; decode "
                "some at a time, f[i:j]"
            )
        return self._all_rows()

    def _all_rows(self) -> np.ndarray:
        out = np.empty(self.shape, np.float32)
        read = self._row_reader()

        def block(start: int, stop: int) -> None:
            out[start:stop] = read(start, stop)

        run_blocks(block, self.shape[0], self._block_rows)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """What ``numpy.asarray`` makes of it: the dense matrix."""
        if copy is False:
            raise ValueError("a packed matrix has no dense array that could be shared")
        return self.to_dense().astype(dtype or self.dtype, copy=False)

    def times(self, x: np.ndarray) -> np.ndarray:
        """The product with one float32 vector: ``f @ x`` without its checks.

        A network multiplies hundreds of matrices for each token, each in a fraction of a
        millisecond.

        Parameters
        ----------
        x : ndarray of shape (d,), float32

        Returns
        -------
        ndarray of shape (n,), float32

        Examples
        --------
        >>> import numpy as np
        >>> import lplr
        >>> f = lplr.quantize(np.eye(8), bits=8)
        >>> f.times(np.ones(8, np.float32)).round(1)
        array([1., 1., 1., 1., 1., 1., 1., 1.], dtype=float32)
        """
        return self._matvec(x)

    def _lay_out(self, product: VectorProduct, source: int, target: int) -> bool:
        """Lay the matrix out in a workspace that has x from ``source`` on and y from ``target`` on.

        False where it is no matrix for such products.
        """
        return False

    @cached_property
    def _vector_product(self) -> VectorProduct | None:
        return VectorProduct.of(self)

    @property
    def _block_rows(self) -> int:
        """Rows of a block; a multiple of 8, so that a lattice group is never cut."""
        return max(8, _BLOCK // self.shape[1] // 8 * 8)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        """The product with a matrix or, in all packed matrices, a vector."""
        return self._multiply(self._row_reader(), X)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        return self._multiply_transposed(self._row_reader(), Y)

    def _multiply(self, rows: ReadRows, X: np.ndarray) -> np.ndarray:
        """The product of the matrix that ``rows`` decodes with X, a block of rows at a time."""
        out = np.empty((self.shape[0], *X.shape[1:]), np.result_type(self.dtype, X))

        def block(start: int, stop: int) -> None:
            np.matmul(rows(start, stop), X, out=out[start:stop])

        run_blocks(block, self.shape[0], self._block_rows)
        return out

    def _multiply_transposed(self, rows: ReadRows, Y: np.ndarray) -> np.ndarray:
        parts: list[Any] = [None] * -(-self.shape[0] // self._block_rows)

        def block(start: int, stop: int) -> None:
            parts[start // self._block_rows] = rows(start, stop).T @ Y[start:stop]

        run_blocks(block, self.shape[0], self._block_rows)
        return sum(parts[1:], start=parts[0])  # in this order at any number of threads

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        x = x.reshape(-1)
        product = self._vector_product if x.dtype == np.float32 else None
        return self._matmat(x) if product is None else product(x)

    def _rmatvec(self, y: np.ndarray) -> np.ndarray:
        return self._rmatmat(y.reshape(-1))
