"""Feedback factorization: both factors are quantized by feedback, in alternation.

Neither paper has this. For a given L the error of R is ``|L (R - X)|^2`` plus a constant, X the
least-squares solution, so each column of R is a quantization problem under the Hessian L^T L; rows
of L likewise under R R^T. Only the products of the scales of L and R matter: they are stored once,
and fitted exactly, which includes the best shrinkage of the whole product.

Of several passes, each fits the factor of the longer side of A to that of the shorter side, and
then the latter to the former: with the short factor last the error is 0.2 to 0.4 % less than in the
other order. A single pass begins with the short factor, quantized as it is under the Gram matrix
that singular values alone determine, and fits the long one to it. A rank that is a large share of
the shorter side leaves errors of the short factor few directions that the long one cannot correct;
the opposite order left up to a fifth more error after one pass, and costs more.
"""

from __future__ import annotations

import numpy as np

from lplr.coding.factor import (
    CodebookPair,
    Factor,
    FactorPair,
    damped,
    fit_scales,
    quantize_solution,
    rescaled,
)
from lplr.coding.work import code_seconds, product_seconds
from lplr.linalg.least_squares import gram, solve
from lplr.linalg.operators import Matrix, Operator, multiply
from lplr.linalg.qr import haar
from lplr.linalg.rotated_pivots import expected_pivot_sum
from lplr.linalg.svd import ShortSVD
from lplr.parallel import matmul
from lplr.progress import parts, until
from lplr.quantizers.base import Codebook

__all__ = ["factor_pair", "refitted_pair", "rotated_start", "split_exponent"]

_FITTED = 4096  # vectors of the longer side that scales are fitted to, at least


def factor_pair(
    A: Matrix,
    svd: ShortSVD,
    books: CodebookPair,
    rng: np.random.Generator,
    passes: int,
    rough: bool = False,
) -> FactorPair:
    """L and R for A, float32 (n, d) or an operator, at the rank of its `ShortSVD`.

    There is a codebook for each. ``rng`` draws the rotation of the rank space. The factors of the
    last pass get sweeps of coordinate descent unless they may be ``rough``.
    """
    if A.shape[0] < A.shape[1]:
        right, left = factor_pair(A.T, svd, books[::-1], rng, passes, rough)
        return left, right
    with until(0.05):
        start, G = rotated_start(svd, books, rng)
    if passes == 1:
        with until(0.1):
            short = quantize_solution(start, damped(G), books[1], rough)
        G = gram(short.values)
        return _scaled(A, _long(A, short.values, G, books[0], rough), short, G), short
    for turn in parts(range(passes)):
        last = turn == passes - 1
        pair = _both(A, start, books, rough if last else turn == 0, scaled=last)
        start = pair[1].values
        if not last:
            del pair  # the next pass needs the memory
    return pair


def refitted_pair(A: Matrix, pair: FactorPair, books: CodebookPair) -> FactorPair:
    """Another pass for a pair, after A has changed or not."""
    if A.shape[0] < A.shape[1]:
        right, left = refitted_pair(A.T, pair[::-1], books[::-1])
        return left, right
    return _both(A, pair[1].values, books, scaled=True)


def _both(
    A: Matrix,
    start: np.ndarray,
    books: CodebookPair,
    rough: bool = False,
    scaled: bool = False,
) -> FactorPair:
    """A pass for a tall A: the long factor for a short one, then the short factor for the long one.

    Passes go on from the scales that were rounded to: going on from ``scaled`` factors, whose
    scales fit best for all codes as they are, was up to 1.7 % worse.
    """
    with until(0.7):
        long = _long(A, start, gram(start), books[0], rough)
    G, B = gram(long.values), multiply(long.values, A)
    short = quantize_solution(solve(damped(G), B), damped(G), books[1], rough)
    return long, rescaled(short, fit_scales(short, G, B)) if scaled else short


def rotated_start(
    svd: ShortSVD, books: CodebookPair, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The short factor ``G^T Sigma^(1-a) V^T``, float32 (m, d), with the long one's Gram matrix.

    G is a random rotation, and the Gram matrix ``G^T Sigma^(2a) G``. Without the rotation the
    Hessians of both factors would be diagonal and feedback would gain nothing; a balances what the
    two codes lose, see `split_exponent`. G is Haar-distributed: a randomized Hadamard matrix, all
    of whose entries have one magnitude, gives a Hessian of nearly constant diagonal, whose pivots
    are 1 % worse and make a two-bit code overload.
    """
    s, V = svd
    a, _ = split_exponent(s, books)
    floor = np.maximum(s, s[0] * 1e-6)
    G = haar(len(s), len(s), rng, np.float32)
    start = matmul(G, (floor[:, None] ** (1 - a) * V).astype(np.float32))
    return start, gram(G * (floor**a).astype(np.float32))


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


def _long(
    A: Matrix, short: np.ndarray, G: np.ndarray, book: Codebook, rough: bool = False
) -> Factor:
    """The long factor for a tall A and a given short one, of Gram matrix G.

    The systems are solved for the short side, which is cheaper and more exact.
    """
    n, d = A.shape
    m = len(short)
    product = product_seconds(n, d, m)
    with until(product / (product + code_seconds(m, n, book, 0 if rough else 2))):
        G = damped(G)
        X = multiply(solve(G, short), A.T)
    return quantize_solution(X, G, book, rough)


def _scaled(A: Matrix, long: Factor, short: Factor, G: np.ndarray) -> Factor:
    """The long factor at the scales that fit best, all codes as they are.

    For a very long factor a part of its vectors decides, many more than there are scales.
    """
    if isinstance(A, Operator):
        return rescaled(long, fit_scales(long, G, multiply(short.values, A.T)))
    step = max(1, len(A) // max(_FITTED, 2 * len(long.scale)))
    part = Factor(long.codes, long.scale, np.ascontiguousarray(long.values[:, ::step]))
    B = matmul(short.values, np.ascontiguousarray(A[::step]).T)
    return rescaled(long, fit_scales(part, G, B))
