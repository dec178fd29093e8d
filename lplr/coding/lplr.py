"""The factorizations of LPLR (Saha, Srivastava, Pilanci, NeurIPS 2023), both factors rounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lplr.coding.factor import CodebookPair
from lplr.coding.rounding import round_matrix
from lplr.linalg.least_squares import gram, least_squares
from lplr.linalg.operators import InputOperator, multiply
from lplr.linalg.sketches import Sketch
from lplr.linalg.svd import range_finder
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized

__all__ = ["normalized", "rounded_factors", "sketched_start", "solved_factors"]


def sketched_start(
    A: np.ndarray | InputOperator, m: int, sketch: str, n_power_iter: int, rng: np.random.Generator
) -> np.ndarray:
    """The random sketch of the columns of A, float32 (n, m), that Algorithm 1 of LPLR rounds."""
    if n_power_iter:
        return range_finder(A, m, sketch=sketch, n_power_iter=n_power_iter, rng=rng)
    return Sketch(sketch, A.shape[1], m).sample(rng, np.float32).apply(A)


def solved_factors(
    A: np.ndarray | InputOperator,
    start: np.ndarray,
    books: CodebookPair,
    rounding: str,
    normalize: bool,
    rng: np.random.Generator,
) -> LowRank:
    """Algorithm 1 of LPLR: L = Q(start), R = Q'(argmin_W |L W - A|_F).

    The start, float32 (n, m), is ``A S`` for LPLR and ``U_m Sigma_m`` for LPLR-SVD; ``rng`` serves
    dithered rounding.
    """
    left = round_matrix(start, books[0], rounding=rounding, rng=rng, axis=0)
    W, G, B = least_squares(left.to_dense(), A)
    right = round_matrix(W, books[1], rounding=rounding, rng=rng)
    return _normalized(A, left, right, G, B) if normalize else LowRank(left, right)


def rounded_factors(
    A: np.ndarray | InputOperator,
    U: np.ndarray,
    V: np.ndarray,
    books: CodebookPair,
    rounding: str,
    normalize: bool,
    rng: np.random.Generator,
) -> LowRank:
    """Direct-SVD: U (n, m) and V = Sigma_m V_m^T (m, d) are rounded, and nothing is solved."""
    U = np.ascontiguousarray(U)
    left = round_matrix(U, books[0], rounding=rounding, rng=rng, axis=0)
    right = round_matrix(V, books[1], rounding=rounding, rng=rng)
    if not normalize:
        return LowRank(left, right)
    L = left.to_dense()
    return _normalized(A, left, right, gram(np.ascontiguousarray(L.T)), multiply(L.T, A))


def _normalized(
    A: np.ndarray | InputOperator, left: Quantized, right: Quantized, G: np.ndarray, B: np.ndarray
) -> LowRank:
    """`normalized` for A itself."""
    sums = left._rmatmat(np.ones((A.shape[0], 1)))[:, 0]
    a = A.sum() if isinstance(A, InputOperator) else float(A.sum(dtype=np.float64))
    return normalized(A.shape, a, sums, left, right, G, B)


def normalized(
    shape: tuple[int, ...],
    a: float,
    sums: np.ndarray,
    left: Quantized,
    right: Quantized,
    G: np.ndarray,
    B: np.ndarray,
) -> LowRank:
    """alpha L R + beta with the scalars that minimise |A - (alpha L R + beta 1)|_F.

    ``a`` is the sum of the entries of A, ``sums`` those of the columns of L. With P = L R:
    <P, P> = <L^T L, R R^T> and <P, A> = <L^T A, R>, so that P is never formed.
    """
    R = right.to_dense()
    pp = float(np.vdot(G, gram(R)))
    pa = float(np.einsum("ij,ij->", B, R, dtype=np.float64))
    p = float(sums @ R.sum(axis=1, dtype=np.float64))
    count = shape[0] * shape[1]
    determinant = pp * count - p * p
    if determinant <= 1e-12 * pp * count:  # the product is constant: the shift alone says it all
        alpha, beta = 1.0, (a - p) / count
    else:
        alpha, beta = (pa * count - p * a) / determinant, (pp * a - p * pa) / determinant
    offset = None if right.offset is None else right.offset * np.float32(alpha)
    right = replace(right, scale=right.scale * np.float32(alpha), offset=offset)
    return LowRank(left, right, shift=beta)
