"""What a second pass sums up over the rows of L: all that fitting R to them, and errors, need."""

from __future__ import annotations

import numpy as np

from lplr.linalg.least_squares import gram

__all__ = ["Products", "Residual"]


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


class Residual:
    """``tr(E H E^T)`` and ``L^T E`` of what L R leave, ``E = A - L R``, summed up as `Products`.

    The loss of any other R follows: where it is near the first one, all terms are as small as the
    loss itself, while those from L^T A would cancel to it and leave rounding of the norm of A.

    Attributes
    ----------
    loss : float
    mixed : ndarray of shape (m, d), float64
    """

    def __init__(self, m: int, d: int) -> None:
        self.loss, self.mixed = 0.0, np.zeros((m, d))

    @staticmethod
    def of(
        values: np.ndarray, X: np.ndarray, R: np.ndarray, H: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Those of a tile."""
        E = X - values.T @ R
        mixed = values @ E
        E = E.astype(np.float64)
        return float(np.vdot(E, E if H is None else E @ H)), mixed

    def add(self, loss: float, mixed: np.ndarray) -> None:
        """Add those of a tile."""
        self.loss += loss
        self.mixed += mixed

    def loss_after(
        self, change: np.ndarray, gram: np.ndarray, H: np.ndarray | None = None
    ) -> float:
        """The loss once ``change`` was added to R, ``gram`` being L^T L."""
        change = change.astype(np.float64)
        weighted = change if H is None else change @ H
        rest = np.vdot(gram @ change, weighted) - 2.0 * np.vdot(self.mixed, weighted)
        return max(self.loss + float(rest), 0.0)
