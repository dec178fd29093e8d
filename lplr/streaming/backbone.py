"""A backbone, after factors or alone, for a matrix whose rows come in tiles: one pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lplr.coding.backbone import ColumnGroup, FeedbackWeights, coded_groups
from lplr.coding.new_rows import pattern_of
from lplr.linalg.transforms import RandomizedTransform
from lplr.linalg.triangular import scaled_square
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.matrices.stacked import Stacked
from lplr.planning.sizes import has_row_blocks
from lplr.streaming.moments import Moments
from lplr.streaming.packed import PackedColumns
from lplr.streaming.passes import Passes
from lplr.streaming.results import Kept, Results
from lplr.streaming.row_coder import RowCoder

__all__ = ["streamed_sum"]

_MIXED = 1024  # rows of a block, as in `lplr.planning.row_blocks`

# Of a tile: its place in a part, the packed rows of L and of Q, and the loss.
_Tile = tuple[int, list[np.ndarray], list[np.ndarray], float]


def streamed_sum(
    passes: Passes,
    moments: Moments,
    like: QPlusLowRank,
    weights: FeedbackWeights,
    sweeps: int,
    results: Results,
    *,
    weighted: bool = False,
) -> tuple[QPlusLowRank | RowParts, float]:
    """Q + L R of all rows, on the R and at the scales found for few; the loss in their units.

    ``weights`` are those of the columns in the coordinates of ``like``. Blocks of neighbouring rows
    are mixed. L is coded first, as `RowCoder` does, under H as well if it is ``weighted``, and Q
    from what L R leave.
    """
    R = np.empty((0, moments.shape[1]), np.float32)
    pattern_of_L: list[Quantized] = []
    if like.low_rank is not None:
        R, pattern_of_L = like.low_rank.right.to_dense(), pattern_of(like.low_rank.left)
    H = None
    if weighted and weights.L is not None:
        H = scaled_square(weights.L.astype(np.float64), weights.D)
    patterns = pattern_of(like.backbone)
    scales = [float(block.scale[0, 0]) for block in patterns]
    stops = np.cumsum([block.shape[1] for block in patterns]).tolist()
    unit = np.float32(1 / moments.unit)
    right = like.right

    def turn(start: int, X: np.ndarray) -> np.ndarray:
        X = X if unit == 1 else X * unit
        return X if right is None else right.apply(X, axis=1)

    def code(part: slice) -> Kept:
        n = part.stop - part.start
        columns = [PackedColumns(n, block.shape[1], block.codebook) for block in patterns]
        groups = [
            ColumnGroup(stop - block.shape[1], stop, packed.piece)
            for block, packed, stop in zip(patterns, columns, stops, strict=True)
        ]
        coder = RowCoder(R, pattern_of_L, n, H) if pattern_of_L else None
        loss = 0.0

        def work(start: int, Z: np.ndarray) -> _Tile:
            packed: list[np.ndarray] = []
            if coder is not None:
                packed, values = coder.code(Z)
                Z = Z - values.T @ R
            found, _, _, lost = coded_groups(Z, weights, groups, sweeps, scales)
            words = [piece.pack(codes) for piece, codes in zip(columns, found, strict=True)]
            return start, packed, words, lost

        def take(done: _Tile) -> None:
            nonlocal loss
            start, packed, words, lost = done
            loss += lost
            for piece, codes in zip(columns, words, strict=True):
                piece.fill(start, codes)
            if coder is not None:
                for piece, codes in zip(coder.columns, packed, strict=True):
                    piece.fill(start, codes)

        V = _mixing(like, n)
        passes.each_mixed(V, turn, work, take, "Q and rows of L", part)
        blocks = tuple(
            piece.matrix(block.scale) for piece, block in zip(columns, patterns, strict=True)
        )
        Q: Quantized | Stacked = blocks[0] if len(blocks) == 1 else Stacked(blocks, axis=1)
        low_rank = None
        if coder is not None:
            assert like.low_rank is not None
            low_rank = LowRank(coder.matrix(), like.low_rank.right)
        f = replace(like, backbone=Q, low_rank=low_rank, left=V, meta={})
        return {"f": f.scaled(moments.unit), "loss": np.array([loss])}

    total = 0.0
    for kept in results.coded(passes.parts, code):
        total += float(kept["loss"][0])
        del kept  # before the next one is there
    return results.joined(passes.parts, lambda _, kept: kept["f"]), total


def _mixing(like: QPlusLowRank, n: int) -> RandomizedTransform | None:
    """The transform of the rows of a part."""
    if like.left is None:
        return None
    return RandomizedTransform(n, like.left.seed, _MIXED if has_row_blocks(n) else None)
