"""Rows coded on an R that stays as it is, with the codebooks, widths and scales of a given L.

With R fixed, ``|A - L R|^2`` under H is ``tr((X - L^T)^T G (X - L^T))`` plus a constant, where
``G = R H R^T`` and ``X = G^-1 R H A^T``: each row of A is a quantization problem of its own. Blocks
of components that have codebooks of their own are coded in turn, each with all others in place.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lplr.coding.factor import quantize_factor
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul

__all__ = ["coded_rows"]

_ROUNDS = 2  # over several blocks: the second lowers the error by 0.1 to 0.3 %, the third by 0.05 %


def coded_rows(G: np.ndarray, B: np.ndarray, left: Quantized | Stacked) -> Quantized | Stacked:
    """The rows of L that lose least under G, coded like ``left``, whose components are columns.

    G is ``R H R^T``, float64 (m, m); B is ``R H A^T``, float64 (m, p). No scale or offset of
    ``left`` may be that of a row.
    """
    several = isinstance(left, Stacked)
    blocks = left.blocks if several else (left,)
    edges = np.cumsum([0] + [block.shape[1] for block in blocks])
    parts = [slice(i, j) for i, j in pairwise(edges.tolist())]
    values = np.zeros(B.shape)
    coded: list[Quantized] = []
    for _ in range(_ROUNDS if len(blocks) > 1 else 1):
        coded = []
        for block, part in zip(blocks, parts, strict=True):
            offset = _each(block.offset, block.shape[1])
            others = values.copy()
            others[part] = offset  # what L is where all levels are 0
            rest = B[part] - matmul(G[part], others)
            factor = quantize_factor(
                rest.astype(np.float32),
                G[part, part],
                block.codebook,
                scale=_each(block.scale, block.shape[1])[:, 0],
            )
            values[part] = factor.values + offset
            coded.append(
                Quantized(
                    (B.shape[1], block.shape[1]),
                    block.quantizer,
                    block.bits,
                    block.codebook.pack(factor.codes.T, axis=0),
                    block.scale,
                    block.offset,
                    axis=0,
                )
            )
    return Stacked(tuple(coded), axis=1) if several else coded[0]


def _each(scale: np.ndarray | None, count: int) -> np.ndarray:
    """The scale of each column, float32 (count, 1); 0 where there is none."""
    given = np.zeros((1, 1), np.float32) if scale is None else scale
    return np.ascontiguousarray(np.broadcast_to(given.reshape(-1, 1), (count, 1)))
