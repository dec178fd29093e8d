"""A trained correction in few bits, and a layer that carries it.

L R is coded as CALDERA codes its factors, under the second moment H of the inputs and, where it is
known, that of the gradients by the outputs, G: the loss is ``tr(G (L R - A) H (L R - A)^T)``, A the
product as it was trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

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
from lplr.linalg.qr import haar
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.quantizers.base import Codebook, get_codebook
from lplr.quantizers.scalar import ScalarCodebook

__all__ = ["adapted_layer", "code_factors"]

Product: TypeAlias = tuple[np.ndarray, np.ndarray]  # L^T and R, (rank, n) and (rank, d)
Weights: TypeAlias = "tuple[_Weight, _Weight | None]"  # of inputs, and of outputs

_PASSES = 3  # over R and L; the second and the third gain 1 to 5 %
_TRELLIS = 6  # bits up to which there is one; its L loses 17 % less than that of single entries
_SMALLEST = 1e-6  # of the largest singular value: what roots of float64 numbers cannot tell from 0


def adapted_layer(
    packed: PackedMatrix,
    scale: float,
    factors: tuple[np.ndarray, np.ndarray] | None,
    H: np.ndarray,
    bits: int,
    replaced: bool,
    G: np.ndarray | None = None,
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
    G : ndarray of shape (n, n), optional
        Second moment of the gradients by the outputs.
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
        G = G if packed.left is None or G is None else packed.left.two_sided(G)
    coded = code_factors(L, R, H, bits, G)
    if coded is None:
        return packed
    if isinstance(packed, LowRank):
        return replace(coded, shift=packed.shift) if replaced else _joined(packed, coded)
    if not isinstance(packed, QPlusLowRank):
        return QPlusLowRank(packed, coded, meta=packed.meta)
    before = None if replaced else packed.low_rank
    return replace(packed, low_rank=coded if before is None else _joined(before, coded))


def code_factors(
    L: np.ndarray, R: np.ndarray, H: np.ndarray, bits: int, G: np.ndarray | None = None
) -> LowRank | None:
    """L R, packed; None where it is zero.

    The components are mixed first, so that all count alike and feedback between them gains most.
    Then R is quantized by feedback in both directions, under L^T G L and H, and L under R H R^T,
    each for the other one as it is stored. For L there is a choice: a trellis codes each column as
    a whole, which leaves no feedback along it; where G is far from flat, as of queries and keys,
    feedback gains more.

    Parameters
    ----------
    L : ndarray of shape (n, rank), float32
    R : ndarray of shape (rank, d), float32
    H : ndarray of shape (d, d), float64
    bits : int
        Of an entry.
    G : ndarray of shape (n, n), float64, optional
        Second moment of the gradients by the outputs; the identity by default.
    """
    if not (L.any() and R.any()):
        return None
    weights = _Weight(H), None if G is None else _Weight(G)
    book = get_codebook("lloyd-max", bits)
    assert isinstance(book, ScalarCodebook)
    offered: list[Codebook] = [get_codebook("trellis", bits)] if bits <= _TRELLIS else []
    if G is not None or not offered:
        offered.append(book)
    found = [_coded(_mixed(L, R, weights, (each, book)), weights, each, book) for each in offered]
    (_, (left, right)), of_left = min(zip(found, offered, strict=True), key=lambda one: one[0][0])
    return pack_factors(left, right, right.scale, (of_left, book))


def _coded(
    meant: Product, weights: Weights, of_left: Codebook, of_right: ScalarCodebook
) -> tuple[float, FactorPair]:
    """The best of a few passes over R and L, and its loss."""
    of_inputs, of_outputs = weights
    best: tuple[float, FactorPair] | None = None
    left = meant[0]
    for _ in range(_PASSES):
        T, M = _gram_under(left, of_outputs)
        right = quantize_right(_onto(T, meant), M, of_inputs.factorization, of_right)
        T, M = weighted_gram(right.values, of_inputs.H)
        B = _onto(T, meant[::-1])
        if of_outputs is not None and isinstance(of_left, ScalarCodebook):
            coded = quantize_right(B, M, of_outputs.factorization, of_left)
        else:
            coded = quantize_factor(B, M, of_left)
        left = coded.values
        RH = T.T.astype(np.float32)
        T, M = _gram_under(left, of_outputs)
        pair = coded, rescaled(right, fit_scales(right, M, _onto(T, meant), RH))
        loss = _loss(pair, meant, weights)
        if best is None or loss < best[0]:
            best = loss, pair
    assert best is not None
    return best


class _Weight:
    """A second moment, damped, and its factorization."""

    def __init__(self, H: np.ndarray) -> None:
        self.H, _ = regularize(H)
        order, L, D = min_pivot_ldl(self.H)
        self.factorization = order, L.astype(np.float32), D


def _gram_under(X: np.ndarray, weight: _Weight | None) -> tuple[np.ndarray, np.ndarray]:
    """``G X^T`` and ``X G X^T`` in float64 for a wide X."""
    return (X.T, gram(X)) if weight is None else weighted_gram(X, weight.H)


def _onto(T: np.ndarray, pair: Product) -> np.ndarray:
    """``T^T A``, float32, for the product A = X^T Y of a pair of wide X and Y."""
    return matmul(matmul(T.T.astype(np.float32), pair[0].T), pair[1])


def _mixed(L: np.ndarray, R: np.ndarray, weights: Weights, books: CodebookPair) -> Product:
    """L^T and R of the same product, (rank, n) and (rank, d), in other coordinates of the rank.

    First those of the singular values of ``G^(1/2) L R H^(1/2)``, split as `split_exponent` says;
    then a random rotation. Components that are zero to working precision are left out.
    """
    L, R = L.astype(np.float64), R.astype(np.float64)
    _, P = _gram_under(L.T, weights[1])
    _, M = weighted_gram(R, weights[0].H)
    # With P = B B^T and M = C C^T the singular values are those of B^T C.
    B, C = _root(P), _root(M)
    U, s, Vt = np.linalg.svd(B.T @ C)
    kept = s > _SMALLEST * s[0]
    s, U, Vt = s[kept], U[:, kept], Vt[kept]
    a, _ = split_exponent(s, books)
    rotation = haar(len(s), len(s), np.random.default_rng(0)).T
    # L B^-T U and Vt C^-1 R are orthonormal under G and H: L R = (L B^-T U) s (Vt C^-1 R).
    left = rotation @ ((s ** (a - 1))[:, None] * (Vt @ C.T) @ L.T)
    right = rotation @ ((s**-a)[:, None] * (U.T @ B.T) @ R)
    return left.astype(np.float32), right.astype(np.float32)


def _root(M: np.ndarray) -> np.ndarray:
    """B with B B^T = M, for a positive semi-definite M."""
    w, V = np.linalg.eigh(M)
    return V * np.sqrt(np.maximum(w, 0))


def _loss(pair: FactorPair, meant: Product, weights: Weights) -> float:
    """``tr(G E H E^T)``, E the difference of both products: of rank 2 k, and never formed."""
    _, P = _gram_under(np.concatenate([pair[0].values, -meant[0]]), weights[1])
    _, M = weighted_gram(np.concatenate([pair[1].values, meant[1]]), weights[0].H)
    return float(np.sum(P * M))


def _joined(before: LowRank, more: LowRank) -> LowRank:
    """The sum of two products, as one."""
    left, right = (
        Stacked((*_blocks(a, axis), *_blocks(b, axis)), axis)
        for a, b, axis in ((before.left, more.left, 1), (before.right, more.right, 0))
    )
    return LowRank(left, right, before.shift, before.meta)


def _blocks(factor: Quantized | Stacked, axis: int) -> tuple[Quantized | Stacked, ...]:
    return factor.blocks if isinstance(factor, Stacked) and factor.axis == axis else (factor,)
