"""Factors of a tall matrix by feedback, in two passes over its rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lplr.coding.blocks import ComponentBlock, successive_factors
from lplr.coding.factor import Factor, fit_scales, quantize_factor, rescaled
from lplr.coding.new_rows import pattern_of
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.progress import until
from lplr.streaming.moments import Moments
from lplr.streaming.passes import Passes
from lplr.streaming.products import Products
from lplr.streaming.row_coder import RowCoder

__all__ = ["factors_of_few", "rows_on", "streamed_factors"]

_ROUNDS = 2  # of fitting the blocks of R to each other


def factors_of_few(
    S: np.ndarray,
    moments: Moments,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
    effort: str = "default",
) -> LowRank:
    """L R for S, the stand-in of few rows."""
    return successive_factors(S, moments.svd(blocks[-1].stop, len(S)), blocks, rng, effort)


def streamed_factors(
    passes: Passes,
    moments: Moments,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
    effort: str = "default",
) -> LowRank:
    """L R for a matrix whose `Moments` are known: one more pass.

    R, and the scales of L, are found for the stand-in of few rows with the same Gram matrix; each
    row of A is coded on that R. Then R is fitted once more to all of L, from
    ``L^T L`` and ``L^T A``, and kept if it is better. On the distributions tried the error is that
    of all of A in memory, within 1 % where no row is far longer than the others.
    """
    with until(0.1, "factors of few rows"):
        found = factors_of_few(moments.stand_in(), moments, blocks, rng, effort)
    return rows_on(found, passes, moments, blocks)[0].scaled(moments.unit)


def rows_on(
    found: LowRank,
    passes: Passes,
    moments: Moments,
    blocks: Sequence[ComponentBlock],
    H: np.ndarray | None = None,
) -> tuple[LowRank, float]:
    """All rows on the R that was ``found`` for few, in the units of ``moments``; and the loss.

    The loss is ``tr(E H E^T)``; R is fitted once more if that lowers it.
    """
    R = found.right.to_dense()
    k = len(R)
    coder = RowCoder(R, pattern_of(found.left), moments.shape[0])
    products = Products(k, moments.shape[1])
    unit = np.float32(1 / moments.unit)

    def work(start: int, X: np.ndarray) -> tuple[int, list[np.ndarray], np.ndarray, np.ndarray]:
        X = X if unit == 1 else X * unit
        packed, values = coder.code(X)
        return start, packed, *products.of(values, X)

    def take(done: tuple[int, list[np.ndarray], np.ndarray, np.ndarray]) -> None:
        start, packed, G, B = done
        for columns, codes in zip(coder.columns, packed, strict=True):
            columns.fill(start, codes)
        products.add(G, B)

    with until(0.98):
        passes.each(work, take, "rows of L")
    right, again = _fitted_right(products, found.right, R, blocks)
    losses = [products.loss(r, moments.gram, H) for r in (R, again)]
    if losses[1] >= losses[0]:
        right, losses[1] = found.right, losses[0]
    norm = moments.energy if H is None else float(np.vdot(H, moments.gram))
    history = [float(np.sqrt(loss / norm)) if norm > 0 else 0.0 for loss in losses]
    return LowRank(coder.matrix(), right, meta={"history": history}), losses[1]


def _fitted_right(
    products: Products,
    right: Quantized | Stacked,
    R: np.ndarray,
    blocks: Sequence[ComponentBlock],
) -> tuple[Quantized | Stacked, np.ndarray]:
    """R for all rows of L, packed and dense: its blocks in turn, then all scales together."""
    G, B = products.gram, products.mixed
    R = R.copy()
    factors: dict[int, Factor] = {}
    for _ in range(_ROUNDS if len(blocks) > 1 else 1):
        for i, block in enumerate(blocks):
            part = slice(block.start, block.stop)
            others = R.copy()
            others[part] = 0
            rest = (B[part] - matmul(G[part], others)).astype(np.float32)
            factors[i] = quantize_factor(rest, G[part, part], block.books[1])
            R[part] = factors[i].values
    whole = Factor(np.empty(0), np.ones(len(R), np.float32), R)
    whole = rescaled(whole, fit_scales(whole, G, B))
    packed = tuple(
        Quantized(
            shape=(block.stop - block.start, R.shape[1]),
            quantizer=block.books[1].name,
            bits=block.books[1].bits,
            codes=block.books[1].pack(factors[i].codes, axis=1),
            scale=(factors[i].scale * whole.scale[block.start : block.stop])[:, None],
            axis=1,
        )
        for i, block in enumerate(blocks)
    )
    return packed[0] if len(packed) == 1 else Stacked(packed, axis=0), whole.values
