"""What pairs of factors leave of a matrix, while they come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from lplr.coding.factor import FactorPair
from lplr.linalg.least_squares import loss_change
from lplr.linalg.operators import InputOperator, Operator
from lplr.parallel import matmul, run_blocks

__all__ = ["ArrayResidual", "OperatorResidual"]

_ROWS = 512  # of a residual that one thread corrects at a time


class ArrayResidual:
    """Of an array A, float32 (n, d): an array as well."""

    knows_norm: ClassVar[bool] = True

    def __init__(self, A: np.ndarray, loss: Callable[[np.ndarray], float]) -> None:
        self.matrix, self._loss = A.copy(), loss

    def loss(self) -> float:
        """What is left, weighed."""
        return self._loss(self.matrix)

    def add(self, pair: FactorPair) -> None:
        """A pair that is no longer subtracted."""
        _add_product(self.matrix, pair, np.add)

    def subtract(self, pair: FactorPair) -> None:
        """Another pair."""
        _add_product(self.matrix, pair, np.subtract)


class OperatorResidual(Operator):
    """Of an operator: its products, less those of the factors."""

    def __init__(self, A: InputOperator, pairs: Sequence[FactorPair] = ()) -> None:
        self.shape, self.knows_norm = A.shape, A.knows_norm
        self._A, self._pairs = A, list(pairs)

    @property
    def matrix(self) -> OperatorResidual:
        """Itself, as that of an array is an array."""
        return self

    @cached_property
    def _energy(self) -> float:
        return self._A.squared_norm() if self.knows_norm else 0.0

    @property
    def T(self) -> OperatorResidual:
        return OperatorResidual(self._A.T, [pair[::-1] for pair in self._pairs])

    def times(self, X: np.ndarray) -> np.ndarray:
        out = self._A.times(X)
        for left, right in self._pairs:
            Y = matmul(right.values, X)

            def rows(i: int, j: int, L: np.ndarray = left.values, Y: np.ndarray = Y) -> None:
                out[i:j] -= L[:, i:j].T @ Y

            run_blocks(rows, len(out), _ROWS)
        return out

    def left_times(self, Y: np.ndarray) -> np.ndarray:
        out = self._A.left_times(Y)
        for left, right in self._pairs:
            X = matmul(Y, left.values.T)

            def columns(i: int, j: int, R: np.ndarray = right.values, X: np.ndarray = X) -> None:
                out[:, i:j] -= X @ R[:, i:j]

            run_blocks(columns, out.shape[1], _ROWS)
        return out

    def loss(self) -> float:
        """What is left; less the squared norm of A, where A does not know it."""
        if not self._pairs:
            return self._energy
        left, right = (self._stacked(side) for side in (0, 1))
        return self._energy + loss_change(self._A, left.T, right, np.float32)

    def _stacked(self, side: int) -> np.ndarray:
        values = [pair[side].values for pair in self._pairs]
        return values[0] if len(values) == 1 else np.concatenate(values)

    def add(self, pair: FactorPair) -> None:
        """A pair that is no longer subtracted."""
        self._pairs = [other for other in self._pairs if other is not pair]

    def subtract(self, pair: FactorPair) -> None:
        """Another pair."""
        self._pairs.append(pair)


def _add_product(X: np.ndarray, pair: FactorPair, add: np.ufunc) -> None:
    """``X += L R`` or ``X -= L R``, without L R as a whole."""
    left, right = pair

    def rows(i: int, j: int) -> None:
        add(X[i:j], left.values[:, i:j].T @ right.values, out=X[i:j])

    run_blocks(rows, len(X), _ROWS)
