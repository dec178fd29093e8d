"""Feedback factorization: both factors are quantized by feedback, in alternation.

Neither paper has this. For a given L the error of R is ``|L (R - X)|^2`` plus a constant, X the
least-squares solution, so each column of R is a quantization problem under the Hessian L^T L; rows
of L likewise under R R^T. Only the products of the scales of L and R matter: they are stored once,
and fitted exactly, which includes the best shrinkage of the whole product.
"""

from __future__ import annotations

import numpy as np

from lplr.coding.factor import (
    CodebookPair,
    FactorPair,
    fit_scales,
    pack_factors,
    quantize_factor,
    rescaled,
)
from lplr.linalg.ldl import squared_norm
from lplr.linalg.least_squares import gram
from lplr.linalg.qr import haar
from lplr.linalg.rotated_pivots import expected_pivot_sum
from lplr.linalg.svd import SVD
from lplr.matrices.low_rank import LowRank
from lplr.parallel import matmul

__all__ = ["PASSES", "alternate", "feedback_factors", "rotated_start", "split_exponent"]

# By effort; a fourth pass gains less than 0.3 %.
PASSES = {"fast": 1, "default": 3, "best": 4}


def feedback_factors(
    A: np.ndarray,
    svd: SVD,
    books: CodebookPair,
    rng: np.random.Generator,
    passes: int = PASSES["default"],
) -> LowRank:
    """Factor A, float32 (n, d), at the rank of its truncated SVD, with a codebook for each factor.

    At most ``passes`` passes are made; ``rng`` draws the rotation of the rank space. In the result,
    ``meta["history"]`` has the relative error after each pass: a difference of energies, right to
    about 1e-3 of the norm.
    """
    energy = squared_norm(A)
    (left, right), history = alternate(A, rotated_start(svd, books, rng), books, passes)
    errors = [float(np.sqrt(max(loss, 0.0) / energy)) for loss in history]
    return pack_factors(left, right, right.scale, books, {"history": errors})


def rotated_start(svd: SVD, books: CodebookPair, rng: np.random.Generator) -> np.ndarray:
    """The right factor to start from: ``G^T Sigma^(1-a) V^T``, float32 (m, d), G a random rotation.

    Without the rotation the Hessians of both factors would be diagonal and feedback would gain
    nothing; a balances what the two codes lose, see `split_exponent`. G is Haar-distributed: a
    randomized Hadamard matrix, all of whose entries have one magnitude, gives a Hessian of nearly
    constant diagonal, whose pivots are 1 % worse and make a two-bit code overload.
    """
    _, s, Vt = svd
    a, _ = split_exponent(s, books)
    floor = np.maximum(s, s[0] * 1e-6) ** (1 - a)
    G = haar(len(s), len(s), rng).astype(np.float32)
    return matmul(G, (floor[:, None] * Vt).astype(np.float32))


def split_exponent(s: np.ndarray, books: CodebookPair) -> tuple[float, float]:
    """The split Sigma^a | Sigma^(1-a) that loses least: a, and the squared error that coding adds.

    ``s`` has the singular values that are kept. After a random rotation each column of L has
    variance mean(s^2a) / n, and feedback under R R^T leaves mse times that times the sum of the
    pivots of R R^T; the same holds for R with the roles exchanged. The coarser factor deserves the
    flatter Hessian: a < 1/2 where L has fewer bits.
    """
    s = np.maximum(np.asarray(s, np.float64), s[0] * 1e-6)
    # The grid is symmetric: the variance of L at a is that of R at 1 - a.
    grid = np.linspace(0.15, 0.85, 15)
    variance = np.array([np.mean(s ** (2 * a)) for a in grid])
    pivots = np.array([expected_pivot_sum(s ** (2 * a)) for a in grid])
    noise = (
        books[0].gaussian_mse * variance * pivots[::-1]
        + books[1].gaussian_mse * variance[::-1] * pivots
    )
    best = int(np.argmin(noise))
    return float(grid[best]), float(noise[best])


def alternate(
    A: np.ndarray, R: np.ndarray, books: CodebookPair, passes: int
) -> tuple[FactorPair, list[float]]:
    """Quantize L for R, then R for L, in turn; return the best pair and the squared errors.

    The start R, float32 (m, d), need not be quantized. The alternation ends after ``passes``
    passes, or when the error no longer falls. The scales of the R that is returned are fitted, and
    each pass adds its error with fitted scales to the list. But the next pass starts from the
    scales that were rounded to: starting from fitted ones was up to 1.7 % worse.
    """
    energy = squared_norm(A)
    best: FactorPair | None = None
    history: list[float] = []
    for turn in range(passes):
        rough = turn == 0 and passes > 1
        left = quantize_factor(matmul(R, A.T), gram(R), books[0], rough)
        G = gram(left.values)
        B = matmul(left.values, A)
        right = quantize_factor(B, G, books[1], rough)
        R = right.values
        fitted = rescaled(right, fit_scales(right, G, B))
        cross = float(np.einsum("ij,ij->", B, fitted.values, dtype=np.float64))
        history.append(energy - 2.0 * cross + float(np.vdot(G, gram(fitted.values))))
        if best is not None and history[-1] >= min(history[:-1]):
            break
        best = left, fitted
    assert best is not None
    return best, history
