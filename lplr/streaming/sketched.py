"""The methods of the LPLR paper in passes: L is a rounded product of A, and R solved for L.

Algorithm 1 takes two passes: the range of the quantizer of ``A S``, which is found in the first
one, is all that its codes need; ``L^T L`` and ``L^T A``, summed up in the second one, give R. Where
S is not drawn but comes from A, by power iterations or as its singular vectors, a pass for the Gram
matrix comes before; so it does where a budget leaves open which codes to take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.coding.constant import constant_factors
from lplr.coding.lplr import normalized
from lplr.coding.rounding import (
    check_rounding,
    fitted_affine,
    half_scale,
    minmax_affine,
    round_matrix,
    rounded_codes,
    usable_inverse,
)
from lplr.linalg.ldl import ldl
from lplr.linalg.least_squares import solve
from lplr.linalg.qr import orthonormal_basis
from lplr.linalg.sketches import Sketch
from lplr.matrices.low_rank import LowRank
from lplr.matrices.row_parts import RowParts
from lplr.parallel import matmul
from lplr.planning.ranks import RankPlan
from lplr.progress import until
from lplr.quantizers.base import Codebook
from lplr.quantizers.uniform import Uniform
from lplr.sources import Source
from lplr.streaming.moments import (
    Extrema,
    FirstPass,
    Moments,
    checked,
    moments_of,
    sample_rows,
    sampled_in,
)
from lplr.streaming.packed import PackedColumns
from lplr.streaming.passes import Passes
from lplr.streaming.products import Products
from lplr.streaming.results import Kept, Results
from lplr.streaming.room import open_passes
from lplr.validation.matrices import bring_into_range, check_magnitude

__all__ = ["SketchedMethod", "sketched_in_passes"]

# As in `lplr.linalg.least_squares`, but for ``L^T A`` in float32, which cannot tell smaller
# eigenvalues of L^T L from zero.
_PIVOT_RATIO, _SMALLEST = 1e6, 1e-6

# Of a tile: its place in a part, its packed codes, L^T L, L^T A and the sums of columns of L.
_Tile = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SketchedMethod:
    """Arguments of `lplr.factorize`, checked, for all methods but "feedback"."""

    method: str
    sketch: str
    n_power_iter: int
    rounding: str
    normalize: bool
    seed: int


def sketched_in_passes(
    source: Source,
    limit: int,
    plans: list[RankPlan],
    nbytes: float | None,
    how: SketchedMethod,
    in_memory: Callable[[np.ndarray], list[LowRank]],
    constant_plan: Callable[[], RankPlan],
    first: FirstPass,
    results: Results,
) -> LowRank | RowParts:
    """A method of the LPLR paper, within ``limit`` bytes.

    Of several plans the one is carried out whose factors, made ``in_memory``, are best for the
    stand-in of few rows.
    """
    shape = source.shape
    for plan in plans:
        check_rounding(plan.books[0], None, how.rounding)
    with_gram = how.method != "lplr" or how.n_power_iter > 0 or len(plans) > 1
    passes = open_passes(
        source,
        limit,
        rank=max(plan.rank for plan in plans),
        stored=nbytes or max(plan.nbytes(shape) for plan in plans),
        results=results,
        with_gram=with_gram,
    )
    moments, plan = None, plans[0]
    if with_gram:
        with until(0.35):
            moments = first.moments = moments_of(passes, results)
        if not moments.extrema.are_equal and len(plans) > 1:
            S = moments.stand_in()
            errors = [f.relative_error(S) for f in in_memory(S)]
            plan = plans[int(np.argmin(errors))]
    rng = np.random.default_rng(how.seed if how.method == "lplr" else [how.seed, 1])
    apply, right = _start(how, plan.rank, shape[1], moments, rng)

    def range_pass() -> Kept:
        return _range_pass(passes, apply, plan, how.normalize)._kept()

    with until(0.6):
        found = _Range._from_kept(results.read_once("range", passes, range_pass))
    if found.extrema.are_equal:
        plan, value = constant_plan(), found.extrema.low
        return results.joined(
            passes.parts,
            lambda part, _: constant_factors(
                (part.stop - part.start, shape[1]), value, plan.rank, plan.books
            ),
        )
    return _second_pass(passes, apply, right, plan, found, how, rng, results)


def _start(
    how: SketchedMethod,
    m: int,
    d: int,
    moments: Moments | None,
    rng: np.random.Generator,
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray | None]:
    """What takes rows of A to rows of what L rounds, and R where it is not solved for."""
    if how.method == "lplr":
        S = Sketch(how.sketch, d, m).sample(rng, np.float32)
        if not how.n_power_iter:
            if how.sketch in ("srht", "sparse-sign"):  # faster than their dense matrices
                return S.apply, None
            T = S.to_dense()
            return (lambda X: X @ T), None
        assert moments is not None
        Z = S.to_dense().astype(np.float64)
        for _ in range(how.n_power_iter):
            Z = orthonormal_basis(matmul(moments.gram, Z))
        T, right = Z.astype(np.float32), None
    else:
        assert moments is not None
        s, V = moments.svd(m)
        T, right = np.ascontiguousarray(V.T), None
        if how.method == "direct-svd":
            T /= np.maximum(s, 1e-6 * s[0] + np.finfo(np.float32).tiny)
            right = s[:, None] * V
    return (lambda X: X @ T), right


@dataclass(frozen=True)
class _Range:
    """What the pass before the codes finds: of A its extrema and unit, of L what it is made of."""

    extrema: Extrema
    unit: float
    start: Extrema
    sample: np.ndarray
    total: float

    def _kept(self) -> Kept:
        ends = [self.extrema.low, self.extrema.high, self.start.low, self.start.high]
        return {"numbers": np.array([*ends, self.unit, self.total]), "sample": self.sample}

    @classmethod
    def _from_kept(cls, kept: Kept) -> _Range:
        low, high, lowest, highest, unit, total = kept["numbers"].tolist()
        start = Extrema(lowest, highest)
        return cls(Extrema(low, high), unit, start, kept["sample"], total)


def _range_pass(
    passes: Passes,
    apply: Callable[[np.ndarray], np.ndarray],
    plan: RankPlan,
    with_total: bool,
) -> _Range:
    name = passes.source.name
    rows = sample_rows(passes.shape)
    sample = np.empty((len(rows), plan.rank), np.float32)
    extrema, start_extrema, total = Extrema(), Extrema(), 0.0
    filled = 0

    def work(start: int, X: np.ndarray) -> tuple[Any, ...]:
        low, high = checked(X, name, start)
        Y = apply(X)
        part = float(X.sum(dtype=np.float64)) if with_total else 0.0
        sampled = Y[sampled_in(rows, start, len(X))]
        return low, high, float(Y.min()), float(Y.max()), part, sampled

    def take(found: tuple[Any, ...]) -> None:
        nonlocal total, filled
        sampled = found[5]
        sample[filled : filled + len(sampled)] = sampled
        filled += len(sampled)
        extrema.include(*found[:2])
        start_extrema.include(*found[2:4])
        total += found[4]

    passes.each(work, take, "range")
    check_magnitude(extrema.largest, name)
    unit, _ = bring_into_range(np.full((1, 1), extrema.largest, np.float32))
    sample *= np.float32(1 / unit)
    scaled = Extrema(start_extrema.low / unit, start_extrema.high / unit)
    return _Range(extrema, unit, scaled, sample, total / unit)


def _second_pass(
    passes: Passes,
    apply: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray | None,
    plan: RankPlan,
    found: _Range,
    how: SketchedMethod,
    rng: np.random.Generator,
    results: Results,
) -> LowRank | RowParts:
    shape = passes.shape
    m, book = plan.rank, plan.books[0]
    scale, offset = _affine(book, found)
    unit = np.float32(1 / found.unit)

    def code(part: slice) -> Kept:
        columns = PackedColumns(part.stop - part.start, m, book)
        products, sums = Products(m, shape[1]), np.zeros(m)

        def work(start: int, X: np.ndarray) -> _Tile:
            X = X if unit == 1 else X * unit
            dithered = how.rounding == "dithered"
            dither = np.random.default_rng([how.seed, 2, start]) if dithered else None
            codes, values = _rounded(apply(X), columns.piece, scale, offset, dither)
            G, B = products.of(values, X)
            of_columns = values.sum(axis=1, dtype=np.float64) if how.normalize else np.zeros(m)
            return start - part.start, columns.pack(codes), G, B, of_columns

        def take(done: _Tile) -> None:
            start, packed, G, B, of_columns = done
            columns.fill(start, packed)
            products.add(G, B)
            np.add(sums, of_columns, out=sums)

        passes.each(work, take, "rows of L", part)
        L = columns.matrix(scale, offset)
        return {"L": L, "gram": products.gram, "mixed": products.mixed, "sums": sums}

    products, sums = Products(m, shape[1]), np.zeros(m)
    with until(0.98):
        for kept in results.coded(passes.parts, code):
            products.add(kept["gram"], kept["mixed"])
            sums += kept["sums"]
            del kept  # before the next one is there
    G, B = products.gram, products.mixed
    packed = round_matrix(
        _solved(G, B) if right is None else right, plan.books[1], rounding=how.rounding, rng=rng
    )

    def factors(_: slice, kept: Kept) -> LowRank:
        L = kept["L"]
        if not how.normalize:
            return LowRank(L, packed).scaled(found.unit)
        return normalized(shape, found.total, sums, L, packed, G, B).scaled(found.unit)

    return results.joined(passes.parts, factors)


def _affine(book: Codebook, found: _Range) -> tuple[np.ndarray, np.ndarray | None]:
    """The one scale and offset of L; where they are fitted, for the sample."""
    low, high = (np.full((1, 1), x, np.float32) for x in (found.start.low, found.start.high))
    if book.bits == 16:
        return half_scale(np.maximum(high, -low)), None
    scaling = check_rounding(book, None, "nearest")
    if scaling == "minmax":
        return minmax_affine(low, high, book)
    X = found.sample if book.entrywise else np.ascontiguousarray(found.sample.T)
    return fitted_affine(X, book, True, scaling)


def _rounded(
    Y: np.ndarray,
    book: Codebook,
    scale: np.ndarray,
    offset: np.ndarray | None,
    dither: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Codes (m, words) and values (m, rows) of the rows of a tile, float32 (rows, m)."""
    if isinstance(book, Uniform) and offset is not None and dither is None:
        return _nearest(Y, book, scale, offset)
    X = np.ascontiguousarray(Y.T)
    codes = rounded_codes(X, book, scale, offset, dither)
    values = book.decode(codes).reshape(len(X), -1)[:, : X.shape[1]]
    values *= scale
    if offset is not None:
        values += offset
    return codes, values


def _nearest(
    Y: np.ndarray, book: Uniform, scale: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same for nearest uniform levels, in one go."""
    from lplr.kernels.scalar import round_columns

    inverse = usable_inverse(scale)
    codes, values = np.empty(Y.T.shape, np.uint8), np.empty(Y.T.shape, np.float32)
    affine = [x.item() for x in (offset, inverse, scale)]
    round_columns(Y, *map(np.float32, affine), 2**book.bits - 1, codes, values)
    return codes, values


def _solved(G: np.ndarray, B: np.ndarray) -> np.ndarray:
    """argmin |L W - A|, of least norm where L is rank deficient, float32 (m, d)."""
    from scipy.linalg import eigh

    try:
        _, D = ldl(G)
        if D.max() <= _PIVOT_RATIO * D.min():
            return solve(G, B.astype(np.float32))
    except np.linalg.LinAlgError:
        pass
    w, V = eigh(G, check_finite=False)
    keep = w > _SMALLEST * w[-1]
    w, V = w[keep], V[:, keep]
    return matmul(V / w, matmul(V.T, B)).astype(np.float32)
