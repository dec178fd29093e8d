"""Low-rank factors under a Hessian, without a backbone: what wins far below one bit an entry.

The components are those of W H^(1/2). Errors of L weigh as in `lplr.coding.successive`, under
R H R^T; R is rounded by feedback in both directions, under (L^T L) x H, so that what its codes lose
falls in directions that H hardly sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from lplr.coding.alternation import (
    DAMPING,
    SVD,
    Factor,
    fit_scales,
    pack_factors,
    quantize_factor,
    squared_norm,
)
from lplr.coding.backbone import Pivots
from lplr.coding.feedback import quantize_two_sided
from lplr.linalg.least_squares import gram, solve
from lplr.linalg.qr import haar
from lplr.linalg.svd import truncated_svd
from lplr.matrices.low_rank import LowRank
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.planning.predict import ladder
from lplr.planning.waterfill import Block, distribute, expected_loss
from lplr.quantizers.base import Codebook, get_codebook

__all__ = ["WeightedSpectrum", "weighted_factors"]

_PASSES = 2  # of the alternation of each block
_ROUNDS = 4  # at most, of distributing bits and correcting what errors of R are taken to cost


@dataclass(frozen=True)
class _Discounted:
    """A codebook of which only a share of the error counts."""

    book: Codebook
    share: float

    @property
    def gaussian_mse(self) -> float:
        return min(self.share * self.book.gaussian_mse, 1.0)

    def nbytes(self, length: int, count: int) -> int:
        return self.book.nbytes(length, count)


class WeightedSpectrum:
    """The components of W H^(1/2), and how bits are best spent on them.

    Parameters
    ----------
    W : ndarray of shape (n, d), float32
        In the coordinates of the pivots.
    pivots : Pivots
    rank : int
        How many components at most.
    seed : int
        Of the range finder.
    """

    def __init__(self, W: np.ndarray, pivots: Pivots, rank: int, seed: int) -> None:
        assert pivots.L is not None
        weighted = matmul(W, (pivots.L * np.sqrt(pivots.D)).astype(np.float32))
        self.W, self.pivots = W, pivots
        self.energy = squared_norm(weighted)
        self.svd: SVD = truncated_svd(weighted, rank, rng=seed)
        self.s = self.svd[1].astype(np.float64)

    @cached_property
    def discount(self) -> np.ndarray:
        """What an error of a row of R costs under H, over what it would cost without."""
        rows = np.square(matmul(self.svd[0].T, self.W), dtype=np.float64).sum(axis=1)
        return np.minimum(self.pivots.D.mean() * rows / np.maximum(self.s**2, 1e-300), 4.0)

    def plan(self, nbytes: float, effort: str) -> tuple[list[Block], float]:
        """The blocks of components that lose least, and the loss ``tr(E H E^T)`` predicted.

        Parameters
        ----------
        nbytes : float
        effort : {"fast", "default", "best"}

        Returns
        -------
        blocks : list of Block
        loss : float
            On three layers, 0.97 to 1.03 of its square root was measured.

        Raises
        ------
        BudgetError
            If not even one component fits.

        Notes
        -----
        Errors of R cost, on the average over the components that are used, a share of what
        `lplr.planning.waterfill.distribute` reckons with; which are used depends on it.
        """
        n, d = self.W.shape
        left = [book for book in ladder(effort, n) if 2 * book.bits % 1 == 0]
        right = [get_codebook("lloyd-max", bits) for bits in range(1, 9)]
        rank = max(1, len(self.s) // 4)
        for _ in range(_ROUNDS):
            share = float(self.discount[:rank].mean())
            pairs = list(product(left, (_Discounted(book, share) for book in right)))
            blocks = distribute(self.s, (n, d), nbytes, pairs, per_rank=1, once=1)  # type: ignore[arg-type]
            if abs(blocks[-1].stop - rank) <= 0.03 * rank:
                break
            rank = blocks[-1].stop
        loss = expected_loss(self.s, (n, d), self.energy, blocks)
        return [Block(b.start, b.stop, (b.books[0], b.books[1].book)) for b in blocks], loss  # type: ignore[attr-defined]


def weighted_factors(
    spectrum: WeightedSpectrum, blocks: list[Block], rng: np.random.Generator
) -> LowRank:
    """Factor W under H block by block, each block fitted to what the others leave.

    Parameters
    ----------
    spectrum : WeightedSpectrum
    blocks : list of Block
        As `WeightedSpectrum.plan` chooses them; the codes of R are scalar.
    rng : numpy.random.Generator
        Draws the rotations of the blocks.

    Returns
    -------
    LowRank
        In the coordinates of the pivots.

    Notes
    -----
    LPLRFactorize of CALDERA (Saha et al., NeurIPS 2024, Algorithm 2) by blocks, with feedback in
    place of nearest rounding.
    """
    pivots, residual = spectrum.pivots, spectrum.W.copy()
    assert pivots.L is not None
    H = matmul(pivots.L * pivots.D, pivots.L.T)
    U, s, _ = spectrum.svd
    rows = matmul(U.T, spectrum.W) / np.sqrt(np.maximum(s, 1e-6 * s[0]))[:, None]
    factors: list[tuple[Factor, Factor]] = []
    for block in blocks:
        G = haar(block.stop - block.start, block.stop - block.start, rng).astype(np.float32)
        R = matmul(G, rows[block.start : block.stop].astype(np.float32))
        for _ in range(_PASSES):
            left, right = _refit(residual, R, block, pivots, H)
            R = right.values
        residual -= matmul(left.values.T, right.values)
        factors.append((left, right))
    loss = pivots.loss(residual)
    for i, block in enumerate(blocks if len(blocks) > 1 else []):
        left, right = factors[i]
        others = residual + matmul(left.values.T, right.values)
        left, right = _refit(others, right.values, block, pivots, H)
        others -= matmul(left.values.T, right.values)
        if (refitted := pivots.loss(others)) < loss:
            residual, loss, factors[i] = others, refitted, (left, right)
    packed = [
        pack_factors(left, right, right.scale, block.books)
        for (left, right), block in zip(factors, blocks, strict=True)
    ]
    if len(packed) == 1:
        return packed[0]
    return LowRank(
        Stacked(tuple(f.left for f in packed), axis=1),
        Stacked(tuple(f.right for f in packed), axis=0),
    )


def _refit(
    A: np.ndarray, R: np.ndarray, block: Block, pivots: Pivots, H: np.ndarray
) -> tuple[Factor, Factor]:
    """Quantize L for R, under R H R^T, then R for L, under (L^T L) x H; its scales fitted."""
    assert pivots.L is not None
    T = matmul(H, R.T.astype(np.float64))
    M = matmul(R.astype(np.float64), T)
    left = quantize_factor(matmul(T.T.astype(np.float32), A.T), (M + M.T) / 2, block.books[0])
    G = gram(left.values)
    B = matmul(left.values, A)
    damped = G + DAMPING * np.trace(G) / len(G) * np.eye(len(G))
    columns = np.ascontiguousarray(solve(damped, B).T)
    book = block.books[1]
    scale = np.sqrt(np.mean(np.square(columns, dtype=np.float64), axis=0)) * book.gaussian_scale
    scale = scale.astype(np.float32)
    factorization = np.arange(len(columns)), pivots.L.astype(np.float32), pivots.D
    codes, error = quantize_two_sided(columns, factorization, damped, book, scale)  # type: ignore[arg-type]
    values = np.ascontiguousarray((columns - error).T)
    right = Factor(codes.T, scale, values)
    fitted = fit_scales(right, G, B, matmul(values, H.astype(np.float32)))
    ratio = np.divide(fitted, scale, out=np.zeros_like(scale), where=scale > 0)
    return left, Factor(codes.T, fitted, values * ratio[:, None])
