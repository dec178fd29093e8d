"""Feedback factorization of matrices with very many rows.

R has few entries there, and its best values hardly depend on how L is rounded: it starts from the
singular vectors, all of L is coded on it in one pass (`lplr.coding.joint`), and R is fitted to that
L, block by block. `lplr.coding.blocks`, which alternates block after block, codes each entry of L
up to three times and multiplies with all of A for each block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lplr.coding.alternation import rotated_start
from lplr.coding.factor import (
    CodebookPair,
    Factor,
    damped,
    fit_scales,
    quantize_factor,
    quantize_solution,
    rescaled,
    stack_factors,
)
from lplr.coding.joint import JointFeedback
from lplr.linalg.ldl import squared_norm
from lplr.linalg.least_squares import gram
from lplr.linalg.svd import ShortSVD
from lplr.matrices.low_rank import LowRank
from lplr.parallel import matmul
from lplr.progress import parts, until

__all__ = ["factors_on_start", "fitted_right", "tall_factors"]

_ROUNDS = 2  # of fitting the blocks of R to each other


def tall_factors(
    A: np.ndarray,
    svd: ShortSVD,
    sizes: Sequence[int],
    books: Sequence[CodebookPair],
    rng: np.random.Generator,
) -> LowRank:
    """L R for A, float32 (n, d) with one side much larger than the other, of its `ShortSVD`.

    Blocks of ``sizes`` components are coded alike. L, the longer factor, is coded twice, at first
    without sweeps, and R is fitted after each time. ``meta["history"]`` has the relative errors
    after each fit, the last of them as measured: the others come from products in float32.
    """
    wide, given = A.shape[0] < A.shape[1], A
    A, own = (A.T, [pair[::-1] for pair in books]) if wide else (A, books)
    left_books = [pair[0] for pair in own]
    free = [None] * len(books)
    right = _start(svd, sizes, own, rng)
    norm = squared_norm(A)
    history = []
    for rough in parts((True, False), [1, 2], "factors"):
        R = _values(right)
        with until(0.8):
            left = JointFeedback(R, sizes).code(A, left_books, free, rough)
        L = _values(left)
        G, B = gram(L), matmul(L, A)
        del L
        again = fitted_right(G, B, R, own, sizes)
        gains = [_explained(G, B, values) for values in (R, _values(again))]
        if gains[1] >= gains[0]:
            right = again
        loss = max(norm - max(gains), 0.0)
        history.append(float(np.sqrt(loss / norm)) if norm > 0 else 0.0)
    sides = (right, left) if wide else (left, right)
    f = stack_factors(list(zip(*sides, strict=True)), books)
    history[-1] = f.relative_error(given)
    return replace(f, meta={"history": history})


def factors_on_start(
    A: np.ndarray,
    svd: ShortSVD,
    sizes: Sequence[int],
    books: Sequence[CodebookPair],
    rng: np.random.Generator,
) -> LowRank:
    """The R that `tall_factors` starts from, and the L of few rows on it."""
    right = _start(svd, sizes, books, rng)
    joint = JointFeedback(_values(right), sizes)
    left = joint.code(A, [pair[0] for pair in books], [None] * len(books), rough=True)
    return stack_factors(list(zip(left, right, strict=True)), books)


def fitted_right(
    G: np.ndarray,
    B: np.ndarray,
    R: np.ndarray,
    books: Sequence[CodebookPair],
    sizes: Sequence[int],
) -> list[Factor]:
    """The blocks of R for an L of ``G = L^T L`` and ``B = L^T A``: in turn, then all scales.

    They start from R, float32 (m, d).
    """
    R = R.copy()
    factors: list[Factor] = [None] * len(sizes)  # type: ignore[list-item]
    for _ in range(_ROUNDS if len(sizes) > 1 else 1):
        for i, part in enumerate(_slices(sizes)):
            others = R.copy()
            others[part] = 0
            rest = (B[part] - matmul(G[part], others)).astype(np.float32)
            factors[i] = quantize_factor(rest, G[part, part], books[i][1])
            R[part] = factors[i].values
    scale = np.concatenate([factor.scale for factor in factors])
    scale = fit_scales(Factor(np.empty(0), scale, R), G, B)
    return [rescaled(f, scale[part]) for f, part in zip(factors, _slices(sizes), strict=True)]


def _start(
    svd: ShortSVD, sizes: Sequence[int], books: Sequence[CodebookPair], rng: np.random.Generator
) -> list[Factor]:
    """The blocks of R from the singular vectors, see `rotated_start`."""
    s, V = svd
    factors = []
    for part, pair in zip(_slices(sizes), books, strict=True):
        start, G = rotated_start((s[part], V[part]), pair, rng)
        factors.append(quantize_solution(start, damped(G), pair[1], rough=True))
    return factors


def _slices(sizes: Sequence[int]) -> list[slice]:
    stops = np.cumsum(sizes).tolist()
    return [slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def _values(factors: Sequence[Factor]) -> np.ndarray:
    return np.concatenate([factor.values for factor in factors])


def _explained(G: np.ndarray, B: np.ndarray, R: np.ndarray) -> float:
    """``|A|^2 - |A - L R|^2``, from ``G = L^T L`` and ``B = L^T A``."""
    R = R.astype(np.float64)
    return 2.0 * float(np.vdot(B, R)) - float(np.vdot(G @ R, R))
