"""How many bits each singular component of a matrix deserves: reverse water-filling by blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lplr.exceptions import BudgetError
from lplr.planning.budget import Books, factor_nbytes

__all__ = ["Block", "Rotated", "distribute", "expected_loss", "kept"]

_STEP = 1.2  # ratio of neighbouring block boundaries on the first grid
_FINE = 8  # boundaries on either side of each chosen one on the second grid
_PRICES = 62.0  # logarithm of the largest price on the first grid over the smallest
_CLOSE = 6.0  # the same on a grid that follows another
_HALVINGS = 16  # of each interval of prices


@dataclass(frozen=True)
class Block:
    """Neighbouring singular components that are coded alike.

    Parameters
    ----------
    start, stop : int
        Which, in descending order of their singular values.
    books : (Codebook, Codebook)
        Of their columns of L and rows of R.
    """

    start: int
    stop: int
    books: Books


class Rotated:
    """The energy of blocks of components that the relative error of their codes applies to.

    With Sigma^(1/2) on either side of a random rotation, ``mean(s) p(s)``, p the expected sum of
    pivots. The sums that `lplr.planning.budget.expected_pivots` explains are kept cumulated over
    the components, so that a block costs no more than a component.

    Parameters
    ----------
    s : ndarray of shape (k,), positive, descending
        Singular values.
    """

    def __init__(self, s: np.ndarray) -> None:
        s = np.maximum(np.asarray(s, np.float64), s[0] * 1e-6)
        decades = int(np.log10(s[0] / s[-1])) + 9
        self._w = np.geomspace(s[-1] * 1e-4, s[0] * 1e4, 8 * decades)[:, None]
        self._cumulated = _from_zero(s / (s + self._w))
        self._sum, self._inverse = _from_zero(s), _from_zero(1 / s)

    def __call__(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Energies of the blocks [start, stop), float64 of the shape of both."""
        count = stop - start
        mean = (self._sum[stop] - self._sum[start]) / count
        t = (self._cumulated[:, stop] - self._cumulated[:, start]) / count
        # From the arithmetic mean at t = 0 to the harmonic one at t = 1; w descends as t grows.
        ones = np.ones((1, len(count)))
        t = np.concatenate([0 * ones, t[::-1], ones])
        w = self._w[::-1] * t[1:-1] / (1 - t[1:-1])
        harmonic = count / (self._inverse[stop] - self._inverse[start])
        pivot = np.concatenate([mean * ones, w, harmonic * ones])
        return mean * count * np.trapezoid(pivot, t, axis=0)


def _from_zero(x: np.ndarray) -> np.ndarray:
    """Cumulated sums along the last axis, the first one 0."""
    return np.concatenate([np.zeros((*x.shape[:-1], 1)), np.cumsum(x, axis=-1)], axis=-1)


def expected_loss(
    s: np.ndarray, shape: tuple[int, int], energy: float, blocks: list[Block]
) -> float:
    """The squared error that blocks leave, by the model of `distribute`.

    Parameters
    ----------
    s : ndarray of shape (k,), descending
        Singular values.
    shape : (n, d)
    energy : float
        Squared Frobenius norm of the matrix.
    blocks : list of Block

    Returns
    -------
    float
    """
    s = np.asarray(s, np.float64)[: blocks[-1].stop]
    tail = energy - float(np.square(s).sum())
    return max(tail, 0.0) + _noise(Rotated(s), shape, blocks)


def _noise(rotated: Rotated, shape: tuple[int, int], blocks: list[Block]) -> float:
    """What coding the blocks adds to the squared error."""
    edges = np.array([(b.start, b.stop) for b in blocks])
    share = np.array([kept(b.books, blocks[-1].stop, shape) for b in blocks])
    return float(share @ rotated(edges[:, 0], edges[:, 1]))


