"""What a layer should be once the layers before it have been replaced.

In the original network a layer gets the input x, and its output W x is added to a hidden state h.
In the compressed one it gets z, and the hidden state is g. So with W as it is the sum misses

    r = (h + W x) - (g + W z).

What of it can be said from z, the layer itself can add: ridge regression of r on z gives

    V = W + (sum r z^T) (sum z z^T + a I)^-1,

a being 0.1 of the mean diagonal. Half of this step is taken, and none unless it brings the sums
closer on sequences that it was not learned from. Layers whose output is not added to a hidden state
keep W: the step that undoes errors of their inputs was tried, and gained nothing on other texts.

Qronos (Zhang and others, arXiv 2505.11695) and GPTAQ (Li and others, arXiv 2504.02692) correct for
x - z in the rounding itself. Here the target moves, any code may follow, and what earlier blocks
have left in h - g is corrected too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.parallel import matmul

__all__ = ["Moments", "corrected"]

_RIDGE = 0.1  # of the mean diagonal; with 0.01 other kinds of text gain less
_SHARE = 0.5  # of the step; the whole of it makes the sums closer and the predictions worse


@dataclass
class Moments:
    """Sums over tokens, float64: H of ``z z^T`` and B of ``r z^T``."""

    H: np.ndarray
    B: np.ndarray
    tokens: int

    @classmethod
    def of(cls, z: np.ndarray, r: np.ndarray) -> Moments:
        """Those of some tokens, one a row, float32."""
        return cls((z.T @ z).astype(np.float64), (r.T @ z).astype(np.float64), len(z))

    def add(self, other: Moments) -> None:
        """Add the sums of other tokens."""
        self.H += other.H
        self.B += other.B
        self.tokens += other.tokens

    @staticmethod
    def total(parts: list[Moments]) -> Moments:
        """The sum of all parts, added in their order; they are left as they are."""
        total = Moments(parts[0].H.copy(), parts[0].B.copy(), parts[0].tokens)
        for part in parts[1:]:
            total.add(part)
        return total


def corrected(
    W: np.ndarray, fit: Moments, held_out: Moments | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """The matrix to code in place of W, float32, and a record of the step.

    It is learned from ``fit`` and judged on ``held_out``, and if it is taken, learned once more
    from both. Without anything held out there is none.
    """
    if held_out is None:
        return W, {"correction": 0.0}
    step = _step(fit)
    # The sum of |r - step z|^2 is a quadratic function of the step.
    curvature = float(np.vdot(matmul(step, held_out.H), step))
    change = curvature - 2 * float(np.vdot(step, held_out.B))
    W64 = W.astype(np.float64)
    norm = float(np.vdot(matmul(W64, held_out.H), W64))
    record = {"correction": 0.0, "held_out_change": change / norm if norm else 0.0}
    if not change < 0:
        return W, record
    step = _step(Moments.total([fit, held_out]))
    return (W64 + step).astype(np.float32), {**record, "correction": _SHARE}


def _step(moments: Moments) -> np.ndarray:
    from scipy.linalg import cho_factor, cho_solve

    ridge = _RIDGE * float(np.mean(np.diagonal(moments.H)))
    factor = cho_factor(moments.H + (ridge or 1.0) * np.eye(len(moments.H)), check_finite=False)
    return _SHARE * cho_solve(factor, moments.B.T, check_finite=False).T
