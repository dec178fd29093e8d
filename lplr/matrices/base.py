"""What every packed matrix is: a SciPy linear operator of known size that can be stored."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.exceptions import InputError
from lplr.linalg.hessian import check_hessian
from lplr.linalg.operators import InputOperator, as_matrix
from lplr.matrices.errors import (
    ReadRows,
    one_at_a_time,
    ratio_of_norms,
    squared_sums,
    squared_sums_of_source,
    two_sided_square,
)
from lplr.matrices.indexing import select
from lplr.matrices.vector_product import VectorProduct
from lplr.parallel import reproducible, run_blocks
from lplr.sources import Source, opened
from lplr.validation import exact_dtype

__all__ = ["PackedMatrix"]

_BLOCK = 1 << 20  # entries decoded at a time: 4 MB of float32
_NEAR = 64  # rows between two that are asked for which cost less than another call


class PackedMatrix(LinearOperator):
    """A matrix that is stored in few bits: its shape, exact size, products and error.

    The classes `Quantized`, `Stacked`, `LowRank` and `QPlusLowRank` are packed matrices; they are
    frozen dataclasses, and a SciPy linear operator each. This class is abstract.

    Parameters
    ----------
    *args, **kwargs
        The fields of a subclass.

    Attributes
    ----------
    shape : (int, int)
    dtype : float32, of the decoded entries
    meta : mapping
        JSON-able record of how the matrix was made; ``meta["call"]`` repeats the call.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> packed = lplr.quantize(np.eye(8), bits=2)
    >>> isinstance(packed, lplr.PackedMatrix), packed.nbytes, packed.bits_per_entry
    (True, 24, 3.0)
    """

    encoding: ClassVar[tuple[str, int]]
    # Members of every file, though the class has a default for them: what is left out is damage.
    _written: ClassVar[tuple[str, ...]] = ()
    dtype = np.dtype(np.float32)
    shape: tuple[int, int]
    meta: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of everything a decoder needs beyond code and format constants."""
        raise NotImplementedError

    @property
    def bits_per_entry(self) -> float:
        """Stored bits over entries: ``8 * nbytes / (rows * columns)``."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    @property
    def rank(self) -> int:
        """Columns of L; 0 where there are no low-rank factors."""
        return 0

    def parts(self) -> dict[str, PackedMatrix]:
        """The quantized matrices that it is made of, by name: ``matrix``, or ``Q``, ``L``, ``R``.

        Returns
        -------
        dict of str to Quantized or Stacked
        """
        raise NotImplementedError

    @property
    def code(self) -> str:
        """The quantizers and bits of all parts, in words."""
        return ", ".join(f"{name} {part.code}" for name, part in self.parts().items())

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
        if not 0 <= start <= stop <= self.shape[0]:
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
        """
        if rows is not None:
            return self[rows]
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

    def scaled(self, factor: float) -> Self:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float

        Returns
        -------
        PackedMatrix of the same class
        """
        raise NotImplementedError

    def relative_error(self, A: Any, hessian: Any = None, output_hessian: Any = None) -> float:
        """Error against the original, relative to its norm.

        Parameters
        ----------
        A : array_like, sparse matrix, linear operator or source of shape ``shape``
            What `lplr.sources.open_source` opens is read once, a block of rows at a time; with
            ``output_hessian`` as a whole.
        hessian : array_like of shape (d, d), (d,) or (m, d), optional
            Second moment H of the inputs, its diagonal, or inputs, one per row, as in
            `lplr.compress`; it is not damped here, see `lplr.regularize`.
        output_hessian : array_like of shape (n, n), (n,) or (m, n), optional
            Second moment G of the gradients by the outputs, its diagonal, or gradients, one per
            row; not damped either.

        Returns
        -------
        float
            ``|A - self|_F / |A|_F``, or with H ``sqrt(tr(E H E^T) / tr(A H A^T))``, E the
            difference, or with both ``sqrt(tr(G E H E^T) / tr(G A H A^T))``; 0 for a zero matrix
            that is exact, infinite if it is not.

        Raises
        ------
        InputError
            If an argument does not fit.
        HessianError
            If ``hessian`` or ``output_hessian`` is not a second moment.

        Notes
        -----
        Of a sparse matrix and low-rank factors the error is a sum of inner products in float64,
        which loses digits below 1e-5: smaller errors are summed over blocks of rows, as those under
        a ``hessian`` are. A linear operator multiplies as many vectors as its shorter side is long,
        and as it has rows where they are summed.
        """
        A = opened(A)
        if output_hessian is not None or not isinstance(A, Source):
            A = as_matrix(A, dtype=exact_dtype(A))
        if A.shape != self.shape:
            raise InputError(f"A: must have shape {self.shape}, found {A.shape}")
        with reproducible():
            H = None if hessian is None else check_hessian(hessian, self.shape[1])
            if output_hessian is not None:
                G = check_hessian(output_hessian, self.shape[0], "output_hessian")
                if isinstance(A, InputOperator):
                    raise InputError(
                        "A, output_hessian: both weights need an array; pass A.toarray()"
                    )
                A = A.astype(np.float64, copy=False)
                error, norm = (two_sided_square(X, H, G) for X in (A - self.to_dense(), A))
                return ratio_of_norms(error, norm)
            if H is None and isinstance(A, InputOperator):
                return self._relative_error(A)
            return self._error_by_rows(A, H)

    def _relative_error(self, A: InputOperator) -> float:
        """What `relative_error` returns, of a matrix that is no array."""
        return self._error_by_rows(A)

    def _error_by_rows(
        self, A: np.ndarray | InputOperator | Source, H: np.ndarray | None = None
    ) -> float:
        rows, block = self._row_reader(), self._block_rows
        if isinstance(A, Source):
            sums = squared_sums_of_source(A, rows, block, H)
        else:
            read = one_at_a_time(A.rows) if isinstance(A, InputOperator) else lambda i, j: A[i:j]
            sums = squared_sums(read, rows, self.shape[0], block, H)
        error, norm = sums.sum(axis=1)
        return ratio_of_norms(error, norm)

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

    def _summary(self) -> list[tuple[str, str]]:
        """What a reader wants to know, by name."""
        stored = f"{self.nbytes:,} bytes, {self.bits_per_entry:.4g} bits per entry"
        rank = [("rank", f"rank {self.rank}")] if self.rank else []
        shape = f"{self.shape[0]} x {self.shape[1]}"
        return [("shape", shape), ("stored", stored), *rank, ("code", self.code)]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(said for _, said in self._summary())}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(said)}</td></tr>"
            for name, said in self._summary()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that a copy is checked and frozen like the original.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _rebuild, (type(self), {**values, "meta": dict(self.meta)})

    def _set(self, **values: Any) -> None:
        """Set attributes while the frozen dataclass is being made; ``meta`` becomes read-only."""
        if "shape" in values:
            # A frozen object cannot run the constructor of LinearOperator, whose attributes differ
            # from one release of SciPy to the next: they come from an operator of the same shape.
            self.__dict__.update(vars(_Blank(self.dtype, values["shape"])))
        if "meta" in values:
            values["meta"] = MappingProxyType(dict(values["meta"]))
        self.__dict__.update(values)

    @property
    def _version(self) -> int:
        """Of the encoding that a file needs to hold this object: the oldest that does."""
        return self.encoding[1]

    def _state(self) -> dict[str, Any]:
        """What a file holds: numbers, strings, arrays and packed matrices by name."""
        raise NotImplementedError

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from what a file held; ValueError if anything is missing or does not fit."""
        missing = [name for name in cls._written if name not in state]
        if missing:
            raise ValueError(f"not a {cls.__name__}: it has no {missing[0]}")
        try:
            return cls(**state)
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"not a {cls.__name__}: {error}") from error


class _Blank(LinearOperator):
    """An operator that is nothing but its dtype and shape."""

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def _rebuild(cls: type[PackedMatrix], values: dict[str, Any]) -> PackedMatrix:
    return cls(**values)
