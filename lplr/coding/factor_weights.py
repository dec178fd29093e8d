"""What errors of a product of factors weigh on both sides, ``tr(G E H E^T)``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lplr.coding.backbone import FEEDBACK_DAMPING, FeedbackWeights
from lplr.coding.row_feedback import RowFeedback
from lplr.linalg.ldl import Factorization
from lplr.linalg.triangular import scaled_square
from lplr.parallel import matmul

__all__ = ["FactorWeights"]


@dataclass(frozen=True)
class FactorWeights:
    """H by its LDL factors and G by its feedback between rows, both with `FEEDBACK_DAMPING`.

    ``columns`` without an L stand for H = I, and ``rows`` of None for G = I.
    """

    columns: FeedbackWeights
    rows: RowFeedback | None = None

    @cached_property
    def factorization(self) -> Factorization:
        """H = L diag(D) L^T in the order of its columns, L in float32."""
        L = self.columns.L
        one = np.eye(self.columns.d, dtype=np.float32)
        L = one if L is None else L
        return np.arange(len(L)), L, self.columns.D

    @cached_property
    def H(self) -> np.ndarray:
        """H, float64 (d, d)."""
        L, D = self.columns.L, self.columns.D
        return np.diag(D) if L is None else scaled_square(L.astype(np.float64), D)

    def column_root(self, E: np.ndarray) -> np.ndarray:
        """E times a root of H, which weighs under the identity as E does under H."""
        L, D = self.columns.L, self.columns.D
        return E if L is None else matmul(E, (L * np.sqrt(D)).astype(np.float32))

    def row_root(self, E: np.ndarray) -> np.ndarray:
        """A root of G times E."""
        return E if self.rows is None else self.rows.root(E)

    def loss(self, E: np.ndarray) -> float:
        """``tr(G E H E^T)`` of a float32 matrix (n, d), without the damping of the feedback."""
        if self.rows is None:
            return self.columns.loss(E)
        damped = self.columns.loss(self.rows.root(E))
        return max(damped - FEEDBACK_DAMPING * self.columns.loss(E), 0.0)
