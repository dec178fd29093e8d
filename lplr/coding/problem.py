"""The problem that both modes of CALDERA solve, in rotated coordinates, and a candidate for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lplr.coding.alternation import Factor, squared_norm
from lplr.coding.feedback import Factorization, min_pivot_ldl
from lplr.parallel import matmul, run_blocks
from lplr.planning.budget import Books
from lplr.quantizers.base import Codebook

__all__ = ["Candidate", "Problem", "Trace", "low_rank"]


@dataclass(frozen=True)
class Problem:
    """Minimise tr((Q + L R - W) H (Q + L R - W)^T).

    Parameters
    ----------
    W : ndarray of shape (n, d), float32
    H : ndarray of shape (d, d), float64, positive definite
    rank : int
    q_book : Codebook
        Of Q.
    books : (Codebook, Codebook)
        Of L and R.
    """

    W: np.ndarray
    H: np.ndarray
    rank: int
    q_book: Codebook
    books: Books

    @cached_property
    def factor(self) -> Factorization:
        """What `min_pivot_ldl` returns for H, but L in float32."""
        order, L, D = min_pivot_ldl(self.H)
        return order, L.astype(np.float32), D

    def loss(self, E: np.ndarray) -> float:
        """tr(E H E^T) of an (n, d) float32 matrix, as the squared norm of E L D^(1/2).

        Unlike float32 products with H itself, this keeps its digits where E lies in directions
        that H hardly sees, and is never negative.
        """
        order, L, D = self.factor
        E, root = E[:, order], np.sqrt(D).astype(np.float32)
        tile = max(64, -(-len(L) // 16))
        parts = np.zeros(-(-len(L) // tile))

        def block(start: int, stop: int) -> None:
            product = E[:, start:] @ L[start:, start:stop]
            product *= root[start:stop]
            parts[start // tile] = squared_norm(product)

        run_blocks(block, len(L), tile)
        return float(parts.sum())


@dataclass(frozen=True)
class Candidate:
    """Codes and values of one solution; L and R hold the rank axis first.

    Parameters
    ----------
    Q : ndarray of shape (n, d), float32
    q_codes : ndarray
        Code words of Q: (ceil(n / group), d) for axis 0, (n, ceil(d / group)) for axis 1.
    q_scale : float
    axis : {0, 1}
    left, right : Factor or None
        Of shapes (k, n) and (k, d); None at rank 0.
    """

    Q: np.ndarray
    q_codes: np.ndarray
    q_scale: float
    axis: int
    left: Factor | None = None
    right: Factor | None = None


def low_rank(left: Factor | None, right: Factor | None) -> np.ndarray | float:
    """L R of factors that hold the rank axis first, or 0 at rank 0."""
    if left is None or right is None:
        return 0.0
    return matmul(left.values.T, right.values)


@dataclass
class Trace:
    """The error after each half step, and the best candidate so far.

    Parameters
    ----------
    problem : Problem
    callback : callable, optional
        Called with a dict of ``step`` (which half step), ``iteration`` and ``error``.
    """

    problem: Problem
    callback: Callable[[dict[str, object]], None] | None = None
    history: list[dict[str, object]] = field(default_factory=list, init=False)
    best: Candidate | None = field(default=None, init=False)
    least: float = field(default=float("inf"), init=False)

    def __post_init__(self) -> None:
        self._norm = self.problem.loss(self.problem.W)

    def add(self, step: str, iteration: int, candidate: Candidate) -> float:
        """Record a half step; returns its relative error."""
        E = self.problem.W - candidate.Q
        E -= low_rank(candidate.left, candidate.right)
        error = float(np.sqrt(self.problem.loss(E) / self._norm)) if self._norm > 0 else 0.0
        entry: dict[str, object] = {"step": step, "iteration": iteration, "error": error}
        self.history.append(entry)
        if error < self.least:
            self.least, self.best = error, candidate
        if self.callback is not None:
            self.callback(dict(entry))
        return error
