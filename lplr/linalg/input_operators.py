"""What a caller may pass in place of an array: a sparse matrix, or a linear operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.operators import InputOperator
from lplr.parallel import run_blocks
from lplr.validation.matrices import (
    bring_into_range,
    check_magnitude,
    check_matrix,
    check_operator,
    check_sparse,
    is_operator,
    is_sparse,
    range_unit,
)

__all__ = [
    "FunctionOperator",
    "SparseOperator",
    "as_matrix",
    "bring_matrix_into_range",
    "kept_dtype",
]

_ROWS = 4096  # of a sparse matrix that one thread multiplies at a time
_COLUMNS = 64  # of the identity, or of factors, that are multiplied at a time
# Of the product of two norms: what ``<A x, y>`` and ``<x, A^T y>`` may differ by. Rounding in
# float32 leaves less than 1e-6, and a wrong transpose about one over the root of the size.
_ADJOINT = 1e-4


def as_matrix(A: Any, name: str = "A", *, dtype: type = np.float32) -> np.ndarray | InputOperator:
    """What `check_matrix` makes of an array; a sparse matrix or linear operator, checked likewise.

    >>> from scipy.sparse import eye_array
    >>> as_matrix(eye_array(3)).times(np.ones((3, 1)))[:, 0]
    array([1., 1., 1.])
    """
    if isinstance(A, InputOperator):
        return A
    if is_sparse(A):
        A = check_sparse(A, name)
        return SparseOperator(A, dtype) if A.format == "csr" else SparseOperator(A.T, dtype).T
    if is_operator(A):
        return FunctionOperator.probed(check_operator(A, name), name, dtype)
    return check_matrix(A, name, dtype=dtype)


def kept_dtype(A: Any) -> type:
    """float64 for what has that dtype, else float32."""
    return np.float64 if getattr(A, "dtype", None) == np.float64 else np.float32


def bring_matrix_into_range(
    A: np.ndarray | InputOperator,
) -> tuple[float, np.ndarray | InputOperator]:
    """`lplr.validation.matrices.bring_into_range` for both."""
    if isinstance(A, np.ndarray):
        return bring_into_range(A)
    unit = range_unit(A.peak())
    return unit, A if unit == 1.0 else A.scaled(1 / unit)


class SparseOperator(InputOperator):
    """A sparse matrix in CSR, each entry stored once, or its transpose.

    Its arrays are the caller's: entries of any real type are converted, and scaled, some at a time.
    """

    narrow, knows_norm = 1024, True

    def __init__(
        self, A: Any, dtype: Any = np.float32, factor: float = 1.0, transposed: bool = False
    ) -> None:
        self._A, self.dtype, self._factor = A, np.dtype(dtype), factor
        self._transposed, self.shape = transposed, A.shape[::-1] if transposed else A.shape

    @property
    def T(self) -> SparseOperator:
        return SparseOperator(self._A, self.dtype, self._factor, not self._transposed)

    def scaled(self, factor: float) -> SparseOperator:
        return SparseOperator(self._A, self.dtype, self._factor * factor, self._transposed)

    def times(self, X: np.ndarray) -> np.ndarray:
        if self._transposed:
            return self._summed(lambda start, stop: np.ascontiguousarray(X[start:stop]), X)
        out, X = np.empty((self.shape[0], X.shape[1]), X.dtype), np.ascontiguousarray(X)

        def block(start: int, stop: int) -> None:
            out[start:stop] = self._part(start, stop, X.dtype) @ X

        run_blocks(block, len(out), _ROWS)
        return out

    def left_times(self, Y: np.ndarray) -> np.ndarray:
        if not self._transposed:
            part = self._summed(lambda start, stop: np.ascontiguousarray(Y[:, start:stop].T), Y.T)
            return np.ascontiguousarray(part.T)
        out, X = np.empty((len(Y), self.shape[1]), Y.dtype), np.ascontiguousarray(Y.T)

        def block(start: int, stop: int) -> None:
            out[:, start:stop] = (self._part(start, stop, Y.dtype) @ X).T

        run_blocks(block, self.shape[1], _ROWS)
        return out

    def _summed(self, rows: Callable[[int, int], np.ndarray], X: np.ndarray) -> np.ndarray:
        """The product of the transpose of what is stored with X, whose ``rows`` are asked for.

        Every row adds to all of the result: two threads have one each.
        """
        n = len(X)
        half = -(-n // 2)
        parts: list[np.ndarray] = [np.empty(0)] * 2

        def block(start: int, stop: int) -> None:
            parts[start // half] = self._part(start, stop, X.dtype).T @ rows(start, stop)

        run_blocks(block, n, half)
        if n > 1:
            parts[0] += parts[1]
        return parts[0]

    def _part(self, start: int, stop: int, dtype: Any = np.float64) -> Any:
        """Rows of the stored matrix, which share its indices."""
        A = self._A
        low, high = A.indptr[start], A.indptr[stop]
        data = A.data[low:high].astype(dtype, copy=False)
        if self._factor != 1.0:
            data = data * np.dtype(dtype).type(self._factor)
        arrays = data, A.indices[low:high], A.indptr[start : stop + 1] - low
        return type(A)(arrays, shape=(stop - start, A.shape[1]), copy=False)

    def _parts(self) -> Iterator[Any]:
        """All rows of the stored matrix, some at a time, float64."""
        n = self._A.shape[0]
        return (self._part(i, min(i + _ROWS, n)) for i in range(0, n, _ROWS))

    def rows(self, start: int, stop: int) -> np.ndarray:
        if self._transposed:
            self._A, self._transposed = self._A.T.tocsr(), False
        return np.asarray(self._part(start, stop).toarray())

    def gram(self) -> np.ndarray:
        if self._transposed:
            A = self._part(0, self._A.shape[0])
            return np.asarray((A @ A.T).toarray())
        return np.asarray(sum((part.T @ part).toarray() for part in self._parts()))

    def squared_norm(self) -> float:
        return sum(float(np.vdot(part.data, part.data)) for part in self._parts())

    def inner(self, L: np.ndarray, R: np.ndarray, dtype: type = np.float64) -> float:
        if self._transposed:
            return self.T.inner(R.T, L.T, dtype)
        n = self.shape[0]
        sums = np.zeros(-(-n // _ROWS))
        X: np.ndarray = np.ascontiguousarray(R.T, dtype)

        def block(start: int, stop: int) -> None:
            product = self._part(start, stop, X.dtype) @ X
            sums[start // _ROWS] = np.einsum("ij,ij->", product, L[start:stop], dtype=np.float64)

        run_blocks(block, n, _ROWS)
        return float(sums.sum())

    def peak(self) -> float:
        data = self._A.data
        return abs(self._factor) * max(float(data.max()), -float(data.min())) if len(data) else 0.0

    def constant(self) -> float | None:
        data = self._A.data
        if len(data) == 0 or not data.any():
            return 0.0
        whole = len(data) == self.size
        return float(data[0]) if whole and (data == data[0]).all() else None


class FunctionOperator(InputOperator):
    """A linear operator of SciPy, each of whose products is checked; or its transpose."""

    narrow, knows_norm = 0, False

    def __init__(
        self,
        operator: Any,
        name: str,
        dtype: Any,
        peak: float,
        factor: float = 1.0,
        transposed: bool = False,
    ) -> None:
        self._operator, self._name, self.dtype, self._peak = operator, name, np.dtype(dtype), peak
        self._factor, self._transposed = factor, transposed
        self.shape = operator.shape[::-1] if transposed else operator.shape

    @classmethod
    def probed(cls, operator: Any, name: str, dtype: type) -> FunctionOperator:
        """An operator that has shown its products, in both directions, of random vectors.

        InputError says that it has no ``rmatvec``, or that this is not the transpose.
        """
        A, rng = cls(operator, name, dtype, 0.0), np.random.default_rng(0)
        x, y = (rng.standard_normal((size, 1)) for size in A.shape[::-1])
        try:
            Ax, Ay = A.times(x), A.T.times(y)
        except (NotImplementedError, TypeError):  # the latter is how some versions of SciPy fail
            if _has_transpose(operator):
                raise
            raise InputError(
                f"{name}: is an operator without a transpose; give it an rmatvec"
            ) from None
        bound = np.linalg.norm(Ax) * np.linalg.norm(y) + np.linalg.norm(Ay) * np.linalg.norm(x)
        if abs(np.vdot(Ax, y) - np.vdot(x, Ay)) > _ADJOINT * bound:
            raise InputError(
                f"{name}: its rmatvec is not the transpose of its matvec: <A x, y> is "
                f"{np.vdot(Ax, y):.6g}, <x, A^T y> is {np.vdot(x, Ay):.6g}"
            )
        peak = float(np.abs(Ax).max())
        check_magnitude(peak, name)
        return cls(operator, name, dtype, peak)

    def _like(self, factor: float, transposed: bool) -> FunctionOperator:
        return FunctionOperator(
            self._operator, self._name, self.dtype, self._peak, factor, transposed
        )

    @property
    def T(self) -> FunctionOperator:
        return self._like(self._factor, not self._transposed)

    def scaled(self, factor: float) -> FunctionOperator:
        return self._like(self._factor * factor, self._transposed)

    def times(self, X: np.ndarray) -> np.ndarray:
        what = "rmatmat" if self._transposed else "matmat"
        product = np.asarray(getattr(self._operator, what)(X))
        name, shape = f"{self._name}: its {what}", (self.shape[0], X.shape[1])
        if product.shape != shape:
            raise InputError(f"{name} of {X.shape} must be {shape}, found {product.shape}")
        if product.dtype.kind not in "fiub":
            raise InputError(f"{name} is {product.dtype}; products must be real")
        bad = ~np.isfinite(product).all(axis=1)
        if bad.any():
            raise InputError(f"{name} is not finite in row {int(bad.argmax())}")
        if self._factor != 1.0:
            product = product * self._factor
        return np.ascontiguousarray(product, X.dtype)

    def rows(self, start: int, stop: int) -> np.ndarray:
        return np.vstack(list(self._some_rows(start, stop)))

    def _some_rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Rows by products with columns of the identity, of which few are there at a time."""
        for first in range(start, stop, _COLUMNS):
            count = min(_COLUMNS, stop - first)
            E = np.zeros((self.shape[0], count))
            E[np.arange(first, first + count), np.arange(count)] = 1.0
            yield np.ascontiguousarray(self.T.times(E).T)

    def _all_rows(self) -> Iterator[np.ndarray]:
        return self._some_rows(0, self.shape[0])

    def gram(self) -> np.ndarray:
        G = np.hstack([self.T.times(np.ascontiguousarray(x.T)) for x in self.T._all_rows()])
        return (G + G.T) / 2

    def squared_norm(self) -> float:
        short = self if self.shape[0] < self.shape[1] else self.T
        return sum(float(np.vdot(x, x)) for x in short._all_rows())

    def inner(self, L: np.ndarray, R: np.ndarray, dtype: type = np.float64) -> float:
        total = 0.0
        for i in range(0, L.shape[1], _COLUMNS):
            X = self.times(np.ascontiguousarray(R[i : i + _COLUMNS].T, dtype))
            total += float(np.einsum("ij,ij->", X, L[:, i : i + _COLUMNS], dtype=np.float64))
        return total

    def peak(self) -> float:
        return self._peak


def _has_transpose(operator: Any) -> bool:
    try:
        operator.rmatvec(np.zeros(operator.shape[0]))
    except NotImplementedError:
        return False
    return True
