"""A matrix in passes, as planning sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lplr.planning.curves import Spectrum
from lplr.planning.weighted_components import WeightedComponents
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.streaming.moments import Moments

__all__ = ["StreamedMatrix"]


@dataclass(frozen=True)
class StreamedMatrix(WeightedMatrix):
    """What planning asks of a `WeightedMatrix`, from its moments; W has the rows of the sample."""

    moments: Moments | None = None

    @classmethod
    def of(
        cls, moments: Moments, H: np.ndarray | None, seed: int, factor_seed: int
    ) -> StreamedMatrix:
        """The matrix of some moments."""
        return cls(moments.sample, H, seed, factor_seed, moments=moments)

    @property
    def known(self) -> Moments:
        """The moments."""
        assert self.moments is not None
        return self.moments

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.known.shape

    @cached_property
    def is_constant(self) -> bool:
        """Whether all entries are equal."""
        return self.known.extrema.are_equal

    def some_rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the rows of the sample so many at even distances, with their numbers in it."""
        at = np.unique(np.linspace(0, len(self.W) - 1, min(count, len(self.W))).astype(int))
        return at, np.ascontiguousarray(self.W[at])

    @cached_property
    def spectrum(self) -> Spectrum:
        """All singular values."""
        n, d = self.shape
        return Spectrum(self.known.singular_values[: min(n, d)], self.known.energy, (n, d))

    def components(self, nbytes: float) -> WeightedComponents | None:
        """Those of the stand-in."""
        if self.H is None:
            return None
        n, _ = self.shape
        rank = self.most_components(nbytes)
        return WeightedComponents(self.trial.rotated, self.factor_weights, rank, self.seed, n)

    @cached_property
    def norm(self) -> float:
        """tr(W H W^T)."""
        if self.H is None:
            return self.known.energy
        return float(np.vdot(self.H, self.known.gram))

    @cached_property
    def trial(self) -> WeightedMatrix:
        """The stand-in of few rows, on which plans are tried, with the same weights."""
        return WeightedMatrix(self.known.stand_in(), self.H, self.seed, self.factor_seed)
