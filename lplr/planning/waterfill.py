"""How many bits each singular component of a matrix deserves: reverse water-filling by blocks."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial

import numpy as np

from lplr.coding.blocks import ComponentBlock
from lplr.coding.factor import CodebookPair
from lplr.planning.block_losses import BlockLosses
from lplr.planning.codebooks import UNWEIGHTED, ErrorWeights, residual_share
from lplr.planning.sizes import BLOCK_SCALES, budget_error, factor_nbytes

__all__ = ["distribute", "expected_loss"]

_STEP = 1.2  # ratio of neighbouring block boundaries on the first grid
_FINE = 8  # boundaries on either side of each chosen one on the second grid
_PRICES = 62.0  # logarithm of the largest price on the first grid over the smallest
_CLOSE = 6.0  # the same on a grid that follows another
_HALVINGS = 16  # of each interval of prices


def expected_loss(
    s: np.ndarray,
    shape: tuple[int, int],
    energy: float,
    blocks: list[ComponentBlock],
    weights: ErrorWeights = UNWEIGHTED,
) -> float:
    """The squared error that blocks leave, by the model of `distribute`.

    ``s`` has singular values, descending, ``energy`` is the squared norm of the matrix, and
    ``weights`` say what errors of factors cost under moments.
    """
    s = np.asarray(s, np.float64)[: blocks[-1].stop]
    tail = energy - float(np.square(s).sum())
    return max(tail, 0.0) + _noise(BlockLosses(s), shape, blocks, weights)


def _noise(
    losses: BlockLosses,
    shape: tuple[int, int],
    blocks: list[ComponentBlock],
    weights: ErrorWeights,
) -> float:
    """What coding the blocks adds to the squared error."""
    edges = np.array([(b.start, b.stop) for b in blocks])
    rank = blocks[-1].stop
    share = np.array([residual_share(b.books, rank, shape, weights) for b in blocks])
    return float(losses(edges[:, 0], edges[:, 1], share[:, None]).sum())


def distribute(
    s: np.ndarray,
    shape: tuple[int, int],
    nbytes: float,
    pairs: list[CodebookPair],
    weights: ErrorWeights = UNWEIGHTED,
) -> list[ComponentBlock]:
    """The blocks of components, and their codes, that lose least within a number of bytes.

    ``s`` has singular values, descending; ``nbytes`` pays for codes and scales; ``pairs`` are on
    offer for each block; under moments errors of factors cost what ``weights`` say. No block is
    empty, and components after the last block are left out. BudgetError says that not even one
    component fits.

    What a block loses is predicted by `lplr.planning.block_losses`.

    As in water-filling (Cover and Thomas, *Elements of Information Theory*, Section 10.3.3), at the
    optimum a byte buys the same everywhere. For one price of a byte, dynamic programming over the
    boundaries finds the best blocks; bisection finds the price. It runs on a geometric grid of
    boundaries first and on a fine one around those chosen then; the last block is extended by what
    still fits. Where s_k = 1/k, for instance, the bits fall from component to component:

    >>> from lplr.planning.codebooks import candidate_pairs
    >>> pairs = candidate_pairs(("uniform", "uniform"), equal=True)
    >>> blocks = distribute(1 / np.arange(1, 41), (80, 80), 400, pairs)
    >>> [(block.stop - block.start, block.books[0].bits) for block in blocks]
    [(1, 5), (1, 4), (1, 3), (3, 2)]
    """
    s = np.asarray(s, np.float64)
    s = s[: max(1, np.count_nonzero(s > s[0] * 1e-7))]
    search = _Search(s, shape, nbytes, pairs, weights)
    # One price for all leaves out what small budgets buy, above all where all components are alike.
    blocks: list[ComponentBlock] = []
    for books in search.pairs:
        blocks = search.better(blocks, search.fitted([ComponentBlock(0, len(s), books)]))
    rank = len(s) // 4
    for grid in (_geometric, _geometric, _around):
        found = search.best(grid(len(s), blocks), rank)
        blocks = search.better(blocks, found)
        if not blocks:
            least = min(factor_nbytes(shape, 1, books, BLOCK_SCALES) for books in pairs)
            raise budget_error(shape, least, "too small for rank 1")
        rank = blocks[-1].stop
    return blocks


def _geometric(k: int, _: list[ComponentBlock]) -> np.ndarray:
    """Boundaries from 0 to k, each about `_STEP` times the one before."""
    count = int(np.log(max(k, 2)) / np.log(_STEP)) + 2
    return np.unique(np.r_[0, np.geomspace(1, k, count).round().astype(int)])


def _around(k: int, blocks: list[ComponentBlock]) -> np.ndarray:
    """Boundaries near those of given blocks, closer to the small ones."""
    points = [0, k]
    for block in blocks:
        step = max(1, block.stop // 64)
        points += [block.stop + step * i for i in range(-_FINE, _FINE + 1)]
    return np.unique(np.clip(points, 0, k))


class _Search:
    """The best blocks with boundaries on a grid."""

    def __init__(
        self,
        s: np.ndarray,
        shape: tuple[int, int],
        nbytes: float,
        pairs: list[CodebookPair],
        weights: ErrorWeights,
    ) -> None:
        self.s, self.shape, self.nbytes, self.weights = s, shape, nbytes, weights
        self.sizes: dict[tuple[int, int], int] = {}
        cost = {id(books): self.size([ComponentBlock(0, 64, books)]) / 64 for books in pairs}
        # Among pairs that leave as much or more, only the cheapest can be the best.
        self.pairs: list[CodebookPair] = []
        for books in sorted(pairs, key=lambda b: (self.share(b, 0), cost[id(b)])):
            if not self.pairs or cost[id(books)] < cost[id(self.pairs[-1])]:
                self.pairs.append(books)
        self.cost = np.array([cost[id(books)] for books in self.pairs])
        self.tail = np.append(np.cumsum(np.square(s)[::-1])[::-1], 0.0)
        self.losses = BlockLosses(s)
        self.low, self.high = np.log(self.tail[0]) + 2.0 - np.array([_PRICES, 0.0])

    def share(self, books: CodebookPair, rank: int) -> float:
        """What coding leaves of the energy of a component."""
        return residual_share(books, rank, self.shape, self.weights)

    def size(self, blocks: list[ComponentBlock]) -> int:
        """Bytes of blocks."""
        return sum(self.block_size(b.stop - b.start, b.books) for b in blocks)

    def block_size(self, count: int, books: CodebookPair) -> int:
        """Bytes of so many components."""
        key = count, id(books)
        if key not in self.sizes:
            self.sizes[key] = factor_nbytes(
                self.shape, count, books, BLOCK_SCALES, in_blocks=bool(self.weights.fed_back)
            )
        return self.sizes[key]

    def loss(self, blocks: list[ComponentBlock]) -> float:
        """The squared error that blocks leave."""
        noise = _noise(self.losses, self.shape, blocks, self.weights)
        return float(self.tail[blocks[-1].stop]) + noise

    def better(
        self, one: list[ComponentBlock], other: list[ComponentBlock]
    ) -> list[ComponentBlock]:
        """The one of two lists of blocks that leaves less error; an empty list never wins."""
        found = [blocks for blocks in (one, other) if blocks]
        return min(found, key=self.loss, default=[])

    def best(self, grid: np.ndarray, rank: int) -> list[ComponentBlock]:
        """The best blocks with boundaries on the grid; none if one component does not fit.

        ``rank`` is about how many components there will be.
        """
        first, last = (x.ravel() for x in np.meshgrid(grid, grid, indexing="ij"))
        forward = first < last
        share = np.array([self.share(b, rank) for b in self.pairs])
        losses = np.zeros((len(grid), len(grid), len(share)))
        losses[forward.reshape(losses.shape[:2])] = self.losses(
            first[forward], last[forward], np.broadcast_to(share, (forward.sum(), len(share)))
        )
        width = (grid - grid[:, None]).astype(np.float64)
        low, high = self.low, self.high
        best: list[ComponentBlock] = []
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            blocks = self._at_price(grid, losses, width, float(np.exp(middle)))
            # The best blocks may jump over the budget; then what fits of the larger ones may win.
            best = self.better(best, self.fitted(blocks))
            if self.size(blocks) > self.nbytes:
                low = middle
            else:
                high = middle
        self.low, self.high = middle - _CLOSE / 2, middle + _CLOSE / 2
        return best

    def _at_price(
        self, grid: np.ndarray, losses: np.ndarray, width: np.ndarray, price: float
    ) -> list[ComponentBlock]:
        """The blocks that minimise the loss plus the price of their bytes."""
        # The best pair for each possible block, then the best way to each boundary.
        options = losses + price * self.cost * width[..., None]
        pair = options.argmin(axis=-1)
        value = np.take_along_axis(options, pair[..., None], axis=-1)[..., 0]
        least, came = np.full(len(grid), np.inf), np.zeros(len(grid), int)
        least[0] = 0.0
        for j in range(1, len(grid)):
            ways = least[:j] + value[:j, j]
            came[j] = int(np.argmin(ways))
            least[j] = ways[came[j]]
        j = int(np.argmin(least + self.tail[grid]))
        blocks: list[ComponentBlock] = []
        while j:
            i = came[j]
            blocks.insert(0, ComponentBlock(int(grid[i]), int(grid[j]), self.pairs[pair[i, j]]))
            j = i
        return blocks

    def fitted(self, blocks: list[ComponentBlock]) -> list[ComponentBlock]:
        """The blocks that fit the budget, the last one with as many components as fit."""
        while blocks:
            *before, last = blocks
            room = self.nbytes - self.size(before)
            counts = range(1, len(self.s) - last.start + 1)
            size = partial(self.block_size, books=last.books)
            count = bisect_right(counts, room, key=size)  # how many components fit
            if count:
                return [*before, ComponentBlock(last.start, last.start + count, last.books)]
            blocks = before
        return []
