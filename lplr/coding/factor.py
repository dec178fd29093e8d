"""One quantized factor: solved for, rounded by feedback, rescaled and packed.

Factors hold the inner axis first: row k of L^T and of R belong to component k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lplr.coding.feedback import quantize_feedback, quantize_two_sided
from lplr.coding.row_feedback import RowFeedback, pack_rows
from lplr.linalg.ldl import Factorization
from lplr.linalg.least_squares import gram, solve
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.quantizers.base import Codebook
from lplr.quantizers.scalar import ScalarCodebook
from lplr.quantizers.trellis_codebook import TrellisCodebook

__all__ = [
    "CodebookPair",
    "Factor",
    "FactorPair",
    "damped",
    "fit_scales",
    "normal_equations",
    "pack_factors",
    "product",
    "quantize_factor",
    "quantize_right",
    "quantize_solution",
    "rescaled",
    "stack_factors",
    "weighted_gram",
]

CodebookPair = tuple[Codebook, Codebook]  # of L and of R

# Sweeps of coordinate descent after each feedback pass. A trellis code, which looks at hundreds of
# entries at a time, gains only 0.1 % from the second one.
_SWEEPS, _TRELLIS_SWEEPS = 2, 1
# Share of the mean diagonal added to a Gram matrix: it keeps a rank-deficient one factorizable and
# is invisible in the error (measured flat from 1e-9 to 1e-3).
GRAM_DAMPING = 1e-4


@dataclass
class Factor:
    """A quantized factor: row k of its values is ``scale[k]`` times a row of codebook points."""

    codes: np.ndarray  # (m, ceil(n / group))
    scale: np.ndarray  # (m,), float32
    values: np.ndarray  # (m, n), float32
    in_blocks: bool = False  # of columns, see `lplr.coding.row_feedback`


FactorPair = tuple[Factor, Factor]  # of L^T and of R


def product(left: Factor, right: Factor) -> np.ndarray:
    """L R, dense float32 of shape (n, d)."""
    return matmul(left.values.T, right.values)


def damped(G: np.ndarray) -> np.ndarray:
    """A Gram matrix plus `GRAM_DAMPING` of its mean diagonal."""
    return G + GRAM_DAMPING * np.trace(G) / len(G) * np.eye(len(G))


def weighted_gram(R: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``H R^T`` and ``R H R^T`` in float64, the second exactly symmetric."""
    R = R.astype(np.float64)
    T = matmul(H, R.T)
    M = matmul(R, T)
    return T, (M + M.T) / 2


