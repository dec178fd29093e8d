"""Factors at a rate for each component: blocks of components are coded one after the other.

With one code for all components, those far above its noise are coded too coarsely and those near
it too finely. Reverse water-filling (`lplr.planning.waterfill`) gives each what it deserves;
components that are coded alike form a block. A block starts from its own singular vectors but is
fitted to the whole residual, so that it also mends what quantization did to the blocks before it
(successive refinement). Then each block is fitted again, with all others in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lplr.coding.alternation import factor_pair, refitted_pair
from lplr.coding.factor import (
    CodebookPair,
    Factor,
    FactorPair,
    fit_scales,
    normal_equations,
    quantize_factor,
    quantize_right,
    rescaled,
    stack_factors,
    weighted_gram,
)
from lplr.coding.factor_weights import FactorWeights
from lplr.coding.residual import ArrayResidual, OperatorResidual
from lplr.coding.tall import tall_factors
from lplr.coding.work import code_seconds, product_seconds
from lplr.linalg.ldl import squared_norm
from lplr.linalg.operators import InputOperator, Matrix
from lplr.linalg.qr import haar
from lplr.linalg.svd import SVD, ShortSVD
from lplr.matrices.low_rank import LowRank
from lplr.parallel import matmul
from lplr.progress import parts, until
from lplr.quantizers.scalar import ScalarCodebook

__all__ = ["ComponentBlock", "factors_seconds", "successive_factors", "weighted_factors"]

# By effort: passes of the alternation of each block, and rounds in which all blocks are fitted
# again (a second pass gains 1 to 3 %, the first round 0.4 to 0.9 %). For "fast" there are no sweeps
# either.
_PASSES = {"fast": (1, 0), "default": (2, 1), "best": (2, 2)}
# A block of more than this share of the shorter side, a pass of which takes long, is fitted once
# and not swept: its time grows with the square of its width, and another pass, as long as all the
# rest, would gain 1 to 4 %. Effort "best" spends it.
_WIDE, _LONG = 0.4, 2.0  # share; seconds as `lplr.coding.work` counts them
_TALL, _TALLNESS = 1 << 15, 16  # rows, and rows over columns, from which `tall_factors` takes over


@dataclass(frozen=True)
class ComponentBlock:
    """The singular components ``start`` to ``stop``, in descending order, which are coded alike."""

    start: int
    stop: int
    books: CodebookPair


def successive_factors(
    A: np.ndarray | InputOperator,
    svd: ShortSVD,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
    effort: str = "default",
) -> LowRank:
    """Factor A, float32 (n, d) or an operator, by blocks, each as `lplr.coding.alternation` says.

    The `ShortSVD` of A has at least as many components as the blocks cover, and ``rng`` draws
    their rotations. Several blocks make `Stacked` factors; ``meta["history"]`` has the relative
    error once all blocks are there and after each further step, unless A does not know its norm.
    Arrays of very many rows or columns are left to `tall_factors`, which takes half of the time.
    Neither paper has this. On sigma_k = 1/k it leaves 1.07 of the rate-distortion limit at one bit
    per entry, where the best single pair of widths leaves 1.19.
    """
    s, V = svd
    if isinstance(A, np.ndarray) and _is_tall(blocks, A.shape, effort):
        sizes = [block.stop - block.start for block in blocks]
        return tall_factors(A, svd, sizes, [block.books for block in blocks], rng)

    def fit(X: Matrix, i: int, passes: int) -> FactorPair:
        part = slice(blocks[i].start, blocks[i].stop)
        rough = effort == "fast" or _is_long(blocks[i], A.shape, effort)
        return factor_pair(X, (s[part], V[part]), blocks[i].books, rng, passes, rough)

    def refit(X: Matrix, i: int, pair: FactorPair) -> FactorPair:
        return refitted_pair(X, pair, blocks[i].books)

    residual = ArrayResidual(A, squared_norm) if isinstance(A, np.ndarray) else OperatorResidual(A)
    return _in_turn(residual, blocks, fit, refit, effort)


def weighted_factors(
    W: np.ndarray,
    svd: SVD,
    weights: FactorWeights,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
) -> LowRank:
    """Factor W, float32 (n, d), block by block under ``tr(G E H E^T)``.

    This wins at few bits per entry. ``svd`` is that of ``C W B``, C and B the roots of G and H in
    ``weights``; without the roots its vectors are the best real factors. The codes of R are scalar
    where H is not I; ``meta["history"]`` has relative errors under both weights, as in
    `successive_factors`. It is LPLRFactorize of CALDERA (Saha et al., NeurIPS 2024, Algorithm 2) by
    blocks, with feedback in place of nearest rounding. The best L for a given R does not depend on
    G, nor the best R for a given L on H, but what their errors weigh does: L is rounded under
    R H R^T, with feedback between its rows under G, and R by feedback in both directions, under
    (L^T G L) x H, so that errors fall in directions of small weight.
    """
    H, rows = weights.H, weights.rows
    U, s, _ = svd
    start = matmul(U.T, weights.row_root(W)) / np.sqrt(np.maximum(s, 1e-6 * s[0]))[:, None]

    def fit(X: np.ndarray, i: int, passes: int) -> FactorPair:
        part = slice(blocks[i].start, blocks[i].stop)
        size = part.stop - part.start
        R = matmul(haar(size, size, rng, np.float32), start[part].astype(np.float32))
        return alternate(X, R, blocks[i].books, passes)

    def alternate(X: np.ndarray, R: np.ndarray, books: CodebookPair, passes: int) -> FactorPair:
        for _ in range(passes):
            T, M = weighted_gram(R, H)
            left = quantize_factor(matmul(T.T.astype(np.float32), X.T), M, books[0], rows=rows)
            M, B = normal_equations(left.values, X, rows)
            if isinstance(books[1], ScalarCodebook):
                right = quantize_right(B, M, weights.factorization, books[1])
            else:
                right = quantize_factor(B, M, books[1])
            RH = matmul(right.values, H.astype(np.float32))
            right = rescaled(right, fit_scales(right, M, B, RH))
            R = right.values
        return left, right

    def refit(X: np.ndarray, i: int, pair: FactorPair) -> FactorPair:
        return alternate(X, pair[1].values, blocks[i].books, 1)

    return _in_turn(ArrayResidual(W, weights.loss), blocks, fit, refit)


def factors_seconds(
    blocks: Sequence[ComponentBlock], shape: tuple[int, int], effort: str = "default"
) -> float:
    """How long `successive_factors` takes, see `lplr.coding.work`."""
    passes, again = _schedule(blocks, shape, effort)
    work = [_seconds(block, shape) for block in blocks]
    return float(np.dot(work, passes)) + sum(work[i] for i in again)


def _schedule(
    blocks: Sequence[ComponentBlock], shape: tuple[int, int], effort: str
) -> tuple[list[int], list[int]]:
    """Passes of each block, and the blocks that are fitted again.

    One pass takes the row space of a long block from the singular vectors, so that it cannot mend
    what the blocks before it lose in their own: these end with the long factor as well, by one
    pass. After two of theirs the error was up to a quarter more.
    """
    passes, rounds = _PASSES[effort]
    if _is_tall(blocks, shape, effort):
        rounds = 0
    elif any(_is_long(block, shape, effort) for block in blocks):
        passes, rounds = 1, 0
    return [passes] * len(blocks), list(range(len(blocks))) * rounds


def _is_tall(blocks: Sequence[ComponentBlock], shape: tuple[int, int], effort: str) -> bool:
    """Whether R is small beside L, and fine, so that half of the time loses next to nothing.

    A budget, which makes several blocks, gives R more bits than L. One block may be coarse on both
    sides: then R gains 1 to 2 % from being fitted more often.
    """
    long, short = max(shape), min(shape)
    return effort == "default" and len(blocks) > 1 and long >= max(_TALL, _TALLNESS * short)


def _is_long(block: ComponentBlock, shape: tuple[int, int], effort: str) -> bool:
    """Whether the time of one pass is all that a block should get."""
    is_wide = block.stop - block.start > _WIDE * min(shape)
    return effort != "best" and is_wide and _seconds(block, shape) > _LONG


def _seconds(block: ComponentBlock, shape: tuple[int, int]) -> float:
    """How long a pass of a block takes."""
    k = block.stop - block.start
    products = 3 * product_seconds(*shape, k)
    return products + sum(
        code_seconds(k, side, book, 1) for side, book in zip(shape, block.books, strict=True)
    )


def _without_values(factor: Factor) -> Factor:
    """A factor that need not be multiplied: its codes and scales."""
    return replace(factor, values=np.broadcast_to(np.float32(0), factor.values.shape))


def _in_turn(
    residual: ArrayResidual | OperatorResidual,
    blocks: Sequence[ComponentBlock],
    fit: Callable[[Any, int, int], FactorPair],
    refit: Callable[[Any, int, FactorPair], FactorPair],
    effort: str = "default",
) -> LowRank:
    """Fit each block to what the others leave, then again; a fit that is worse is dropped."""
    energy, shape = residual.loss(), residual.matrix.shape
    passes, later = _schedule(blocks, shape, effort)
    work = np.array([_seconds(block, shape) for block in blocks])
    first, second = work * passes, work[later]
    pairs: list[FactorPair] = []
    with until(first.sum() / (first.sum() + second.sum()), "factors"):
        for i in parts(range(len(blocks)), first.tolist()):
            pairs.append(fit(residual.matrix, i, passes[i]))
            residual.subtract(pairs[i])
    history = [residual.loss()]
    for turn, i in enumerate(parts(later, second.tolist(), "factors, fitted again")):
        residual.add(pairs[i])
        start = pairs[i]
        if turn == len(later) - 1 and isinstance(residual, OperatorResidual):
            # No more is fitted to what they leave: the codes will do, should they be the better.
            pairs[i] = _without_values(start[0]), _without_values(start[1])
            tall = shape[0] >= shape[1]
            start = (pairs[i][0], start[1]) if tall else (start[0], pairs[i][1])
        again = refit(residual.matrix, i, start)
        residual.subtract(again)
        now = residual.loss()
        if now < history[-1]:
            pairs[i] = again
        else:
            residual.add(again)
            residual.subtract(pairs[i])
        history.append(min(now, history[-1]))
    meta = {}
    if residual.knows_norm:
        errors = [np.sqrt(max(loss, 0.0) / energy) if energy > 0 else 0.0 for loss in history]
        meta["history"] = [float(error) for error in errors]
    return stack_factors(pairs, [block.books for block in blocks], meta)