def kept(books: Books, rank: int, shape: tuple[int, int]) -> float:
    """The share of the energy of a component that coding both of its vectors leaves.

    Parameters
    ----------
    books : (Codebook, Codebook)
        Of errors c and c' on a normal distribution.
    rank : int
        Of all components together.
    shape : (n, d)

    Returns
    -------
    float

    Notes
    -----
    ``1 - (1 - c) (1 - c')``, but errors of L that lie in its own column space, rank of n
    directions, are a change of basis, which R undoes when it is fitted to the quantized L; most of
    them: 0.8 is measured. R is quantized last, so nothing undoes its errors. On six matrices,
    layers, images and text embeddings among them, at 0.5 to 3 bits an entry, the error that this
    predicts is right to 3 % in most cases, and to 8 % in all but a phantom, whose singular vectors
    are far from normal.
    """
    left = books[0].gaussian_mse * (1 - 0.8 * rank / shape[0])
    return 1 - (1 - left) * (1 - books[1].gaussian_mse)


def distribute(
    s: np.ndarray,
    shape: tuple[int, int],
    nbytes: float,
    pairs: list[Books],
    *,
    per_rank: int,
    once: int,
) -> list[Block]:
    """The blocks of components, and their codes, that lose least within a number of bytes.

    Parameters
    ----------
    s : ndarray of shape (k,), descending
        Singular values.
    shape : (n, d)
    nbytes : float
        For codes and scales of everything.
    pairs : list of (Codebook, Codebook)
        On offer for each block.
    per_rank, once : int
        Float32 numbers stored for each component, and for each block.

    Returns
    -------
    list of Block
        From the first component on, none empty; what follows the last is left out.

    Raises
    ------
    BudgetError
        If not even one component fits.

    Notes
    -----
    Coding both vectors of a component leaves a share of its energy ``s_k^2``, see `kept`. In a
    block that is rotated at random and quantized by feedback, it leaves that share of
    ``mean(s) p(s)`` together, p the expected sum of pivots
    (`lplr.planning.budget.expected_pivots`, with Sigma^(1/2) on either side): less than the sum
    of ``s_k^2``, so that a block of unequal components makes up in part for rates that do not
    exist.

    As in water-filling (Cover and Thomas, *Elements of Information Theory*, Section 10.3.3), at
    the optimum a byte buys the same everywhere. For one price of a byte, dynamic programming over
    the boundaries finds the best blocks; bisection finds the price. It runs on a geometric grid of
    boundaries first and on a fine one around those chosen then; the last block is extended by what
    still fits.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.planning.budget import candidate_books
    >>> from lplr.planning.waterfill import distribute
    >>> s = 1 / np.arange(1, 41)
    >>> pairs = candidate_books(("uniform", "uniform"), equal=True)
    >>> blocks = distribute(s, (80, 80), 400, pairs, per_rank=1, once=1)
    >>> [(block.stop - block.start, block.books[0].bits) for block in blocks]
    [(1, 5), (1, 4), (1, 3), (3, 2)]
    """
    s = np.asarray(s, np.float64)
    s = s[: max(1, np.count_nonzero(s > s[0] * 1e-7))]
    search = _Search(s, shape, nbytes, pairs, per_rank, once)
    blocks: list[Block] = []
    rank = len(s) // 4
    for grid in (_geometric, _geometric, _around):
        found = search.best(grid(len(s), blocks), rank)
        blocks = search.better(blocks, found)
        if not blocks:
            least = min(factor_nbytes(shape, 1, books, per_rank + once) for books in pairs)
            enough = 1.001 * 8 * least / (shape[0] * shape[1])  # still enough with four digits
            raise BudgetError(
                f"bits_per_entry: too small for rank 1 at shape {shape}; use at least {enough:.4g}"
            )
        rank = blocks[-1].stop
    return blocks


def _geometric(k: int, _: list[Block]) -> np.ndarray:
    """Boundaries from 0 to k, each about `_STEP` times the one before."""
    count = int(np.log(max(k, 2)) / np.log(_STEP)) + 2
    return np.unique(np.r_[0, np.geomspace(1, k, count).round().astype(int)])


