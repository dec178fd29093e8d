"""Statistics of a stream of trials in constant memory, merged in a fixed order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["LogHistogram", "Moments", "Tally"]


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of a stream.

    Parameters
    ----------
    count : int
    mean : float
    squares : float
        Sum of the squared deviations from the mean.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, x: np.ndarray) -> Moments:
        """Those of an array of shape (n,), n at least 1."""
        mean = float(x.mean())
        return cls(len(x), mean, float(np.square(x - mean).sum()))

    def merge(self, other: Moments) -> None:
        """Add another stream (Chan, Golub and LeVeque 1979, the pairwise form of Welford's)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        self.squares += other.squares + shift**2 * self.count * other.count / count
        self.mean += shift * other.count / count
        self.count = count

    @property
    def standard_error(self) -> float:
        """Of the mean: the sample deviation over the root of the count; needs two values."""
        return float(np.sqrt(self.squares / (self.count - 1) / self.count))


@dataclass
class LogHistogram:
    """Counts of non-negative values in bins of equal ratio, for quantiles.

    64 bins an octave: a quantile is off by at most a factor 2^(1/128), that is 0.54 %, from an
    order statistic of the stream. The bins are those of the float64 line, hence the same for
    every stream, and only those that are hit take memory: about 64 for each factor 2 between the
    least and the largest value, at most 134 000. Zero and what is negative share one bin.

    Parameters
    ----------
    bins : Counter of int
        Counts by ``floor(64 log2(value))``.
    """

    bins: Counter[int] = field(default_factory=Counter)

    PER_OCTAVE = 64
    _ZERO = -(1 << 20)

    @classmethod
    def of(cls, x: np.ndarray) -> LogHistogram:
        """That of an array of shape (n,)."""
        positive = x > 0
        index = np.full(x.shape, cls._ZERO)
        index[positive] = np.floor(cls.PER_OCTAVE * np.log2(x[positive])).astype(np.int64)
        return cls(Counter(index.tolist()))

    def merge(self, other: LogHistogram) -> None:
        """Add another stream."""
        self.bins.update(other.bins)

    def quantiles(self, shares: Sequence[float]) -> tuple[float, ...]:
        """The geometric centres of the bins that hold these quantiles.

        Parameters
        ----------
        shares : sequence of float
            From 0 to 1, ascending or not.
        """
        index = sorted(self.bins)
        below = np.cumsum([self.bins[i] for i in index])
        total = int(below[-1])
        found = []
        for share in shares:
            rank = min(max(int(np.ceil(share * total)), 1), total)
            i = index[int(np.searchsorted(below, rank))]
            found.append(0.0 if i == self._ZERO else float(2.0 ** ((i + 0.5) / self.PER_OCTAVE)))
        return tuple(found)


@dataclass
class Tally:
    """All that is kept of the trials of a cell.

    Parameters
    ----------
    value, bound, excess : Moments
        ``excess`` of value - bound, trial by trial.
    histogram : LogHistogram
        Of the values.
    saturated : int
        Trials that left their assumption.
    over, off : float
        Largest of value - bound and of its magnitude, each less what rounding explains.
    rounding : float
        Largest rounding error that a trial allows for.
    worst : float
        Largest value / bound of a trial whose bound is above rounding errors.
    """

    value: Moments = field(default_factory=Moments)
    bound: Moments = field(default_factory=Moments)
    excess: Moments = field(default_factory=Moments)
    histogram: LogHistogram = field(default_factory=LogHistogram)
    saturated: int = 0
    over: float = -np.inf
    off: float = -np.inf
    rounding: float = 0.0
    worst: float = -np.inf

    @classmethod
    def of(
        cls, value: np.ndarray, bound: np.ndarray, saturated: np.ndarray, rounding: np.ndarray
    ) -> Tally:
        """That of a block of trials, arrays of shape (n,)."""
        excess = value - bound
        tangible = bound > rounding
        ratio = value[tangible] / bound[tangible]
        return cls(
            Moments.of(value),
            Moments.of(bound),
            Moments.of(excess),
            LogHistogram.of(value),
            int(saturated.sum()),
            float((excess - rounding).max()),
            float((np.abs(excess) - rounding).max()),
            float(rounding.max()),
            float(ratio.max(initial=-np.inf)),
        )

    def merge(self, other: Tally) -> None:
        """Add another block."""
        self.value.merge(other.value)
        self.bound.merge(other.bound)
        self.excess.merge(other.excess)
        self.histogram.merge(other.histogram)
        self.saturated += other.saturated
        self.over = max(self.over, other.over)
        self.off = max(self.off, other.off)
        self.rounding = max(self.rounding, other.rounding)
        self.worst = max(self.worst, other.worst)
