"""What a second pass sums up over the rows of L: all that fitting R to them, and errors, need."""

from __future__ import annotations

import numpy as np

from lplr.linalg.least_squares import gram

__all__ = ["Products"]


class Products:
    """``L^T L`` and ``L^T A`` of a factor L (n, m) that is never there as a whole.

    Attributes
    ----------
    gram : ndarray of shape (m, m), float64
    mixed : ndarray of shape (m, d), float64
    """

    def __init__(self, m: int, d: int) -> None:
        self.gram, self.mixed = np.zeros((m, m)), np.zeros((m, d))

    @staticmethod
    def of(values: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The products of a tile: ``values`` is L^T, float32 (m, rows), X of shape (rows, d)."""
        return gram(values), values @ X

    def add(self, G: np.ndarray, B: np.ndarray) -> None:
        """Add those of a tile; the order of the tiles decides on the last bits."""
        self.gram += G
        self.mixed += B

    def loss(self, R: np.ndarray, gram: np.ndarray, H: np.ndarray | None = None) -> float:
        """``tr(E H E^T)`` of ``E = A - L R``, given A^T A: no row is needed for it."""
        R = R.astype(np.float64)
        RH = R if H is None else R @ H
        norm = float(np.trace(gram) if H is None else np.vdot(gram, H))
        explained = 2.0 * float(np.vdot(self.mixed, RH)) - float(np.vdot(self.gram @ R, RH))
        return max(norm - explained, 0.0)
