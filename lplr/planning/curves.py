"""Predicted loss over bytes, and that of factors with rates by component.

Everything is an expected error energy under the regularised weights, before anything is coded: the
singular values of W, the pivots of H and the error of each code on a normal distribution decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lplr.coding.factor import CodebookPair
from lplr.planning.codebooks import component_menu, lower_hull, residual_share

__all__ = ["Curve", "Spectrum", "best_split"]

_PRICES = 80  # points of a curve of factors, about


@dataclass(frozen=True)
class Curve:
    """Falling loss over rising bytes; its logarithm is linear between the points."""

    nbytes: np.ndarray
    loss: np.ndarray

    def at(self, nbytes: np.ndarray) -> np.ndarray:
        """Loss at some sizes; infinite below the smallest."""
        if not len(self.nbytes):
            return np.full(np.shape(nbytes), np.inf)
        out = np.exp(np.interp(nbytes, self.nbytes, np.log(self.loss)))
        return np.where(np.asarray(nbytes) < self.nbytes[0], np.inf, out)


@dataclass(frozen=True)
class Spectrum:
    """The singular values of a matrix, all or the leading ones, descending, and its squared norm.

    The energy that the values do not explain never counts as coded.
    """

    s: np.ndarray
    energy: float
    shape: tuple[int, int]

    def curve(self, pairs: Sequence[CodebookPair]) -> Curve:
        """Error energy over bytes of low-rank factors with rates by component, from 0 bytes on.

        ``pairs`` are those of `lplr.planning.codebooks.efficient_pairs`.
        """
        energy = np.square(self.s)
        rest = max(self.energy - float(energy.sum()), 0.0)
        loss, cost = component_menu(pairs, self.shape)
        top = np.log(max(energy[0], 1e-300)) - np.log(cost[1:].min())
        hull = np.array(lower_hull(cost, loss))
        # A component gets the next code where its energy, over the price of a byte, exceeds these.
        steps = np.diff(cost[hull]) / -np.diff(loss[hull])
        sizes, losses = [0.0], [self.energy]
        for price in np.exp(np.linspace(top + 1, top - 45, _PRICES)):
            choice = hull[np.searchsorted(steps, energy / price)]
            count = np.bincount(choice, minlength=len(cost))
            size = count @ cost + 4 * np.count_nonzero(count[1:])
            if size > sizes[-1]:
                rank = int(count[1:].sum())
                left = [1.0, *(residual_share(books, rank, self.shape) for books in pairs)]
                sizes.append(float(size))
                losses.append(float((energy * np.array(left)[choice]).sum()) + rest)
        return Curve(np.array(sizes), np.maximum(losses, 1e-300))


def best_split(factors: Curve, backbone: Curve, nbytes: float) -> float:
    """The bytes of a budget that factors should get, the rest going to a backbone after them.

    It is the size of a point of ``factors``, a curve of `Spectrum.curve`, but not of the one
    without factors; 0 if none fits. ``backbone`` has the loss for unit energy.
    """
    losses = factors.loss[1:] * backbone.at(nbytes - factors.nbytes[1:])
    if not len(losses) or not np.isfinite(losses.min()):
        return 0.0
    # The sizes of that curve are right to a few bytes only.
    return min(1.02 * float(factors.nbytes[1 + int(np.argmin(losses))]), 0.9 * nbytes)
