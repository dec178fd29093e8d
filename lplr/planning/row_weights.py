"""Blocks of rows by what a second moment G of output gradients says about their errors.

With ``G = L D L^T`` a block B of rows, all below it coded and all above free, weighs as the mean
diagonal p_B of ``S_BB = L_BB D_B L_BB^T``, see `lplr.coding.backbone.code_row_blocks`: the loss
under G and H is the sum of p_B times the loss of each block under H. At the best rates only the
geometric mean of the weights counts. Short blocks lower it, as far as the pivots of their rows
differ; but each one costs the start of its trellis codes, some scales and a call in each product.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lplr.coding.backbone import FEEDBACK_DAMPING, FeedbackWeights
from lplr.linalg.ldl import inverse_factor, ldl
from lplr.planning.column_rates import RATE_DAMPING

__all__ = ["RowWeights"]

_FEWEST = 64  # rows of a block: below, the start of a trellis code costs 5 % and more
_STEP = 16  # edges are multiples of it
_MOST_STEPS = 256  # but not of more than so many
_START = 2.0  # rows: the start of trellis codes loses as much as these do
_GAIN = 0.004  # of the loss: the least that another block must gain


class RowWeights:
    """Blocks of rows, what their errors weigh, and what these feed back to the blocks above.

    G is float64 (n, n), positive definite, with a mean diagonal of about 1, or None for the
    identity, under which all rows are one block.
    """

    def __init__(self, G: np.ndarray | None, n: int) -> None:
        self.weights = FeedbackWeights(G, n)
        self.edges = [0, n]
        self.for_rates = self.for_losses = np.ones(1)  # p_B, damped as rates and as losses ask for
        self.fed_back = np.zeros((1, 1))
        L = self.weights.L
        if G is None or L is None:
            return
        strong = ldl(G + RATE_DAMPING * np.eye(n))
        self.edges = _edges(*strong)
        self.for_rates = _mean_diagonals(*strong, self.edges)
        self.for_losses = _mean_diagonals(L, self.weights.D, self.edges)
        self.fed_back = _fed_back(L, self.edges)

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each block."""
        return np.diff(self.edges)

    def loss(self, losses: np.ndarray, squares: np.ndarray) -> float:
        """Predicted ``tr(G E H E^T)`` if W has entries of unit mean square.

        ``losses`` and ``squares`` are those of `ColumnRates.losses`, per row of each block, if what
        it rounds has unit mean square, ``squares`` over columns as well. But it rounds W and the
        errors fed back to it, whose mean square follows from the last block to the first. What the
        extra damping of the feedback adds is subtracted, as in `ColumnRates.loss`.
        """
        rounded = np.ones(len(losses))  # mean squares of what is rounded
        for b in range(len(losses) - 2, -1, -1):
            rounded[b] += self.fed_back[b + 1 :, b] @ (rounded * squares)[b + 1 :]
        coded = rounded * losses
        total = self.for_losses * coded
        if self.weights.L is not None:
            total -= FEEDBACK_DAMPING * (coded + coded @ self.fed_back)
        return float(self.sizes @ total)


def _mean_diagonals(L: np.ndarray, D: np.ndarray, edges: list[int]) -> np.ndarray:
    """Mean diagonals of ``L_BB D_B L_BB^T``, float64."""
    blocks = [slice(i, j) for i, j in pairwise(edges)]
    return np.array([(np.square(L[B, B]) @ D[B]).mean() for B in blocks])


def _fed_back(L: np.ndarray, edges: list[int]) -> np.ndarray:
    """What a unit of mean square error in block P adds to what block B rounds, float64 (P, B).

    With e_B the error of block B around its best real value, the errors are ``M^T e``, M the
    inverse of L with its diagonal blocks divided out, ``M_PB = L_PP (L^-1)_PB``.
    """
    inverse = inverse_factor(L)
    out = np.zeros((len(edges) - 1, len(edges) - 1))
    for p, (i, j) in enumerate(pairwise(edges)):
        fed = L[i:j, i:j].astype(np.float32) @ inverse[i:j, :i]
        squares = np.square(fed).sum(axis=0, dtype=np.float64)
        for b, (k, m) in enumerate(pairwise(edges[: p + 1])):
            out[p, b] = squares[k:m].mean()
    return out


def _edges(L: np.ndarray, D: np.ndarray) -> list[int]:
    """The edges of the best blocks: a shortest way over multiples of `_STEP` rows."""
    n = len(L)
    step = _STEP * max(1, round(n / _STEP / _MOST_STEPS))
    grid = np.append(np.arange(0, max(n - _FEWEST, 0) + 1, step), n)
    # Sums of the diagonals of blocks: of all columns from one point of the grid on, of all rows up
    # to another. L is lower triangular: rows above the block have nothing there.
    cells = np.add.reduceat(np.square(L) * D, grid[:-1], axis=1)
    cells = np.add.reduceat(cells, grid[:-1], axis=0)
    sums = np.cumsum(np.cumsum(cells[:, ::-1], axis=1)[:, ::-1], axis=0)
    least, came = np.full(len(grid), np.inf), np.zeros(len(grid), int)
    least[0] = 0.0
    for j in range(1, len(grid)):
        first = np.flatnonzero(grid[j] - grid[:j] >= min(_FEWEST, n))
        rows = (grid[j] - grid[first]).astype(np.float64)
        ways = least[first] + rows * np.log(sums[j - 1, first] / rows) + _START + _GAIN * n
        if len(ways):
            came[j] = first[np.argmin(ways)]
            least[j] = ways.min()
    edges = [n]
    j = len(grid) - 1
    while j:
        j = came[j]
        edges.insert(0, int(grid[j]))
    return edges
