"""Predicted losses: what a budget buys as low-rank factors, as a backbone, or as both.

Everything is expected error energy under the regularised H, before anything is coded: the
singular values of W, the pivots of H and the error of each code on a normal distribution decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from lplr.coding.backbone import Pivots
from lplr.planning.budget import Books
from lplr.planning.waterfill import kept
from lplr.quantizers.base import QUANTIZERS, Codebook, get_codebook

__all__ = [
    "EFFORTS",
    "Curve",
    "Spectrum",
    "backbone_curve",
    "best_split",
    "half_steps",
    "hull",
    "ladder",
    "worthwhile",
]

EFFORTS = {"fast": "trellis-8", "default": "trellis-10", "best": "trellis-12"}
_SHORT = 64  # entries of a vector below which only scalar codes are on offer
_PRICES = 80  # of a curve


def ladder(effort: str, length: int) -> list[Codebook]:
    """The codes on offer for vectors of a length: rising in size, falling in error.

    Parameters
    ----------
    effort : {"fast", "default", "best"}
        Which trellis; above its widths, Lloyd-Max levels.
    length : int
        Short vectors get scalar codes only.

    Returns
    -------
    list of Codebook
    """
    names = ["lloyd-max"] if length < _SHORT else [EFFORTS[effort], "e8p", "lloyd-max"]
    books = [get_codebook(n, b) for n in names if n in QUANTIZERS for b in QUANTIZERS[n][0]]
    books.sort(key=lambda book: (book.nbytes(length, 64), book.gaussian_mse))
    rising: list[Codebook] = []
    for book in books:
        if not rising or book.gaussian_mse < rising[-1].gaussian_mse:
            rising.append(book)
    return rising


def half_steps(effort: str, shape: tuple[int, int]) -> list[Books]:
    """The pairs of codes of L and R of whole and half bits.

    Quarters gain nothing where rates differ by component.

    Parameters
    ----------
    effort : {"fast", "default", "best"}
    shape : (n, d)

    Returns
    -------
    list of (Codebook, Codebook)
    """
    left, right = ([b for b in ladder(effort, side) if 2 * b.bits % 1 == 0] for side in shape)
    return list(product(left, right))


def worthwhile(effort: str, shape: tuple[int, int]) -> list[Books]:
    """The pairs of `half_steps` that are best at some exchange rate, from coarse to fine.

    Parameters
    ----------
    effort : {"fast", "default", "best"}
    shape : (n, d)

    Returns
    -------
    list of (Codebook, Codebook)
        The lower convex hull of error over size.
    """
    pairs = half_steps(effort, shape)
    loss, cost = _menu(pairs, shape)
    keep = hull(cost, loss)
    return [pairs[i - 1] for i in keep if i > 0]


def hull(x: np.ndarray, y: np.ndarray) -> list[int]:
    """The points of a lower convex hull of falling y, from the smallest x on.

    Parameters
    ----------
    x, y : ndarray of shape (m,)

    Returns
    -------
    list of int
        Indices, of rising x and falling y.
    """
    keep: list[int] = []
    for i in np.lexsort((y, x)):
        if keep and y[i] >= y[keep[-1]]:
            continue
        while len(keep) > 1:
            a, b = keep[-2], keep[-1]
            if (y[a] - y[b]) * (x[i] - x[a]) > (y[a] - y[i]) * (x[b] - x[a]):
                break
            keep.pop()
        keep.append(int(i))
    return keep


def _menu(pairs: Sequence[Books], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Share of its energy that a component keeps as error, and its bytes, nothing at all first."""
    n, d = shape
    loss = [kept(books, 0, shape) for books in pairs]
    cost = [(L.nbytes(n, 8) + R.nbytes(d, 8)) / 8 + 4 for L, R in pairs]
    return np.array([1.0, *loss]), np.array([0.0, *cost])


@dataclass(frozen=True)
class Curve:
    """Loss over bytes, both logarithmic between the points.

    Parameters
    ----------
    nbytes : ndarray, rising
    loss : ndarray, falling
    """

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
    """The singular values of a matrix, all or the leading ones, and its energy.

    Parameters
    ----------
    s : ndarray of shape (k,), descending
    energy : float
        Squared norm; what the values do not explain never counts as coded.
    shape : (n, d)
    """

    s: np.ndarray
    energy: float
    shape: tuple[int, int]

    def curve(self, pairs: Sequence[Books]) -> Curve:
        """Error energy over bytes of low-rank factors with rates by component.

        Parameters
        ----------
        pairs : sequence of (Codebook, Codebook)
            Of `worthwhile`.

        Returns
        -------
        Curve
            Begins with nothing at all at 0 bytes.
        """
        energy = np.square(self.s)
        rest = max(self.energy - float(energy.sum()), 0.0)
        loss, cost = _menu(pairs, self.shape)
        top = np.log(max(energy[0], 1e-300)) - np.log(cost[1:].min())
        sizes, losses = [0.0], [self.energy]
        for price in np.exp(np.linspace(top + 1, top - 45, _PRICES)):
            choice = np.argmin(energy[:, None] * loss + price * cost, axis=1)
            size = cost[choice].sum() + 4 * len(np.unique(choice[choice > 0]))
            if size > sizes[-1]:
                rank = int(np.count_nonzero(choice))
                left = np.array([1.0, *(kept(books, rank, self.shape) for books in pairs)])
                sizes.append(float(size))
                losses.append(float((energy * left[choice]).sum()) + rest)
        return Curve(np.array(sizes), np.maximum(losses, 1e-300))


def backbone_curve(pivots: Pivots, n: int, books: list[Codebook], sizes: np.ndarray) -> Curve:
    """Loss ``tr(E H E^T)`` over bytes of a backbone, for W of unit mean square.

    Parameters
    ----------
    pivots : Pivots
    n : int
        Rows.
    books : list of Codebook
        Of `ladder`.
    sizes : ndarray, rising
        Those at which even the coarsest code does not fit are left out.

    Returns
    -------
    Curve
    """
    fit = sizes[sizes >= books[0].nbytes(n, pivots.d) + 4]
    losses = np.empty(len(fit))
    for i, size in enumerate(fit):
        groups = pivots.groups(n, books, float(size))
        mse = np.concatenate([np.full(g.stop - g.start, g.book.gaussian_mse) for g in groups])
        losses[i] = n * pivots.losses(mse)
    return Curve(fit, losses)


def best_split(factors: Curve, backbone: Curve, nbytes: float) -> float:
    """The bytes of a budget that factors should get, the rest going to a backbone after them.

    Parameters
    ----------
    factors : Curve
        Of `Spectrum.curve`: the energy that the backbone finds.
    backbone : Curve
        Loss for unit energy.
    nbytes : float

    Returns
    -------
    float
        The size of a point of the first curve, not the one at nothing at all; 0 if none fits.
    """
    losses = factors.loss[1:] * backbone.at(nbytes - factors.nbytes[1:])
    if not len(losses) or not np.isfinite(losses.min()):
        return 0.0
    # Sizes of that curve are to the byte only nearly.
    return min(1.02 * float(factors.nbytes[1 + int(np.argmin(losses))]), 0.9 * nbytes)
