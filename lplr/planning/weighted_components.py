"""The components of W H^(1/2), and how bits are best spent on them without a backbone."""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np

from lplr.coding.backbone import FeedbackWeights
from lplr.coding.blocks import ComponentBlock
from lplr.coding.factor import CodebookPair
from lplr.linalg.ldl import squared_norm
from lplr.linalg.svd import SVD, truncated_svd
from lplr.parallel import matmul
from lplr.planning.codebooks import codebooks_by_size
from lplr.planning.waterfill import distribute, expected_loss
from lplr.quantizers.base import get_codebook

__all__ = ["WeightedComponents"]

_ROUNDS = 4  # at most, of distributing bits and correcting the weight of errors of R


class WeightedComponents:
    """The leading components of W H^(1/2), at most ``rank``, where H is not the identity.

    W is float32 (n, d) in the coordinates of the weights; ``seed`` is that of the range finder.
    """

    def __init__(self, W: np.ndarray, weights: FeedbackWeights, rank: int, seed: int) -> None:
        assert weights.L is not None
        weighted = matmul(W, (weights.L * np.sqrt(weights.D)).astype(np.float32))
        self.W, self.weights = W, weights
        self.energy = squared_norm(weighted)
        self.svd: SVD = truncated_svd(weighted, rank, rng=seed)
        self.s = self.svd[1].astype(np.float64)

    @cached_property
    def right_weights(self) -> np.ndarray:
        """What an error of each row of R costs under H, over its cost without H."""
        rows = np.square(matmul(self.svd[0].T, self.W), dtype=np.float64).sum(axis=1)
        return np.minimum(self.weights.D.mean() * rows / np.maximum(self.s**2, 1e-300), 4.0)

    def plan(self, nbytes: float, effort: str) -> tuple[list[ComponentBlock], float]:
        """The blocks of components that lose least, and the loss ``tr(E H E^T)`` predicted.

        On three layers, the measured relative error was 0.97 to 1.03 of the predicted one. Errors
        of R cost, on the average over the components that are used, a share of what they would cost
        without H; which components are used depends on that share. BudgetError says that not even
        one component fits.
        """
        n, d = self.W.shape
        left = [book for book in codebooks_by_size(effort, n) if 2 * book.bits % 1 == 0]
        right = [get_codebook("lloyd-max", bits) for bits in range(1, 9)]
        pairs: list[CodebookPair] = list(product(left, right))
        rank = max(1, len(self.s) // 4)
        for _ in range(_ROUNDS):
            share = float(self.right_weights[:rank].mean())
            blocks = distribute(self.s, (n, d), nbytes, pairs, share)
            if abs(blocks[-1].stop - rank) <= 0.03 * rank:
                break
            rank = blocks[-1].stop
        return blocks, expected_loss(self.s, (n, d), self.energy, blocks, share)
