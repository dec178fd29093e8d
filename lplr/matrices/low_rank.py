"""A product of two packed factors.

Products with a vector go through both factors, each decoded a block of rows at a time, so that
the dense product never exists unless `to_dense` asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.least_squares import loss_change
from lplr.linalg.operators import InputOperator
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows, ratio_of_norms
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.matrices.vector_product import VectorProduct
from lplr.validation.arguments import check_factor

__all__ = ["LowRank"]

# Squared error over squared norm from which on Gram matrices give it: entries of L R are decoded in
# float32, which leaves up to 1e-11 of it, 1e-7 of such an error. Smaller errors are summed by rows.
_CANCELLED = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(PackedMatrix):
    """A product of two packed factors, L R + shift.

    Parameters
    ----------
    left : Quantized or Stacked of shape (n, k)
    right : Quantized or Stacked of shape (k, d)
    shift : float
        Constant added to every entry; stored, if not 0, as 8 bytes.
    meta : mapping
        JSON-able record of how the object was made.

    Raises
    ------
    InputError
        If the factors do not fit each other.

    Examples
    --------
    >>> import lplr
    >>> A = lplr.datasets.synthetic(200, 100, "power", exponent=1.0, rng=0)
    >>> f = lplr.factorize(A, rank=10, bits=4, rng=0)
    >>> f
    <LowRank: 200 x 100; 1,544 bytes, 0.6176 bits per entry; rank 10; L lloyd-max 4 bits, R ...>
    >>> f.left.shape, f.right.shape
    ((200, 10), (10, 100))
    """

    left: Quantized | Stacked
    right: Quantized | Stacked
    shift: float = 0.0
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("low-rank", 1)
    _written: ClassVar[tuple[str, ...]] = ("shift",)

    def __post_init__(self) -> None:
        for factor in (self.left, self.right):
            if not isinstance(factor, (Quantized, Stacked)):
                raise InputError("left, right: must be Quantized or Stacked matrices")
        if self.left.shape[1] != self.right.shape[0]:
            raise InputError(
                f"left, right: inner sizes differ, {self.left.shape} and {self.right.shape}"
            )
        shift = check_factor(self.shift, "shift")
        if not abs(shift) <= float(np.finfo(np.float32).max):
            raise InputError(f"shift: must be finite in float32, found {self.shift}")
        shape = self.left.shape[0], self.right.shape[1]
        self._set(shape=shape, shift=shift, meta=self.meta)

    @property
    def rank(self) -> int:
        """Columns of L."""
        return self.left.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of both factors, and of the shift if there is one."""
        return self.left.nbytes + self.right.nbytes + (8 if self.shift else 0)

    def parts(self) -> dict[str, PackedMatrix]:
        """The factors: ``L`` and ``R``."""
        return {"L": self.left, "R": self.right}

    def _row_reader(self) -> ReadRows:
        left, right = self.left._row_reader(), self.right.to_dense()
        shift = np.float32(self.shift)

        def rows(start: int, stop: int) -> np.ndarray:
            out = left(start, stop) @ right
            return out + shift if shift else out

        return rows

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        out = self.left._matmat(self.right._matmat(X))
        return out + self.shift * X.sum(axis=0) if self.shift else out

    def _lay_out(self, product: VectorProduct, source: int, target: int) -> bool:
        if self.shift:
            return False
        between = product.room(self.rank)
        return self.right._lay_out(product, source, between) and self.left._lay_out(
            product, between, target
        )

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        out = self.right._rmatmat(self.left._rmatmat(Y))
        return out + self.shift * Y.sum(axis=0) if self.shift else out

    def loss_change(self, A: InputOperator) -> float:
        """``|A - self|_F^2 - |A|_F^2``, by products with A.

        Parameters
        ----------
        A : InputOperator
            As `lplr.linalg.input_operators.as_matrix` makes it.
        """
        L, R = self.left.to_dense(), self.right.to_dense()
        if self.shift:
            L = np.hstack([L, np.full((len(L), 1), self.shift)])
            R = np.vstack([R, np.ones((1, R.shape[1]), np.float32)])
        return loss_change(A, L, R)

    def _relative_error(self, A: InputOperator) -> float:
        norm = A.squared_norm()
        error = norm + self.loss_change(A)
        return ratio_of_norms(error, norm) if error > _CANCELLED * norm else self._error_by_rows(A)

    def scaled(self, factor: float) -> LowRank:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float
        """
        factor = check_factor(factor)
        return replace(self, right=self.right.scaled(factor), shift=self.shift * factor)

    def _state(self) -> dict[str, Any]:
        return {"left": self.left, "right": self.right, "shift": self.shift}