def _around(k: int, blocks: list[Block]) -> np.ndarray:
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
        pairs: list[Books],
        per_rank: int,
        once: int,
    ) -> None:
        self.s, self.shape, self.nbytes = s, shape, nbytes
        self.scales = per_rank, once
        self.sizes: dict[tuple[int, int], int] = {}
        cost = {id(books): self.size([Block(0, 64, books)]) / 64 for books in pairs}
        # Of pairs that leave as much, or more, only the cheapest can be the best.
        self.pairs: list[Books] = []
        for books in sorted(pairs, key=lambda b: (kept(b, 0, shape), cost[id(b)])):
            if not self.pairs or cost[id(books)] < cost[id(self.pairs[-1])]:
                self.pairs.append(books)
        self.cost = np.array([cost[id(books)] for books in self.pairs])
        self.tail = np.append(np.cumsum(np.square(s)[::-1])[::-1], 0.0)
        self.rotated = Rotated(s)
        self.low, self.high = np.log(self.tail[0]) + 2.0 - np.array([_PRICES, 0.0])

    def size(self, blocks: list[Block]) -> int:
        """Bytes of blocks."""
        return sum(self.block_size(b.stop - b.start, b.books) for b in blocks)

    def block_size(self, count: int, books: Books) -> int:
        """Bytes of so many components."""
        key = count, id(books)
        if key not in self.sizes:
            per_rank, once = self.scales
            self.sizes[key] = factor_nbytes(self.shape, count, books, per_rank * count + once)
        return self.sizes[key]

    def loss(self, blocks: list[Block]) -> float:
        """The squared error that they leave."""
        return float(self.tail[blocks[-1].stop]) + _noise(self.rotated, self.shape, blocks)

    def better(self, one: list[Block], other: list[Block]) -> list[Block]:
        """The blocks that leave less; none at all leave most."""
        found = [blocks for blocks in (one, other) if blocks]
        return min(found, key=self.loss, default=[])

    def best(self, grid: np.ndarray, rank: int) -> list[Block]:
        """The best blocks with boundaries on the grid, or none if one component does not fit.

        ``rank`` is about how many components there will be.
        """
        self.share = np.array([kept(books, rank, self.shape) for books in self.pairs])
        first, last = (x.ravel() for x in np.meshgrid(grid, grid, indexing="ij"))
        forward = first < last
        energy = np.zeros((len(grid), len(grid)))
        energy.ravel()[forward] = self.rotated(first[forward], last[forward])
        width = (grid - grid[:, None]).astype(np.float64)
        low, high = self.low, self.high
        best: list[Block] = []
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            blocks = self._at_price(grid, energy, width, float(np.exp(middle)))
            # Where the best blocks jump over the budget, what fits of those above may win.
            best = self.better(best, self._fitted(blocks))
            if self.size(blocks) > self.nbytes:
                low = middle
            else:
                high = middle
        self.low, self.high = middle - _CLOSE / 2, middle + _CLOSE / 2
        return best

    def _at_price(
        self, grid: np.ndarray, energy: np.ndarray, width: np.ndarray, price: float
    ) -> list[Block]:
        """The blocks that minimise the loss plus the price of their bytes."""
        # The best pair for each possible block, then the best way to each boundary.
        options = self.share * energy[..., None] + price * self.cost * width[..., None]
        pair = options.argmin(axis=-1)
        value = np.take_along_axis(options, pair[..., None], axis=-1)[..., 0]
        least, came = np.full(len(grid), np.inf), np.zeros(len(grid), int)
        least[0] = 0.0
        for j in range(1, len(grid)):
            ways = least[:j] + value[:j, j]
            came[j] = int(np.argmin(ways))
            least[j] = ways[came[j]]
        j = int(np.argmin(least + self.tail[grid]))
        blocks: list[Block] = []
        while j:
            i = came[j]
            blocks.insert(0, Block(int(grid[i]), int(grid[j]), self.pairs[pair[i, j]]))
            j = i
        return blocks

    def _fitted(self, blocks: list[Block]) -> list[Block]:
        """The blocks that fit, the last one with as many components as do."""
        while blocks:
            *before, last = blocks
            room = self.nbytes - self.size(before)
            low, high = last.start, len(self.s)
            while low < high:
                middle = (low + high + 1) // 2
                fits = self.block_size(middle - last.start, last.books) <= room
                low, high = (middle, high) if fits else (low, middle - 1)
            if low > last.start:
                return [*before, Block(last.start, low, last.books)]
            blocks = before
        return []
