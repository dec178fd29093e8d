"""Matrices of which only products are taken.

What a low-rank factorization needs of A are products with factors, ``A X`` and ``A^T Y``, its norm
and inner products with ``L R``. `multiply` makes them for arrays and for operators alike, so that
one text serves both; an `Operator` never becomes an array.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from lplr.parallel import matmul

__all__ = ["InputOperator", "Matrix", "Operator", "multiply"]


class Operator(ABC):
    """A real matrix A (n, d) that multiplies."""

    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of entries, zero or not."""
        return self.shape[0] * self.shape[1]

    @property
    @abstractmethod
    def T(self) -> Operator:
        """The transpose."""

    @abstractmethod
    def times(self, X: np.ndarray) -> np.ndarray:
        """A X, C-contiguous (n, m), of the dtype of X (d, m), float32 or float64."""

    def left_times(self, Y: np.ndarray) -> np.ndarray:
        """Y A, C-contiguous (m, d), of the dtype of Y (m, n)."""
        return np.ascontiguousarray(self.T.times(np.ascontiguousarray(Y.T)).T)


class InputOperator(Operator):
    """What a caller passed in place of an array; ``dtype`` float32 or float64."""

    dtype: np.dtype
    narrow: ClassVar[int]  # columns up to which `gram` takes little time in any case
    knows_norm: ClassVar[bool]  # at the cost of less than a product with a factor

    @property
    @abstractmethod
    def T(self) -> InputOperator:
        """The transpose."""

    @abstractmethod
    def scaled(self, factor: float) -> InputOperator:
        """``factor`` times A."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> np.ndarray:
        """A few rows, as an array."""

    @abstractmethod
    def gram(self) -> np.ndarray:
        """A^T A, float64."""

    @abstractmethod
    def squared_norm(self) -> float:
        """Squared Frobenius norm, in float64."""

    @abstractmethod
    def inner(self, L: np.ndarray, R: np.ndarray, dtype: type = np.float64) -> float:
        """``<A, L R>`` for L (n, k) and R (k, d), summed in float64 over products of a dtype."""

    @abstractmethod
    def peak(self) -> float:
        """A magnitude that tells in which range A lies; 0 for a zero matrix alone."""

    def constant(self) -> float | None:
        """The value of all entries, if they are known to be equal."""
        return None if self.peak() else 0.0

    def sum(self) -> float:
        """The sum of all entries."""
        return float(self.times(np.ones((self.shape[1], 1))).sum())


Matrix = np.ndarray | Operator


def multiply(X: Matrix, Y: Matrix) -> np.ndarray:
    """``X Y`` as `lplr.parallel.matmul` makes it; one of the two may be an `Operator`."""
    if isinstance(X, Operator):
        assert isinstance(Y, np.ndarray)
        return X.times(Y)
    if isinstance(Y, Operator):
        return Y.left_times(X)
    return matmul(X, Y)
