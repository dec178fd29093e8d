"""A backbone, after factors or alone, for a matrix whose rows come in tiles: one pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lplr.coding.backbone import ColumnGroup, FeedbackWeights, coded_groups
from lplr.coding.new_rows import pattern_of
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.planning.sizes import has_row_blocks
from lplr.streaming.moments import Moments
from lplr.streaming.packed import PackedColumns
from lplr.streaming.passes import Passes
from lplr.streaming.row_coder import RowCoder

__all__ = ["streamed_sum"]

_MIXED = 1024  # rows of a block, as in `lplr.planning.row_blocks`


def streamed_sum(
    passes: Passes,
    moments: Moments,
    like: QPlusLowRank,
    weights: FeedbackWeights,
    sweeps: int,
    *,
    weighted: bool = False,
) -> tuple[QPlusLowRank, float]:
    """Q + L R of all rows, on the R and at the scales that were found for few; and the loss.

    ``weights`` are those of the columns in the coordinates of ``like``. Blocks of neighbouring rows
    are mixed. L is coded first, as `RowCoder` does, under H as well if it is ``weighted``, and Q
    from what L R leave.
    """
    n, d = moments.shape
    V = None
    if like.left is not None:
        V = RandomizedTransform(n, like.left.seed, _MIXED if has_row_blocks(n) else None)
    patterns = pattern_of(like.backbone)
    columns = [PackedColumns(n, block.shape[1], block.codebook) for block in patterns]
    stops = np.cumsum([block.shape[1] for block in patterns]).tolist()
    groups = [
        ColumnGroup(stop - block.shape[1], stop, packed.piece)
        for block, packed, stop in zip(patterns, columns, stops, strict=True)
    ]
    scales = [float(block.scale[0, 0]) for block in patterns]
    coder, R = None, np.empty((0, d), np.float32)
    if like.low_rank is not None:
        R = like.low_rank.right.to_dense()
        H = None
        if weighted and weights.L is not None:
            H = matmul(weights.L * weights.D, weights.L.T)
        coder = RowCoder(R, pattern_of(like.low_rank.left), n, H)
    unit = np.float32(1 / moments.unit)
    right = like.right
    loss = 0.0

    def turn(start: int, X: np.ndarray) -> np.ndarray:
        X = X if unit == 1 else X * unit
        return X if right is None else right.apply(X, axis=1)

    def work(start: int, Z: np.ndarray) -> tuple[int, list[np.ndarray], list[np.ndarray], float]:
        packed: list[np.ndarray] = []
        if coder is not None:
            packed, values = coder.code(Z)
            Z = Z - values.T @ R
        found, _, error = coded_groups(Z, weights, groups, sweeps, scales)
        words = [part.pack(codes) for part, codes in zip(columns, found, strict=True)]
        return start, packed, words, weights.loss(np.ascontiguousarray(error))

    def take(done: tuple[int, list[np.ndarray], list[np.ndarray], float]) -> None:
        nonlocal loss
        start, packed, words, lost = done
        loss += lost
        for part, codes in zip(columns, words, strict=True):
            part.fill(start, codes)
        if coder is not None:
            for part, codes in zip(coder.columns, packed, strict=True):
                part.fill(start, codes)

    passes.each_mixed(V, turn, work, take, "Q and rows of L")
    blocks = tuple(part.matrix(block.scale) for part, block in zip(columns, patterns, strict=True))
    Q: Quantized | Stacked = blocks[0] if len(blocks) == 1 else Stacked(blocks, axis=1)
    low_rank = None
    if coder is not None:
        assert like.low_rank is not None
        low_rank = LowRank(coder.matrix(), like.low_rank.right)
    return replace(like, backbone=Q, low_rank=low_rank, left=V, meta={}), loss
