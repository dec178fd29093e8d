"""Rows of L on an R that is fixed, coded a tile at a time into one packed matrix.

For a given R, ``|A - L R|^2`` is a constant plus ``tr((X - L^T)^T G (X - L^T))``, G = R R^T and
``X = G^-1 R A^T``: each row of A is a quantization problem of its own. Columns of L that have a
codebook of their own are coded in turn, each with all others in place, as in
`lplr.coding.new_rows`. What all tiles share is worked out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lplr.coding.factor import damped, quantize_solution, weighted_gram
from lplr.linalg.ldl import Factorization, min_pivot_ldl
from lplr.linalg.least_squares import gram, solve
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.streaming.packed import PackedColumns

__all__ = ["RowCoder"]

_ROUNDS = 2  # over several blocks: a third lowers the error by 0.05 %


@dataclass(frozen=True)
class _Turn:
    """One block of columns of L, with what its least squares need."""

    part: slice
    others: np.ndarray  # G^-1 G', of the columns of other blocks, float32
    G: np.ndarray
    factor: Factorization
    scale: np.ndarray


class RowCoder:
    """Codes rows of L for tiles of A.

    Parameters
    ----------
    R : ndarray of shape (m, d), float32
    blocks : sequence of Quantized
        What the blocks of columns of L are coded like; their shapes have the numbers of columns.
    n : int
        Rows of A.
    H : ndarray of shape (d, d), float64, optional
        Second moment under which errors of rows of A count; then ``G = R H R^T`` and
        ``X = G^-1 R H A^T``.
    """

    def __init__(
        self, R: np.ndarray, blocks: Sequence[Quantized], n: int, H: np.ndarray | None = None
    ) -> None:
        if H is None:
            RH, G = R, gram(R)
        else:
            T, G = weighted_gram(R, H)
            RH = T.T.astype(np.float32)
        if not G.any():  # with an R of zeros, all L are alike
            G = np.eye(len(R))
        self.columns = [PackedColumns(n, block.shape[1], block.codebook) for block in blocks]
        self._scales = [block.scale for block in blocks]
        self._turns: list[_Turn] = []
        self._solved = np.empty_like(R)  # G^-1 R, of each block by itself
        stop = 0
        for block in blocks:
            part = slice(stop, stop + block.shape[1])
            stop = part.stop
            D = damped(G[part, part])
            self._solved[part] = solve(D, RH[part])
            others = G[part].copy()
            others[:, part] = 0
            scale = np.broadcast_to(block.scale.reshape(-1), (block.shape[1],)).copy()
            turn = _Turn(part, solve(D, others), D, min_pivot_ldl(D), scale)
            self._turns.append(turn)

    def code(self, X: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """The packed bytes of the rows of a tile, of each block, and their values (m, rows)."""
        Y = matmul(self._solved, X.T)
        values = np.zeros_like(Y)
        packed: list[np.ndarray] = []
        several = len(self._turns) > 1
        for last in [False] * (_ROUNDS - 1) * several + [True]:
            for turn, columns in zip(self._turns, self.columns, strict=True):
                target = Y[turn.part]
                if several:
                    target = target - turn.others @ values
                factor = quantize_solution(
                    target, turn.G, columns.piece, scale=turn.scale, factor=turn.factor
                )
                values[turn.part] = factor.values
                if last:
                    packed.append(columns.pack(factor.codes))
        return packed, values

    def matrix(self) -> Quantized | Stacked:
        """L, once all tiles are filled in."""
        blocks = tuple(
            columns.matrix(scale) for columns, scale in zip(self.columns, self._scales, strict=True)
        )
        return blocks[0] if len(blocks) == 1 else Stacked(blocks, axis=1)
