"""Rows of L on an R that is fixed, coded a tile at a time into one packed matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lplr.coding.joint import JointFeedback
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import run_blocks
from lplr.streaming.packed import PackedColumns
from lplr.streaming.passes import tile_rows

__all__ = ["RowCoder", "coded_in_tiles"]


def coded_in_tiles(
    A: np.ndarray, R: np.ndarray, blocks: Sequence[Quantized], H: np.ndarray | None = None
) -> Quantized | Stacked:
    """The L of rows that are all there, float32 (n, d), as `RowCoder` codes them."""
    coder = RowCoder(R, blocks, len(A), H)

    def tile(start: int, stop: int) -> None:
        for columns, codes in zip(coder.columns, coder.code(A[start:stop])[0], strict=True):
            columns.fill(start, codes)

    run_blocks(tile, len(A), tile_rows(len(A)))
    return coder.matrix()


class RowCoder:
    """Codes rows of L for tiles of A, by `JointFeedback`.

    Parameters
    ----------
    R : ndarray of shape (m, d), float32
    blocks : sequence of Quantized
        What the blocks of columns of L are coded like; their shapes have the numbers of columns.
    n : int
        Rows of A.
    H : ndarray of shape (d, d), float64, optional
        Second moment under which errors of rows of A count.
    rough : bool
        Without sweeps: half of the time.
    """

    def __init__(
        self,
        R: np.ndarray,
        blocks: Sequence[Quantized],
        n: int,
        H: np.ndarray | None = None,
        rough: bool = False,
    ) -> None:
        self._joint = JointFeedback(R, [block.shape[1] for block in blocks], H)
        self.columns = [PackedColumns(n, block.shape[1], block.codebook) for block in blocks]
        self._rough = rough
        self._scales = [block.scale for block in blocks]
        self._of_columns = [
            np.broadcast_to(block.scale.reshape(-1), (block.shape[1],)).copy() for block in blocks
        ]

    def code(self, X: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """The packed bytes of the rows of a tile, of each block, and their values (m, rows)."""
        pieces = [columns.piece for columns in self.columns]
        factors = self._joint.code(X, pieces, self._of_columns, self._rough)
        packed = [c.pack(f.codes) for c, f in zip(self.columns, factors, strict=True)]
        return packed, np.concatenate([factor.values for factor in factors])

    def matrix(self) -> Quantized | Stacked:
        """L, once all tiles are filled in."""
        blocks = tuple(
            columns.matrix(scale) for columns, scale in zip(self.columns, self._scales, strict=True)
        )
        return blocks[0] if len(blocks) == 1 else Stacked(blocks, axis=1)
