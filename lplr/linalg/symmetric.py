"""Symmetric matrices made of nearly symmetric ones."""

from __future__ import annotations

import numpy as np

from lplr.linalg.copies import copied
from lplr.parallel import run_blocks

__all__ = ["add_to_diagonal", "divide", "symmetrized"]

_TILE = 128  # rows and columns that stay in cache


def symmetrized(H: np.ndarray, *, overwrite: bool = False) -> tuple[np.ndarray, float]:
    """``(H + H^T) / 2`` of a square float array, and the norm of ``H - H^T`` over that of H."""
    out = H if overwrite else np.empty_like(H)
    squares = np.zeros((-(-len(H) // _TILE), 2))

    def block(i: int, j: int) -> None:
        for k in range(0, j, _TILE):
            below, above = H[i:j, k : k + _TILE], H[k : k + _TILE, i:j].T
            mean, half = (below + above) / 2, (below - above) / 2
            twice = 1 if k == i else 2
            squares[i // _TILE] += twice * np.vdot(half, half), twice * np.vdot(mean, mean)
            out[i:j, k : k + _TILE], out[k : k + _TILE, i:j] = mean, mean.T

    run_blocks(block, len(H), _TILE)
    skew, even = squares.sum(axis=0)
    return out, float(2 * np.sqrt(skew / (skew + even))) if skew else 0.0


def divide(H: np.ndarray, by: float) -> None:
    """``H /= by``, in threads."""
    run_blocks(lambda i, j: np.divide(H[i:j], by, out=H[i:j]), len(H), _TILE)


def add_to_diagonal(H: np.ndarray, value: float, dtype: type | None = None) -> np.ndarray:
    """``H + value I``, a new array, of another dtype if that is given."""
    out = copied(H, dtype)
    out[np.diag_indices(len(H))] += value
    return out
