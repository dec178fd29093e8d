"""Parts of packed matrices in trellis codes, as kernels take them: all in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lplr.quantizers.packing import read_only

__all__ = ["Parts"]


class Parts:
    """A table of `lplr.kernels.project_trellis.PART`, and the arrays that it points to.

    Parameters
    ----------
    parts : sequence of mapping
        Fields by name, as `Trellis.part` gives them; an array stands for its address.
    """

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        from lplr.kernels.project_trellis import PART, multiply, multiply_many

        self._multiply, self._multiply_many = multiply, multiply_many
        self._parts = tuple(parts)  # keeps the arrays as long as their addresses
        self.table = np.zeros(len(parts), PART)
        for row, part in zip(self.table, parts, strict=True):
            for name, value in part.items():
                row[name] = value.ctypes.data if isinstance(value, np.ndarray) else value

    def add(self, work: np.ndarray) -> None:
        """Add the products with pieces of a float32 vector to other pieces of it."""
        self._multiply(self.table, work)

    def product(self, x: np.ndarray, n: int) -> np.ndarray:
        """What is added to n zeros that follow x, float32."""
        work = np.zeros(len(x) + n, np.float32)
        work[: len(x)] = x
        self.add(work)
        return work[len(x) :]

    def add_many(self, X: np.ndarray, out: np.ndarray) -> None:
        """Add the products of parts of columns with the columns of X to the rows of ``out``.

        See `lplr.kernels.project_trellis.multiply_many`.
        """
        self._multiply_many(self.table, read_only(X), out.reshape(-1))
