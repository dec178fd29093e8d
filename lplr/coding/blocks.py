"""Factors at a rate for each component: blocks of components are coded one after the other.

With one code for all components, those far above its noise are coded too coarsely and those near
it too finely. Reverse water-filling (`lplr.planning.waterfill`) gives each what it deserves;
components that are coded alike form a block. A block starts from its own singular vectors but is
fitted to the whole residual, so that it also mends what quantization did to the blocks before it
(successive refinement). Then each block is fitted again, with all others in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lplr.coding.alternation import alternate, rotated_start
from lplr.coding.backbone import FeedbackWeights
from lplr.coding.factor import (
    CodebookPair,
    FactorPair,
    fit_scales,
    product,
    quantize_factor,
    quantize_right,
    rescaled,
    stack_factors,
    weighted_gram,
)
from lplr.linalg.ldl import squared_norm
from lplr.linalg.least_squares import gram
from lplr.linalg.qr import haar
from lplr.linalg.svd import SVD
from lplr.matrices.low_rank import LowRank
from lplr.parallel import matmul

__all__ = ["ComponentBlock", "successive_factors", "weighted_factors"]

# By effort: passes of the alternation of each block (a third one would gain 0.2 %), and rounds in
# which all blocks are fitted again (the first gains 0.9 to 1.8 %, the second 0.4 to 0.9 % more).
_PASSES = {"fast": (1, 0), "default": (2, 1), "best": (2, 2)}


@dataclass(frozen=True)
class ComponentBlock:
    """The singular components ``start`` to ``stop``, in descending order, which are coded alike."""

    start: int
    stop: int
    books: CodebookPair


def successive_factors(
    A: np.ndarray,
    svd: SVD,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
    effort: str = "default",
) -> LowRank:
    """Factor A, float32 (n, d), block by block, each as `lplr.coding.alternation` says.

    The truncated SVD of A has at least as many components as the blocks cover, and ``rng`` draws
    their rotations. Several blocks make `Stacked` factors; ``meta["history"]`` has the relative
    error once all blocks are there and after each further step. Neither paper has this. On
    sigma_k = 1/k it leaves 1.07 of the rate-distortion limit at one bit per entry, where the best
    single pair of widths leaves 1.19.
    """
    U, s, Vt = svd
    parts = [slice(block.start, block.stop) for block in blocks]
    starts = (
        rotated_start((U[:, part], s[part], Vt[part]), block.books, rng)
        for part, block in zip(parts, blocks, strict=True)
    )

    def fit(X: np.ndarray, R: np.ndarray, books: CodebookPair, passes: int) -> FactorPair:
        return alternate(X, R, books, passes)[0]

    return _in_turn(A, blocks, starts, fit, squared_norm, effort)


def weighted_factors(
    W: np.ndarray,
    svd: SVD,
    weights: FeedbackWeights,
    blocks: Sequence[ComponentBlock],
    rng: np.random.Generator,
) -> LowRank:
    """Factor W, float32 (n, d), block by block under a Hessian.

    This wins far below one bit per entry. ``svd`` is that of ``W L D^(1/2)``, where H = L diag(D)
    L^T is not the identity; the codes of R are scalar; ``meta["history"]`` has relative errors
    under H, as in `successive_factors`. It is LPLRFactorize of CALDERA (Saha et al., NeurIPS 2024,
    Algorithm 2) by blocks, with feedback in place of nearest rounding. Errors of L weigh under
    R H R^T; R is rounded by feedback in both directions, under (L^T L) x H, so that its errors fall
    in directions of small weight.
    """
    L, D = weights.L, weights.D
    assert L is not None
    H = matmul(L * D, L.T)
    factorization = np.arange(len(L)), L.astype(np.float32), D
    U, s, _ = svd
    rows = matmul(U.T, W) / np.sqrt(np.maximum(s, 1e-6 * s[0]))[:, None]
    sizes = [block.stop - block.start for block in blocks]
    starts = (
        matmul(haar(size, size, rng).astype(np.float32), rows[b.start : b.stop].astype(np.float32))
        for size, b in zip(sizes, blocks, strict=True)
    )

    def fit(X: np.ndarray, R: np.ndarray, books: CodebookPair, passes: int) -> FactorPair:
        for _ in range(passes):
            T, M = weighted_gram(R, H)
            left = quantize_factor(matmul(T.T.astype(np.float32), X.T), M, books[0])
            G, B = gram(left.values), matmul(left.values, X)
            right = quantize_right(B, G, factorization, books[1])  # type: ignore[arg-type]
            RH = matmul(right.values, H.astype(np.float32))
            right = rescaled(right, fit_scales(right, G, B, RH))
            R = right.values
        return left, right

    return _in_turn(W, blocks, starts, fit, weights.loss)


def _in_turn(
    A: np.ndarray,
    blocks: Sequence[ComponentBlock],
    starts: Iterable[np.ndarray],
    fit: Callable[[np.ndarray, np.ndarray, CodebookPair, int], FactorPair],
    loss: Callable[[np.ndarray], float],
    effort: str = "default",
) -> LowRank:
    """Fit each block to what the others leave, then again; a fit that is worse is dropped."""
    residual, energy = A.copy(), loss(A)
    passes, rounds = _PASSES[effort]
    pairs: list[FactorPair] = []
    for block, start in zip(blocks, starts, strict=True):
        pairs.append(fit(residual, start, block.books, passes))
        residual -= product(*pairs[-1])
    history = [loss(residual)]
    for i, block in [*enumerate(blocks)] * (rounds if len(blocks) > 1 else 0):
        residual += product(*pairs[i])
        again = fit(residual, pairs[i][1].values, block.books, 1)
        rest = product(*again)
        np.subtract(residual, rest, out=rest)
        now = loss(rest)
        if now < history[-1]:
            residual, pairs[i] = rest, again
        else:
            residual -= product(*pairs[i])
        history.append(min(now, history[-1]))
    errors = [float(np.sqrt(value / energy)) if energy > 0 else 0.0 for value in history]
    return stack_factors(pairs, [block.books for block in blocks], {"history": errors})
