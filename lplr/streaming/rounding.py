"""Plain rounding of a matrix whose rows come in tiles."""

from __future__ import annotations

import numpy as np

from lplr.coding.rounding import (
    fitted_affine,
    half_scale,
    minmax_affine,
    rounded_codes,
)
from lplr.matrices.quantized import Quantized
from lplr.quantizers.base import Codebook
from lplr.streaming.moments import Moments
from lplr.streaming.packed_columns import PackedColumns
from lplr.streaming.passes import Passes

__all__ = ["rounded_in_a_pass"]

Affine = tuple[np.ndarray, np.ndarray | None]


def rounded_in_a_pass(
    passes: Passes,
    moments: Moments,
    book: Codebook,
    granularity: str,
    scaling: str,
    *,
    down: bool = False,
    dither: int | None = None,
    weights: np.ndarray | None = None,
) -> tuple[Quantized, float]:
    """Round all rows, as `lplr.coding.rounding.round_matrix` does, and the loss ``tr(E H E^T)``.

    ``dither`` is the seed of dithered rounding, ``weights`` H. Scales are those of the extrema, or
    fitted to the rows of the sample; those of rows are of each row by itself. Code words of several
    entries lie ``down`` the columns, or along the rows.
    """
    n, d = passes.shape
    turned = granularity == "column" or (down and not book.entrywise)
    shared = None if granularity == "row" else _shared(book, moments, granularity, scaling, turned)
    by_row: list[Affine] = []
    unit = np.float32(1 / moments.unit)
    H = None if weights is None else weights.astype(np.float32)
    packed = np.empty(book.nbytes(d, n), np.uint8)
    columns = None
    if turned:
        assert shared is not None
        columns = PackedColumns(n, d, book, scale=shared[0].reshape(1, -1))
    loss, at = 0.0, 0

    def work(start: int, X: np.ndarray) -> tuple[int, np.ndarray, Affine, float]:
        X = X if unit == 1 else X * unit
        Y = np.ascontiguousarray(X.T) if turned else X
        scale, offset = shared if shared is not None else fitted_affine(Y, book, False, scaling)
        rng = None if dither is None else np.random.default_rng([dither, start])
        piece = book if columns is None else columns.piece
        codes = rounded_codes(Y, piece, scale, offset, rng)
        values = piece.decode(codes).reshape(len(Y), -1)[:, : Y.shape[1]] * scale
        E = Y - (values if offset is None else values + offset)
        E = E.T if turned else E
        lost = float(np.vdot(E, E if H is None else E @ H))
        bytes_ = book.pack(codes, 1) if columns is None else columns.pack(codes)
        return start, bytes_, (scale, offset), lost

    def take(done: tuple[int, np.ndarray, Affine, float]) -> None:
        nonlocal loss, at
        start, codes, affine, lost = done
        if columns is not None:
            columns.fill(start, codes)
        else:
            packed[at : at + len(codes)] = codes
            at += len(codes)
        if shared is None:
            by_row.append(affine)
        loss += lost

    passes.each(work, take, "codes")
    if shared is not None:
        scale, offset = shared
    else:
        scale = np.concatenate([part[0] for part in by_row])
        offsets = [part[1] for part in by_row if part[1] is not None]
        offset = np.concatenate(offsets) if offsets else None
    if turned:
        scale, offset = scale.reshape(1, -1), None if offset is None else offset.reshape(1, -1)
    if columns is not None:
        packed = columns.packed
    packed.flags.writeable = False
    q = Quantized(
        shape=(n, d),
        quantizer=book.name,
        bits=book.bits,
        codes=packed,
        scale=scale,
        offset=offset,
        axis=0 if turned else 1,
    )
    return q, max(loss, 0.0)


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
