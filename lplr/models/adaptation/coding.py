"""A trained correction in few bits, and a layer that carries it.

L R is coded as CALDERA codes its factors, under the second moment H of the inputs: the loss is
``tr((L R - A) H (L R - A)^T)``, A the product as it was trained.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lplr.coding.alternation import split_exponent
from lplr.coding.factor import (
    CodebookPair,
    FactorPair,
    fit_scales,
    pack_factors,
    quantize_factor,
    quantize_right,
    rescaled,
    weighted_gram,
)
from lplr.linalg.hessian import regularize
from lplr.linalg.ldl import min_pivot_ldl
from lplr.linalg.least_squares import gram
from lplr.linalg.qr import haar, thin_qr
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.quantizers.base import get_codebook
from lplr.quantizers.scalar import ScalarCodebook

__all__ = ["adapted_layer", "code_factors"]

_PASSES = 3  # over R and L: each but the first gains some 2 to 6 %
_CODE = "lloyd-max"  # feedback in both directions takes a code of single entries
_SMALLEST = 1e-12  # eigenvalue over the largest that is no rounding


def adapted_layer(
    packed: PackedMatrix,
    scale: float,
    factors: tuple[np.ndarray, np.ndarray] | None,
    H: np.ndarray,
    bits: int,
    replaced: bool,
) -> PackedMatrix:
    """A packed layer that stands for ``scale`` times what it was, plus L R in few bits.

    Parameters
    ----------
    packed : PackedMatrix of shape (n, d)
    scale : float
    factors : (ndarray of shape (n, rank), ndarray of shape (rank, d)), optional
    H : ndarray of shape (d, d), float64
        Second moment of the inputs.
    bits : int
        Of an entry of L or R.
    replaced : bool
        Whether L R takes the place of the factors that the layer has.
    """
    if scale != 1.0:
        packed = packed.scaled(scale)
    if factors is None:
        return packed
    L, R = factors
    if isinstance(packed, QPlusLowRank):
        L = L if packed.left is None else packed.left.apply(L)
        R = R if packed.right is None else packed.right.apply(R, axis=1)
        H = H if packed.right is None else packed.right.two_sided(H)
    coded = code_factors(L, R, H, bits)
    if coded is None:
        return packed
    if isinstance(packed, LowRank):
        return coded if replaced else _joined(packed, coded)
    if not isinstance(packed, QPlusLowRank):
        return QPlusLowRank(packed, coded, meta=packed.meta)
    before = None if replaced else packed.low_rank
    return replace(packed, low_rank=coded if before is None else _joined(before, coded))


def code_factors(L: np.ndarray, R: np.ndarray, H: np.ndarray, bits: int) -> LowRank | None:
    """L R, packed; None where it is zero.

    The components are mixed first, so that all count alike and feedback between them gains most.
    Then R is quantized by feedback in both directions, under L^T L and H, and L by feedback under
    R H R^T, each for the other one as it is stored.

    Parameters
    ----------
    L : ndarray of shape (n, rank), float32
    R : ndarray of shape (rank, d), float32
    H : ndarray of shape (d, d), float64
    bits : int
        Of an entry.
    """
    if not (L.any() and R.any()):
        return None
    H, _ = regularize(H)
    order, T, D = min_pivot_ldl(H)
    factorization = order, T.astype(np.float32), D
    book = get_codebook(_CODE, bits)
    assert isinstance(book, ScalarCodebook)
    books = book, book
    meant = _mixed(L, R, H, books)
    left = meant[0]
    best: tuple[float, FactorPair] | None = None
    for _ in range(_PASSES):
        right = quantize_right(_seen(left, meant), gram(left), factorization, book)
        weighted, M = weighted_gram(right.values, H)
        onto = matmul(weighted.T.astype(np.float32), meant[1].T)
        coded = quantize_factor(matmul(onto, meant[0]), M, book)
        left = coded.values
        scale = fit_scales(right, gram(left), _seen(left, meant), weighted.T.astype(np.float32))
        pair = coded, rescaled(right, scale)
        loss = _loss(pair, meant, H)
        if best is None or loss < best[0]:
            best = loss, pair
    assert best is not None
    return pack_factors(*best[1], best[1][1].scale, books)


def _mixed(
    L: np.ndarray, R: np.ndarray, H: np.ndarray, books: CodebookPair
) -> tuple[np.ndarray, np.ndarray]:
    """L^T and R of the same product, (rank, n) and (rank, d), in other coordinates of the rank.

    First those of the singular values of ``L R H^(1/2)``, split as `split_exponent` says; then a
    random rotation. Components that are zero to working precision are left out.
    """
    Q, T = thin_qr(L.astype(np.float64))
    TR = T @ R
    _, M = weighted_gram(TR, H)
    values, U = np.linalg.eigh(M)
    kept = values > _SMALLEST * values[-1]
    s, U = np.sqrt(values[kept])[::-1], U[:, kept][:, ::-1]
    a, _ = split_exponent(s, books)
    rotation = haar(len(s), len(s), np.random.default_rng(0)).T
    left = rotation @ ((s**a)[:, None] * (Q @ U).T)
    right = rotation @ ((s**-a)[:, None] * (U.T @ TR))
    return left.astype(np.float32), right.astype(np.float32)


def _seen(left: np.ndarray, meant: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """``L^T A`` of an L^T (rank, n), for the product A of a pair."""
    return matmul(matmul(left, meant[0].T), meant[1])


def _loss(pair: FactorPair, meant: tuple[np.ndarray, np.ndarray], H: np.ndarray) -> float:
    """``tr(E H E^T)``, E the difference of both products: of rank 2 k, and never formed."""
    left = np.concatenate([pair[0].values, -meant[0]])
    _, M = weighted_gram(np.concatenate([pair[1].values, meant[1]]), H)
    return float(np.sum(gram(left) * M))


def _joined(before: LowRank, more: LowRank) -> LowRank:
    """The sum of two products, as one."""
    left, right = (
        Stacked((*_blocks(a), *_blocks(b)), axis)
        for a, b, axis in ((before.left, more.left, 1), (before.right, more.right, 0))
    )
    return LowRank(left, right, before.shift, before.meta)


def _blocks(factor: Quantized | Stacked) -> tuple[Quantized, ...]:
    return factor.blocks if isinstance(factor, Stacked) else (factor,)
