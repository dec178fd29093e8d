"""What a layer should be once the layers before it have been replaced.

In the original network a layer gets the input x, and its output W x may be added to a hidden state
h. In the compressed one it gets z, and the hidden state is g. The matrix V that comes closest to
the original there minimizes the sum of ``|V z - W x - (h - g)|^2`` over the tokens:

    V = W + (W K + D) (H + r I)^-1,  H = sum z z^T,  K = sum (x - z) z^T,  D = sum (h - g) z^T,

with a ridge r, 0.1 of the mean diagonal of H, for what few tokens say badly. Of this step a share
is taken, and none at all unless it brings the outputs closer on sequences that the sums have not
seen. Qronos (Zhang and others, arXiv 2505.11695) and GPTAQ (Li and others, arXiv 2504.02692)
correct for x - z in the rounding itself; here the target moves and any code may follow, and the
error h - g is corrected too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lplr.parallel import matmul

__all__ = ["Correction", "Moments"]

_RIDGE = 0.1  # of the mean diagonal of H; with 0.01 other kinds of text gain less
_SHARE = 0.5  # of the step: the whole of it follows the calibration texts too closely


@dataclass
class Moments:
    """Sums H, K and D over tokens, float64; D is None where nothing is added to h."""

    H: np.ndarray
    K: np.ndarray
    D: np.ndarray | None
    tokens: int

    @classmethod
    def of(cls, x: np.ndarray, z: np.ndarray, gap: np.ndarray | None) -> Moments:
        """Those of some tokens, from (tokens, columns) and ``h - g`` (tokens, outputs), float32."""
        D = None if gap is None else (gap.T @ z).astype(np.float64)
        return cls((z.T @ z).astype(np.float64), ((x - z).T @ z).astype(np.float64), D, len(z))

    def add(self, other: Moments) -> None:
        """Add the sums of other tokens."""
        self.H += other.H
        self.K += other.K
        if self.D is not None:
            self.D += other.D
        self.tokens += other.tokens

    @staticmethod
    def total(parts: list[Moments]) -> Moments:
        """The sum of all parts, added in their order; they are left as they are."""
        first, *rest = parts
        D = None if first.D is None else first.D.copy()
        total = Moments(first.H.copy(), first.K.copy(), D, first.tokens)
        for part in rest:
            total.add(part)
        return total


class Correction:
    """The corrections of all layers of one input.

    Parameters
    ----------
    fit, held_out : Moments
        Of the tokens to learn from, and of others to judge by; without these nothing is corrected.
    """

    def __init__(self, fit: Moments, held_out: Moments | None) -> None:
        self.fit, self.held_out = fit, held_out
        self.all = fit if held_out is None else Moments.total([fit, held_out])

    @property
    def H(self) -> np.ndarray:
        """The second moment of the inputs z, the mean over all tokens."""
        return self.all.H / self.all.tokens

    def target(self, W: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """The matrix to code in place of W, float32, and a record of the step."""
        if self.held_out is None:
            return W, {"correction": 0.0}
        W = W.astype(np.float64)
        step = _SHARE * self._solve(self._factor_fit, _pull(W, self.fit))
        # |V z - W x - (h - g)|^2 is a quadratic function of the step V - W.
        curvature = float(np.vdot(matmul(step, self.held_out.H), step))
        change = curvature - 2 * float(np.vdot(step, _pull(W, self.held_out)))
        norm = float(np.vdot(matmul(W, self.held_out.H), W))
        record = {"held_out_change": change / norm if norm else 0.0}
        if not change < 0:
            return W.astype(np.float32), {"correction": 0.0, **record}
        step = _SHARE * self._solve(self._factor_all, _pull(W, self.all))
        return (W + step).astype(np.float32), {"correction": _SHARE, **record}

    @cached_property
    def _factor_fit(self) -> Any:
        return _factor(self.fit.H)

    @cached_property
    def _factor_all(self) -> Any:
        return _factor(self.all.H)

    @staticmethod
    def _solve(factor: Any, B: np.ndarray) -> np.ndarray:
        from scipy.linalg import cho_solve

        return cho_solve(factor, B.T, check_finite=False).T


def _pull(W: np.ndarray, moments: Moments) -> np.ndarray:
    """``W K + D``: minus half of the gradient at V = W."""
    pull = matmul(W, moments.K)
    return pull if moments.D is None else pull + moments.D


def _factor(H: np.ndarray) -> Any:
    from scipy.linalg import cho_factor

    ridge = _RIDGE * float(np.mean(np.diagonal(H)))
    return cho_factor(H + (ridge or 1.0) * np.eye(len(H)), check_finite=False)
