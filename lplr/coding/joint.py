"""Rows of L on an R that is fixed: blocks of columns with codebooks of their own, in one pass.

For a given R, ``|A - L R|^2`` is a constant plus ``tr((X - L^T)^T G (X - L^T))``, G = R R^T and
``X = G^-1 R A^T``: each row of A is a quantization problem of its own. Blocks of columns are coded
one after the other, the first one first. With the blocks P coded, of error E_P, and those behind
free to correct, the best real values of block b are ``X_b + S_bb^-1 S_bP E_P``, and errors around
them weigh as S_bb, where S is the Schur complement of the free blocks in G. This is block LDL, as
of a backbone (`lplr.coding.backbone`). Each entry is coded once: blocks that are fitted to what the
others leave, in two rounds, take twice as long and lose as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lplr.coding.factor import Factor, damped, quantize_solution, weighted_gram
from lplr.linalg.ldl import Factorization, min_pivot_ldl
from lplr.linalg.least_squares import gram, solve
from lplr.parallel import matmul
from lplr.quantizers.base import Codebook

__all__ = ["JointFeedback"]


@dataclass(frozen=True)
class _Block:
    """Columns of L, with what coding them needs."""

    part: slice
    pull: np.ndarray  # S_bb^-1 S_bP, float32
    S: np.ndarray  # S_bb, float64
    factor: Factorization


class JointFeedback:
    """Codes rows of L for rows of A.

    Parameters
    ----------
    R : ndarray of shape (m, d), float32
    sizes : sequence of int
        Columns of each block of L; their sum is m.
    H : ndarray of shape (d, d), float64, optional
        Second moment under which errors of rows of A count; then ``G = R H R^T`` and
        ``X = G^-1 R H A^T``.
    """

    def __init__(self, R: np.ndarray, sizes: Sequence[int], H: np.ndarray | None = None) -> None:
        from scipy.linalg import cho_solve, cholesky

        if H is None:
            RH, G = R, gram(R)
        else:
            T, G = weighted_gram(R, H)
            RH = T.T.astype(np.float32)
        if not G.any():  # with an R of zeros, all L are alike
            G = np.eye(len(R))
        stops = np.cumsum(sizes).tolist()
        parts = [slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]
        S = G.copy()
        for p in parts:
            S[p, p] = damped(G[p, p])
        self._solved = solve(S, RH)  # G^-1 R H
        self._blocks: list[_Block] = []
        for p in reversed(parts):
            of_block, before = S[p, p].copy(), S[p, : p.start]
            C = cholesky(of_block, lower=True, check_finite=False)
            pull = cho_solve((C, True), before, check_finite=False)
            block = _Block(p, pull.astype(np.float32), of_block, min_pivot_ldl(of_block))
            self._blocks.insert(0, block)
            S = S[: p.start, : p.start] - before.T @ pull
            S = (S + S.T) / 2

    def code(
        self,
        A: np.ndarray,
        books: Sequence[Codebook],
        scales: Sequence[np.ndarray | None],
        rough: bool = False,
    ) -> list[Factor]:
        """The blocks of L^T for rows A, float32 (n, d), each with its codebook.

        A block whose scales are None gets those that fit its rows; see `quantize_solution`.
        """
        X = matmul(self._solved, A.T)
        errors = np.empty_like(X)
        factors = []
        for block, book, scale in zip(self._blocks, books, scales, strict=True):
            target = X[block.part]
            if block.part.start:
                target = target + matmul(block.pull, errors[: block.part.start])
            factor = quantize_solution(
                target, block.S, book, rough, scale=scale, factor=block.factor
            )
            np.subtract(X[block.part], factor.values, out=errors[block.part])
            factors.append(factor)
        return factors