def normal_equations(
    L: np.ndarray, A: np.ndarray, rows: RowFeedback | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``L^T G L``, float64, and ``L^T G A``, whose ratio is the best R; L is held as L^T.

    G is that of ``rows``, by default the identity.
    """
    if rows is None:
        return gram(L), matmul(L, A)
    weighted = matmul(L.astype(np.float64), rows.G)
    M = matmul(weighted, L.T.astype(np.float64))
    return (M + M.T) / 2, matmul(weighted.astype(np.float32), A)


def quantize_factor(
    B: np.ndarray,
    G: np.ndarray,
    book: Codebook,
    scale: np.ndarray | None = None,
    rows: RowFeedback | None = None,
) -> Factor:
    """Solve G X = B for X (m, n), and quantize X by feedback under G, and ``rows`` if any.

    B is float32; G is float64, positive semi-definite, and damped here. Where no scales are given,
    X chooses them.
    """
    G = damped(G)
    return quantize_solution(solve(G, B), G, book, scale=scale, rows=rows)


def quantize_solution(
    X: np.ndarray,
    G: np.ndarray,
    book: Codebook,
    rough: bool = False,
    scale: np.ndarray | None = None,
    rows: RowFeedback | None = None,
    factor: Factorization | None = None,
) -> Factor:
    """Quantize X, float32 (m, n), by feedback under a damped G, and ``rows`` if any.

    A ``rough`` factor gets no sweeps, since another pass will replace it. ``factor`` is what
    `min_pivot_ldl` returns for G, where that is known.
    """
    n = X.shape[1]
    if n % book.group:
        X = np.pad(X, ((0, 0), (0, -n % book.group)))
    sweeps = 0 if rough else _TRELLIS_SWEEPS if isinstance(book, TrellisCodebook) else _SWEEPS
    codes, scale, error = quantize_feedback(
        X, G, book, scale, sweeps=sweeps, rows=rows, factor=factor
    )
    np.subtract(X, error, out=error)
    return Factor(codes, scale, np.ascontiguousarray(error[:, :n]), rows is not None)


def quantize_right(
    B: np.ndarray, G: np.ndarray, factorization: Factorization, book: ScalarCodebook
) -> Factor:
    """Quantize R (m, d) for L^T A = B and L^T L = G by feedback in both directions, under G x H.

    ``factorization`` is an LDL factorization of H in some order, with L in float32. G is damped
    here; each row of R gets one scale.
    """
    G = damped(G)
    columns = np.ascontiguousarray(solve(G, B).T)
    scale = np.sqrt(np.mean(np.square(columns, dtype=np.float64), axis=0)) * book.gaussian_scale
    scale = scale.astype(np.float32)
    codes, error = quantize_two_sided(columns, factorization, G, book, scale)
    return Factor(codes.T, scale, np.ascontiguousarray((columns - error).T))


def fit_scales(
    right: Factor, G: np.ndarray, B: np.ndarray, RH: np.ndarray | None = None
) -> np.ndarray:
    """The scales of the rows of R that minimise the error while all codes stay as they are.

    With R = diag(t) R_0 the error is a quadratic in t: ``t^T (G * R_0 H R_0^T) t - 2 b^T t``, where
    * is the entrywise product, b the row sums of ``B * R_0 H``, G = L^T L in float64 and B = L^T A.
    By default R_0 H is R_0: H is the identity.
    """
    R = right.values
    weighted = R if RH is None else RH
    P = gram(R) if RH is None else matmul(RH.astype(np.float64), R.T.astype(np.float64))
    M = G * (P + P.T) / 2
    b = np.einsum("ij,ij->i", B, weighted, dtype=np.float64)
    t = np.ones(len(b))
    try:
        fitted = np.linalg.solve(M + 1e-9 * np.trace(M) / len(b) * np.eye(len(b)), b)
    except np.linalg.LinAlgError:  # a zero matrix
        fitted = t
    if np.isfinite(fitted).all() and fitted @ M @ fitted - 2 * b @ fitted < t @ M @ t - 2 * b @ t:
        t = fitted
    return (right.scale * t).astype(np.float32)


def rescaled(factor: Factor, scale: np.ndarray) -> Factor:
    """The same codes at other scales; a row of scale 0 keeps it."""
    ratio = np.divide(scale, factor.scale, out=np.zeros_like(scale), where=factor.scale > 0)
    values = factor.values * ratio[:, None]
    return replace(factor, scale=factor.scale * ratio, values=values)


def pack_factors(
    left: Factor,
    right: Factor,
    scale: np.ndarray,
    books: CodebookPair,
    meta: dict[str, Any] | None = None,
) -> LowRank:
    """The packed L R; all scales are stored with the rows of R, whose own become ``scale``."""
    m = len(scale)
    return LowRank(
        pack_rows(left.codes.T, books[0], (left.values.shape[1], m), 1.0, in_blocks=left.in_blocks),
        Quantized(
            shape=(m, right.values.shape[1]),
            quantizer=books[1].name,
            bits=books[1].bits,
            codes=books[1].pack(right.codes, axis=1),
            scale=(left.scale * scale)[:, None].astype(np.float32),
            axis=1,
        ),
        meta=meta or {},
    )


def stack_factors(
    pairs: Sequence[FactorPair],
    books: Sequence[CodebookPair],
    meta: dict[str, Any] | None = None,
) -> LowRank:
    """The packed L R of factors in blocks of components; several blocks make `Stacked` factors."""
    packed = [
        pack_factors(left, right, right.scale, pair)
        for (left, right), pair in zip(pairs, books, strict=True)
    ]
    left, right = packed[0].left, packed[0].right
    if len(packed) > 1:
        left = Stacked(tuple(f.left for f in packed), axis=1)
        right = Stacked(tuple(f.right for f in packed), axis=0)
    return LowRank(left, right, meta=meta or {})
