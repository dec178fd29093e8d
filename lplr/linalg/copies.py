"""Copies of large matrices, in threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.parallel import run_blocks

__all__ = ["copied"]

_ROWS = 256  # that one thread copies at a time
_TILE = 128  # side of the squares in which a transpose is read, so that they stay in cache


def copied(A: np.ndarray, dtype: Any = None) -> np.ndarray:
    """A C-contiguous copy of a matrix, of another dtype if that is given.

    NumPy takes up to five times as long for a transpose, and one thread.
    """
    out = np.empty(A.shape, A.dtype if dtype is None else dtype)
    step = A.shape[1] if abs(A.strides[1]) <= abs(A.strides[0]) else _TILE

    def rows(i: int, j: int) -> None:
        for k in range(i, j, min(step, _ROWS)):
            some = slice(k, min(k + step, j))
            for c in range(0, A.shape[1], step):
                out[some, c : c + step] = A[some, c : c + step]

    run_blocks(rows, len(A), _ROWS)
    return out
