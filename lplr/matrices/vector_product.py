"""Products of a packed matrix with one vector after another: planned once, then one kernel call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np

from lplr.quantizers.trellis_parts import Parts

__all__ = ["VectorProduct"]

Into = Callable[[np.ndarray, np.ndarray], None]


class _LaysOut(Protocol):
    shape: tuple[int, int]

    def _lay_out(self, product: VectorProduct, source: int, target: int) -> bool: ...


class VectorProduct:
    """``f @ x`` for float32 vectors x, of a matrix f that consists of trellis codes.

    A network multiplies hundreds of matrices for each token. So what is known of a matrix is found
    out once: where its parts lie in a workspace that holds x, the vector between two factors, and
    the result. One call of a kernel then goes through all parts.

    Parameters
    ----------
    shape : (int, int)
        Of f.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._rows, self._columns = shape
        self._size = sum(shape)
        self._fields: list[dict[str, Any]] = []
        self._parts = Parts([])
        self._enter: Into | None = None
        self._leave: Into | None = None

    @classmethod
    def of(cls, matrix: _LaysOut) -> Self | None:
        """The product of a matrix; None where it has parts without a kernel for this."""
        product = cls(matrix.shape)
        if not matrix._lay_out(product, 0, matrix.shape[1]):
            return None
        product._parts = Parts(product._fields)
        return product

    def rotate(self, enter: Into | None, leave: Into | None) -> None:
        """Functions that turn x and the result: they read one vector and fill another."""
        self._enter, self._leave = enter, leave

    def room(self, size: int) -> int:
        """Where there is room for a vector between two factors."""
        self._size += size
        return self._size - size

    def add(self, part: dict[str, Any]) -> None:
        """A part, as a codebook gives it."""
        self._fields.append(part)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The product; x is float32 of shape (d,)."""
        d, end = self._columns, self._columns + self._rows
        work = np.zeros(self._size, np.float32)
        if self._enter is None:
            work[:d] = x
        else:
            self._enter(np.ascontiguousarray(x), work[:d])
        self._parts.add(work)
        if self._leave is None:
            return work[d:end]
        out = np.empty(self._rows, np.float32)
        self._leave(work[d:end], out)
        return out
