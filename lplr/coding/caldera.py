"""The problem that both modes of CALDERA solve, in rotated coordinates, and its candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lplr.coding.factor import (
    CodebookPair,
    Factor,
    fit_scales,
    normal_equations,
    pack_factors,
    product,
    rescaled,
    weighted_gram,
)
from lplr.coding.row_feedback import RowFeedback, pack_rows
from lplr.linalg.ldl import Factorization, min_pivot_ldl, weighted_squared_norm
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.quantizers.base import Codebook

__all__ = ["CalderaProblem", "Candidate", "Trace"]

# Share of the norm of W below which normal equations in float32, which know losses to 1e-7 of the
# largest one, cannot tell whether scales become better.
_SMALL = 1e-2


@dataclass(frozen=True)
class Candidate:
    """Codes and values of one solution; L and R, None at rank 0, are (k, n) and (k, d).

    The codes of Q have shape (ceil(n / group), d) where the entries of a code word lie down a
    column (axis 0), and (n, ceil(d / group)) where they lie along a row (axis 1).
    """

    Q: np.ndarray
    q_codes: np.ndarray
    q_scale: float
    axis: int
    left: Factor | None = None
    right: Factor | None = None


@dataclass(frozen=True)
class CalderaProblem:
    """Minimise tr(G (Q + L R - W) H (Q + L R - W)^T) for a rank and codebooks of Q and of (L, R).

    W is float32 (n, d); H, float64 (d, d), and the G of ``rows``, (n, n), are positive definite.
    Without ``rows`` G is the identity.
    """

    W: np.ndarray
    H: np.ndarray
    rank: int
    q_book: Codebook
    books: CodebookPair
    rows: RowFeedback | None = None

    @cached_property
    def factorization(self) -> Factorization:
        """What `min_pivot_ldl` returns for H, but L in float32."""
        return min_pivot_ldl(self.H, np.float32)

    def loss(self, E: np.ndarray) -> float:
        """``tr(G E H E^T)`` of a float32 matrix (n, d)."""
        order, L, D = self.factorization
        return weighted_squared_norm(self.root(E), L, D, order)

    def loss_after(self, loss: float, E: np.ndarray, U: np.ndarray, V: np.ndarray) -> float:
        """The loss of ``E - U V``, given that of E, for few columns of U, which is held as U^T."""
        M, B = normal_equations(U, E, self.rows)
        T, N = weighted_gram(V, self.H)
        return max(loss - 2 * float(np.vdot(B, T.T)) + float(np.vdot(M, N)), 0.0)

    def root(self, E: np.ndarray) -> np.ndarray:
        """A root of G times E, which weighs under the identity as E does under G."""
        return E if self.rows is None else self.rows.root(E)

    def without(self, left: Factor | None, right: Factor | None) -> np.ndarray:
        """What L R leaves of W, or W itself at rank 0."""
        if left is None or right is None:
            return self.W
        E = product(left, right)
        return np.subtract(self.W, E, out=E)

    def error(self, candidate: Candidate) -> np.ndarray:
        """``W - Q - L R``, float32 (n, d)."""
        E = self.without(candidate.left, candidate.right)
        return np.subtract(E, candidate.Q, out=None if E is self.W else E)

    def pack(self, best: Candidate, unit: float) -> tuple[Quantized | Stacked, LowRank | None]:
        """A candidate as packed matrices of ``unit`` times its values; R gets its best scales."""
        backbone = pack_rows(
            best.q_codes,
            self.q_book,
            (self.W.shape[0], self.W.shape[1]),
            best.q_scale * unit,
            axis=best.axis,
            in_blocks=self.rows is not None,
        )
        if best.left is None or best.right is None:
            return backbone, None
        L, R = best.left.values, best.right.values
        RH = matmul(R, self.H.astype(np.float32))
        scale = fit_scales(best.right, *normal_equations(L, self.W - best.Q, self.rows), RH)
        left, right = best.left, best.right
        E = self.without(left, right) - best.Q
        if np.linalg.norm(E) < _SMALL * np.linalg.norm(self.W):
            fitted = self.without(left, rescaled(right, scale)) - best.Q
            scale = right.scale if self.loss(E) < self.loss(fitted) else scale
        return backbone, pack_factors(left, right, scale * np.float32(unit), self.books)


@dataclass
class Trace:
    """The error after each half step, and the best candidate so far.

    The callback is called with a dict of ``step`` (which half step), ``iteration`` and ``error``.
    """

    problem: CalderaProblem
    callback: Callable[[dict[str, object]], None] | None = None
    history: list[dict[str, object]] = field(default_factory=list, init=False)
    best: Candidate | None = field(default=None, init=False)
    least: float = field(default=float("inf"), init=False)
    loss: float = field(default=0.0, init=False)  # of the last half step

    def __post_init__(self) -> None:
        self._norm = self.problem.loss(self.problem.W)

    def add(
        self, step: str, iteration: int, candidate: Candidate, loss: float | None = None
    ) -> float:
        """Record a half step, whose loss may be known; returns its relative error."""
        self.loss = self.problem.loss(self.problem.error(candidate)) if loss is None else loss
        error = float(np.sqrt(self.loss / self._norm)) if self._norm > 0 else 0.0
        entry: dict[str, object] = {"step": step, "iteration": iteration, "error": error}
        self.history.append(entry)
        if error < self.least:
            self.least, self.best = error, candidate
        if self.callback is not None:
            self.callback(dict(entry))
        return error
