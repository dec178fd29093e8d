"""What coding a block of singular components leaves of its energy.

Coding both vectors of a component leaves a share c of its energy ``s_k^2``, see
`lplr.planning.codebooks.residual_share`. In a block that is rotated at random and quantized by
feedback it leaves c times ``mean(s) p(s)`` together, p the expected sum of pivots
(`lplr.linalg.rotated_pivots`, with Sigma^(1/2) on either side): less than c times the sum of
``s_k^2``, so that a block of unequal components makes up in part for rates that do not exist.

That is so at high rates. No code of the same rate, ``-1/2 log2 c`` bits for each of k components,
leaves less than reverse water-filling (Cover and Thomas, *Elements of Information Theory*, Theorem
10.3.3): where components are below the water, as in a block of 16 large ones and 8 that are next to
nothing, feedback amplifies the errors that it moves, and the water-filling is what is expected.
"""

from __future__ import annotations

import numpy as np

from lplr.linalg.rotated_pivots import BlockEnergies

__all__ = ["BlockLosses"]


class BlockLosses:
    """Squared errors that codes of blocks leave.

    Parameters
    ----------
    s : ndarray of shape (m,)
        Singular values, descending, the first of them positive.
    """

    def __init__(self, s: np.ndarray) -> None:
        self._energies = BlockEnergies(s)
        squares = np.square(np.maximum(s, s[0] * 1e-6).astype(np.float64))
        self._logs = np.log2(squares)
        self._sum, self._log_sum = (np.append(0.0, np.cumsum(x)) for x in (squares, self._logs))

    def __call__(self, start: np.ndarray, stop: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Losses of the blocks [start, stop), (q,), at each share, float64 (q, p)."""
        losses = shares * self._energies(start, stop)[:, None]
        # Water that covers no component leaves each the same, and all together less than the above.
        level = (self._log_sum[stop] - self._log_sum[start]) / (stop - start)
        covers = level + np.log2(shares.max(axis=1)) > self._logs[stop - 1]
        for b in np.flatnonzero(covers):
            limit = self._water_filling(int(start[b]), int(stop[b]), shares[b])
            losses[b] = np.maximum(losses[b], limit)
        return losses

    def _water_filling(self, i: int, j: int, shares: np.ndarray) -> np.ndarray:
        """What the best code of the same rate leaves of the components from i to j."""
        above = self._log_sum[i + 1 : j + 1] - self._log_sum[i]
        # The bits, in all, from which on a component is above the water.
        needed = 0.5 * (above - np.arange(1, j - i + 1) * self._logs[i:j])
        bits = -0.5 * (j - i) * np.log2(shares)
        count = np.maximum(np.searchsorted(needed, bits, side="right"), 1)
        level = np.exp2((above[count - 1] - 2 * bits) / count)
        return count * level + self._sum[j] - self._sum[i + count]
