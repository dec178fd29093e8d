"""Factors of a tall matrix by feedback, in two passes over its rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lplr.coding.blocks import ComponentBlock, successive_factors
from lplr.coding.factor import Factor
from lplr.coding.new_rows import pattern_of
from lplr.coding.tall import factors_on_start, fitted_right
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.matrices.stacked import Stacked
from lplr.progress import until
from lplr.streaming.moments import Moments
from lplr.streaming.passes import Passes
from lplr.streaming.products import Products, Residual
from lplr.streaming.results import Kept, Results
from lplr.streaming.row_coder import RowCoder

__all__ = ["factors_of_few", "streamed_factors"]

# Of a tile: its first row, the packed rows of L, their products, and what they leave.
_Tile = tuple[int, list[np.ndarray], tuple[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def factors_of_few(
    S: np.ndarray,
    moments: Moments,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
    effort: str = "default",
) -> LowRank:
    """R for all rows, and the L of S, the stand-in of few.

    An R that is fitted to few rows fits these better than all: it is left as the singular vectors
    give it. In a single block, which may be coarse, it is fitted all the same.
    """
    svd = moments.svd(blocks[-1].stop, len(S))
    if len(blocks) == 1:
        return successive_factors(S, svd, blocks, rng, effort)
    sizes = [block.stop - block.start for block in blocks]
    return factors_on_start(S, svd, sizes, [block.books for block in blocks], rng)


def streamed_factors(
    passes: Passes,
    moments: Moments,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
    results: Results,
    effort: str = "default",
    H: np.ndarray | None = None,
) -> tuple[LowRank | RowParts, float]:
    """L R for a matrix whose `Moments` are known, and the loss in their units: one more pass.

    R, and the scales of L, come from `factors_of_few`; each row of A is coded on that R. Then R is
    fitted to all of L, from ``L^T L`` and ``L^T A``, and kept if it is better. This is
    `lplr.coding.tall` with one turn instead of two. The loss is ``tr(E H E^T)``.
    """

    def few() -> Kept:
        return {"": factors_of_few(moments.stand_in(), moments, blocks, rng, effort)}

    with until(0.1, "factors of few rows"):
        found = results.once("factors", few)[""]
    R = found.right.to_dense()
    k, d = R.shape
    pattern, unit = pattern_of(found.left), np.float32(1 / moments.unit)

    def code(part: slice) -> Kept:
        coder = RowCoder(R, pattern, part.stop - part.start, rough=effort == "fast")
        products, residual = Products(k, d), Residual(k, d)

        def work(start: int, X: np.ndarray) -> _Tile:
            X = X if unit == 1 else X * unit
            packed, values = coder.code(X)
            return start, packed, Products.of(values, X), Residual.of(values, X, R, H)

        def take(done: _Tile) -> None:
            start, packed, of_products, of_residual = done
            for columns, codes in zip(coder.columns, packed, strict=True):
                columns.fill(start - part.start, codes)
            products.add(*of_products)
            residual.add(*of_residual)

        passes.each(work, take, "rows of L", part)
        sums = {"gram": products.gram, "mixed": products.mixed}
        left = {"loss": np.array([residual.loss]), "residual": residual.mixed}
        return {"L": coder.matrix(), **sums, **left}

    products, residual = Products(k, d), Residual(k, d)
    with until(0.98):
        for kept in results.coded(passes.parts, code):
            products.add(kept["gram"], kept["mixed"])
            residual.add(float(kept["loss"][0]), kept["residual"])
            del kept  # before the next one is there
    sizes = [block.stop - block.start for block in blocks]
    books = [block.books for block in blocks]
    again = fitted_right(products.gram, products.mixed, R, books, sizes)
    values = np.concatenate([factor.values for factor in again])
    losses = [residual.loss, residual.loss_after(values - R, products.gram, H)]
    right = _packed_right(again, blocks)
    if losses[1] >= losses[0]:
        right, losses[1] = found.right, losses[0]
    norm = moments.energy if H is None else float(np.vdot(H, moments.gram))
    history = [float(np.sqrt(loss / norm)) if norm > 0 else 0.0 for loss in losses]
    f = results.joined(
        passes.parts,
        lambda _, kept: LowRank(kept["L"], right).scaled(moments.unit),
        {"history": history},
    )
    return f, losses[1]


def _packed_right(
    factors: Sequence[Factor], blocks: Sequence[ComponentBlock]
) -> Quantized | Stacked:
    """R, of blocks of rows."""
    packed = tuple(
        Quantized(
            shape=factor.values.shape,
            quantizer=block.books[1].name,
            bits=block.books[1].bits,
            codes=block.books[1].pack(factor.codes, axis=1),
            scale=factor.scale[:, None],
            axis=1,
        )
        for factor, block in zip(factors, blocks, strict=True)
    )
    return packed[0] if len(packed) == 1 else Stacked(packed, axis=0)
