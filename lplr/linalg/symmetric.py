"""Symmetric matrices made of nearly symmetric ones."""

from __future__ import annotations

import numpy as np

from lplr.parallel import run_blocks

__all__ = ["add_to_diagonal", "symmetrize"]

_TILE = 128  # rows and columns that stay in cache


def symmetrize(H: np.ndarray) -> float:
    """H, a square float array, becomes ``(H + H^T) / 2``; the norm of ``H - H^T`` before."""
    squares = np.zeros(-(-len(H) // _TILE))

    def block(i: int, j: int) -> None:
        for k in range(0, j, _TILE):
            below, above = H[i:j, k : k + _TILE], H[k : k + _TILE, i:j].T
            mean, skew = (below + above) / 2, below - above
            H[i:j, k : k + _TILE], H[k : k + _TILE, i:j] = mean, mean.T
            squares[i // _TILE] += (1 if k == i else 2) * np.vdot(skew, skew)

    run_blocks(block, len(H), _TILE)
    return float(np.sqrt(squares.sum()))


def add_to_diagonal(H: np.ndarray, value: float, dtype: type | None = None) -> np.ndarray:
    """``H + value I``, a new array, of another dtype if that is given."""
    out = np.array(H, dtype)
    out[np.diag_indices(len(H))] += value
    return out
