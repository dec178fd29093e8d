"""Plain rounding of a matrix whose rows come in tiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.coding.constant import constant_matrix
from lplr.coding.rounding import (
    check_rounding,
    fitted_affine,
    half_scale,
    minmax_affine,
    rounded_codes,
)
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.planning.sizes import rounding_nbytes
from lplr.progress import until
from lplr.quantizers.base import Codebook
from lplr.sources import Source
from lplr.streaming.moments import Moments, moments_of
from lplr.streaming.packed import PackedColumns, PackedRows
from lplr.streaming.passes import Passes
from lplr.streaming.results import Kept, Results
from lplr.streaming.room import open_passes

__all__ = ["quantize_in_passes", "rounded_in_a_pass"]

Affine = tuple[np.ndarray, np.ndarray | None]


def rounded_in_a_pass(
    passes: Passes,
    moments: Moments,
    book: Codebook,
    granularity: str,
    scaling: str,
    results: Results,
    *,
    down: bool = False,
    dither: int | None = None,
    weights: np.ndarray | None = None,
) -> tuple[Quantized | RowParts, float]:
    """Round all rows, as `lplr.coding.rounding.round_matrix` does, and the loss ``tr(E H E^T)``.

    The loss is in the units of the moments.

    ``dither`` is the seed of dithered rounding, ``weights`` H. Scales are those of the extrema, or
    fitted to the rows of the sample; those of rows are of each row by itself. Code words of several
    entries lie ``down`` the columns, or along the rows.
    """
    _, d = passes.shape
    turned = granularity == "column" or (down and not book.entrywise)
    by_rows = granularity == "row" and book.bits != 16
    shared = None if by_rows else _shared(book, moments, granularity, scaling, turned)
    unit = np.float32(1 / moments.unit)
    H = None if weights is None else weights.astype(np.float32)
    packed = PackedColumns if turned else PackedRows

    def code(part: slice) -> Kept:
        by_row: list[Affine] = []
        stored: Any = packed(part.stop - part.start, d, book)
        loss = 0.0

        def work(start: int, X: np.ndarray) -> tuple[int, Any, Affine, float]:
            X = X if unit == 1 else X * unit
            Y = np.ascontiguousarray(X.T) if turned else X
            scale, offset = shared or fitted_affine(Y, book, False, scaling)
            rng = None if dither is None else np.random.default_rng([dither, start])
            codes = rounded_codes(Y, stored.piece, scale, offset, rng)
            values = stored.piece.decode(codes).reshape(len(Y), -1)[:, : Y.shape[1]] * scale
            E = Y - (values if offset is None else values + offset)
            E = E.T if turned else E
            lost = float(np.vdot(E, E if H is None else E @ H))
            return start - part.start, stored.pack(codes), (scale, offset), lost

        def take(done: tuple[int, Any, Affine, float]) -> None:
            nonlocal loss
            start, codes, affine, lost = done
            stored.fill(start, codes)
            if shared is None:
                by_row.append(affine)
            loss += lost

        passes.each(work, take, "codes", part)
        scale, offset = shared or _joined(by_row)
        if turned:
            scale, offset = scale.reshape(1, -1), None if offset is None else offset.reshape(1, -1)
        f = stored.matrix(scale, offset)
        f = f if moments.unit == 1 else f.scaled(moments.unit)
        return {"f": f, "loss": np.array([loss])}

    total = 0.0
    for kept in results.coded(passes.parts, code):
        total += float(kept["loss"][0])
        del kept  # before the next one is there
    return results.joined(passes.parts, lambda _, kept: kept["f"]), max(total, 0.0)


def _joined(parts: list[Affine]) -> Affine:
    """The scales and offsets of the rows of all tiles, whose own are let go."""
    offsets = [offset for _, offset in parts if offset is not None]
    scale = np.concatenate([scale for scale, _ in parts])
    parts.clear()
    return scale, np.concatenate(offsets) if offsets else None


def _shared(
    book: Codebook, moments: Moments, granularity: str, scaling: str, turned: bool
) -> Affine:
    """The scale and the offset of all, or of each column, (d, 1)."""
    low, high = moments.extremes_of_columns
    if granularity == "tensor":
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    low, high = low.reshape(-1, 1), high.reshape(-1, 1)
    if book.bits == 16:
        return half_scale(np.maximum(high, -low)), None
    if scaling == "minmax":
        return minmax_affine(low, high, book)
    X = np.ascontiguousarray(moments.sample.T) if turned else moments.sample
    return fitted_affine(X, book, granularity == "tensor", scaling)


def quantize_in_passes(
    source: Source,
    limit: int,
    book: Codebook,
    granularity: str,
    scaling: str | None,
    rounding: str,
    rng: np.random.Generator,
    results: Results,
    *,
    down: bool,
) -> Quantized | RowParts:
    """`lplr.quantize` by two passes within ``limit`` bytes."""
    scaling = check_rounding(book, scaling, rounding)
    n, d = source.shape
    stored = rounding_nbytes((n, d), book, granularity)
    of_row = 8 if granularity == "row" else 0  # scales and offsets of tiles, before they are joined
    passes = open_passes(
        source, limit, rank=d, stored=stored, results=results, with_gram=False, of_row=of_row
    )
    with until(0.4):
        moments = moments_of(passes, results, by_column=True, with_gram=False)
    if moments.extrema.are_equal:
        axis = 0 if granularity == "column" or (down and not book.entrywise) else 1
        value = moments.extrema.low
        return results.joined(
            passes.parts,
            lambda part, _: constant_matrix((part.stop - part.start, d), book, value, axis),
        )
    seed = int(rng.integers(2**63)) if rounding == "dithered" else None
    how = book, granularity, scaling
    return rounded_in_a_pass(passes, moments, *how, results, down=down, dither=seed)[0]
