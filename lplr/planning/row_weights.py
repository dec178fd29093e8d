"""Blocks of rows by what a second moment G of output gradients says about their errors.

With ``G = L D L^T`` a block B of rows, all below it coded and all above free, weighs as the mean
diagonal p_B of ``S_BB = L_BB D_B L_BB^T``, see `lplr.coding.backbone.code_row_blocks`: the loss
under G and H is the sum of p_B times the loss of each block under H. At the best rates only the
geometric mean of the weights counts. Short blocks lower it, as far as the pivots of their rows
differ; but each one costs the start of its trellis codes, some scales and a call in each product.

Rates ask for more damping than the feedback, but for no other factorization. Let p(t) be what rows
weigh once a fraction t of them is known, in coordinates in which G is incoherent. As in
`lplr.linalg.rotated_pivots`, ``p = w t / (1 - t)`` where ``mean(s / (s + w)) = t``, over the
eigenvalues s of G. Adding a to all s and taking a from w changes the mean to
``t (1 + a / p)`` and p to ``p + a``: damping moves the points of the curve so. At a given t its
derivative by a is therefore ``1 - dlog p / dlog t``; and p being the least square of a row less a
combination of those that are known, it is one and the squares of the coefficients.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lplr.coding.backbone import FEEDBACK_DAMPING, FeedbackWeights
from lplr.planning.column_rates import RATE_DAMPING

__all__ = ["RowWeights"]

_FEWEST = 64  # rows of a block: below, the start of a trellis code costs 5 % and more
_STEP = 16  # edges are multiples of it
_MOST_STEPS = 256  # but not of more than so many
_START = 2.0  # rows: the start of trellis codes loses as much as these do
_GAIN = 0.003  # of the loss: the least that another block must gain


class RowWeights:
    """Blocks of rows, what their errors weigh, and what these feed back to the blocks above.

    G is symmetric (n, n), positive definite, with a mean diagonal of about 1, or None for the
    identity, under which all rows are one block. The weights are computed in its dtype.
    """

    def __init__(self, G: np.ndarray | None, n: int) -> None:
        self.weights = FeedbackWeights(G, n)
        self.edges = [0, n]
        self.for_rates = self.for_losses = np.ones(1)  # p_B, damped as rates and as losses ask for
        self.fed_back = np.zeros(1)  # the mean square that one of errors in B adds to rows above
        if self.weights.L is None:
            return
        step = _STEP * max(1, round(n / _STEP / _MOST_STEPS))
        grid = np.append(np.arange(0, max(n - _FEWEST, 0) + 1, step), n)
        sums = _sums(self.weights.L, self.weights.D, grid)
        start = grid[:-1]
        p = np.minimum.accumulate(sums[-1] / (n - start))  # falls, but for the choice of rows
        more = RATE_DAMPING - FEEDBACK_DAMPING
        damped = np.interp(start, start * (1 + more / p), p + more) / p
        at = _best(sums * damped, grid)
        first = at[:-1]
        self.edges = grid[at].tolist()
        self.for_losses = sums[at[1:] - 1, first] / self.sizes
        self.for_rates = self.for_losses * damped[first]
        if len(first) > 1:
            self.fed_back = self.sizes * -np.gradient(np.log(p), start)[first]

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
        for b in range(len(losses) - 1, 0, -1):
            rounded[b - 1] = rounded[b] * (1 + self.fed_back[b] * squares[b])
        coded = rounded * losses
        total = self.sizes * self.for_losses * coded
        if self.weights.L is not None:
            above = self.edges[:-1] * self.fed_back
            total -= FEEDBACK_DAMPING * coded * (self.sizes + above)
        return float(total.sum())


def _sums(L: np.ndarray, D: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The sums of the diagonals of ``S_BB``, B from ``grid[k]`` to ``grid[j + 1]``, at [j, k]."""
    cells = np.zeros((len(grid) - 1, len(grid) - 1))
    for j, (start, stop) in enumerate(pairwise(grid)):
        columns = np.square(L[start:stop, :stop]).sum(axis=0, dtype=np.float64) * D[:stop]
        cells[j, : j + 1] = np.add.reduceat(columns, grid[: j + 1])
    # Of all columns from a point of the grid on; rows above it have nothing there.
    return np.cumsum(np.cumsum(cells[:, ::-1], axis=1)[:, ::-1], axis=0)


def _best(sums: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Which points of the grid are the edges of the best blocks: a shortest way over it."""
    n = grid[-1]
    least, came = np.full(len(grid), np.inf), np.zeros(len(grid), int)
    least[0] = 0.0
    for j in range(1, len(grid)):
        first = np.flatnonzero(grid[j] - grid[:j] >= min(_FEWEST, n))
        rows = (grid[j] - grid[first]).astype(np.float64)
        ways = least[first] + rows * np.log(sums[j - 1, first] / rows) + _START + _GAIN * n
        if len(ways):
            came[j] = first[np.argmin(ways)]
            least[j] = ways.min()
    at = [len(grid) - 1]
    while at[0]:
        at.insert(0, int(came[at[0]]))
    return np.array(at)
