"""What there is to compress, in the coordinates in which it is predicted and coded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lplr.coding.alternation import squared_norm
from lplr.coding.backbone import Pivots
from lplr.coding.weighted import WeightedSpectrum
from lplr.linalg.svd import truncated_svd
from lplr.linalg.transforms import RandomizedTransform
from lplr.parallel import matmul
from lplr.planning.predict import Spectrum

__all__ = ["Situation", "extended"]

_LARGE = 2048  # sides from which on only the leading singular values are computed
_LEADING = 256
_USED = 0.75


def extended(s: np.ndarray, energy: float, count: int) -> np.ndarray:
    """Leading singular values, followed by a power law that has the energy that they leave.

    Parameters
    ----------
    s : ndarray of shape (k,), descending, positive
    energy : float
        Sum of the squares of all.
    count : int
        How many there are, more than k.

    Returns
    -------
    ndarray of shape (count,)

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.planning.situation import extended
    >>> s = 1 / np.arange(1, 101)
    >>> guess = extended(s[:20], float(s @ s), 100)
    >>> bool(np.abs(guess / s - 1).max() < 0.02)
    True
    """
    k = len(s)
    rest = max(energy - float(s @ s), 0.0)
    ratio = np.log(np.arange(k + 1, count + 1) / k)
    low, high = 0.0, 50.0  # exponents: the larger, the less energy
    for _ in range(60):
        middle = 0.5 * (low + high)
        law = s[-1] ** 2 * np.exp(-2 * middle * ratio)
        low, high = (middle, high) if law.sum() > rest else (low, middle)
    return np.concatenate([s, s[-1] * np.exp(-high * ratio)])


@dataclass(frozen=True)
class Situation:
    """A matrix with the weights of its errors, and what follows from both.

    Parameters
    ----------
    W : ndarray of shape (n, d), float32, of moderate size
    H : ndarray of shape (d, d), float64, regularised, or None
        None is the identity.
    seed : int
        Of the transforms.
    """

    W: np.ndarray
    H: np.ndarray | None
    seed: int
    _weighted: dict[int, WeightedSpectrum] = field(default_factory=dict, init=False, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.W.shape[0], self.W.shape[1]

    @cached_property
    def transforms(self) -> tuple[RandomizedTransform, RandomizedTransform]:
        """Of rows and of columns."""
        rng = np.random.default_rng(self.seed)
        n, d = self.shape
        return RandomizedTransform.sample(n, rng), RandomizedTransform.sample(d, rng)

    @cached_property
    def rotated(self) -> np.ndarray:
        """W in coordinates in which it is spread evenly."""
        left, right = self.transforms
        return right.apply(left.apply(self.W, axis=0), axis=1)

    @cached_property
    def pivots(self) -> Pivots:
        """Of H in the rotated coordinates."""
        H = None if self.H is None else self.transforms[1].two_sided(self.H)
        return Pivots(H, self.shape[1])

    @cached_property
    def spectrum(self) -> Spectrum:
        """Singular values of W, through the smaller Gram matrix; of a large W in part guessed."""
        from scipy.linalg import eigvalsh

        energy = squared_norm(self.W)
        n, d = self.shape
        if min(n, d) > _LARGE:
            s = truncated_svd(self.W, _LEADING, rng=self.seed)[1].astype(np.float64)
            return Spectrum(extended(s, energy, min(n, d)), energy, (n, d))
        X = (self.W if n <= d else self.W.T).astype(np.float64)
        values = eigvalsh(matmul(X, X.T), check_finite=False)
        return Spectrum(np.sqrt(np.maximum(values[::-1], 0.0)), energy, self.shape)

    def weighted(self, nbytes: float) -> WeightedSpectrum | None:
        """The components of W H^(1/2) that a budget can be spent on; None without weights.

        Parameters
        ----------
        nbytes : float

        Returns
        -------
        WeightedSpectrum or None
        """
        if self.H is None:
            return None
        n, d = self.shape
        # Components have one bit an entry at least; 0.7 of those that this allows were used.
        rank = min(n, d, max(16, int(_USED * 8 * nbytes / (n + d))))
        if rank not in self._weighted:
            spectrum = WeightedSpectrum(self.rotated, self.pivots, rank, self.seed)
            self._weighted[rank] = spectrum
        return self._weighted[rank]

    @cached_property
    def norm(self) -> float:
        """tr(W H W^T)."""
        return self.loss(self.W)

    def loss(self, E: np.ndarray) -> float:
        """tr(E H E^T).

        Parameters
        ----------
        E : ndarray of shape (n, d), float32

        Returns
        -------
        float
        """
        if self.H is None:
            return squared_norm(E)
        return self.pivots.loss(self.transforms[1].apply(E, axis=1))

    def relative(self, loss: float) -> float:
        """The relative error of a loss; 0 for a matrix of zeros."""
        return float(np.sqrt(loss / self.norm)) if self.norm > 0 else 0.0
