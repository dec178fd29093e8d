"""The first pass: whether all is finite, and what the factors of a tall matrix follow from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from lplr.linalg.svd import ShortSVD
from lplr.parallel import matmul
from lplr.streaming.passes import Passes
from lplr.streaming.results import Kept, Results
from lplr.validation.matrices import bring_into_range, check_block, check_magnitude

__all__ = [
    "Extrema",
    "FirstPass",
    "Moments",
    "checked",
    "first_pass",
    "moments_of",
    "sample_rows",
    "sample_size",
    "sampled_in",
]

_SAMPLE = 4096  # rows, at least
_SAMPLE_PER_COLUMN = 2
_DEFICIT = 0.1  # of what a direction should have in the sample, below which it is filled up


def sample_size(d: int) -> int:
    """How many rows of d entries stand for all."""
    return max(_SAMPLE, _SAMPLE_PER_COLUMN * d)


def sample_rows(shape: tuple[int, int]) -> np.ndarray:
    """The numbers of the rows that stand for all: evenly spaced, or all where there are few."""
    n, d = shape
    return np.unique(np.linspace(0, n - 1, min(n, sample_size(d))).astype(int))


def sampled_in(rows: np.ndarray, start: int, count: int) -> np.ndarray:
    """Which of the ``count`` rows from ``start`` on are of the sample."""
    first, last = np.searchsorted(rows, (start, start + count))
    return rows[first:last] - start


@dataclass
class Extrema:
    """The smallest and the largest entry of what was looked at."""

    low: float = np.inf
    high: float = -np.inf

    def include(self, low: float, high: float) -> None:
        """Look at more entries."""
        self.low, self.high = min(self.low, low), max(self.high, high)

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(self.high, -self.low)

    @property
    def are_equal(self) -> bool:
        """Whether there is one value only."""
        return self.low == self.high


def checked(X: np.ndarray, name: str, start: int) -> tuple[float, float]:
    """The extrema of a tile whose first row is ``start``; InputError names what is not finite."""
    low, high = float(X.min()), float(X.max())  # which propagate NaN
    if not np.isfinite(high - low):
        check_block(X, name, start)
    return low, high


@dataclass(frozen=True)
class Moments:
    """What the first pass finds, in units in which float32 holds products of three entries.

    ``gram`` is A^T A, float64 (d, d), and ``sums`` has the sums of the columns, float64 (d,);
    ``sample`` has some of the rows at even distances, float32; ``unit`` is the power of two that A
    was divided by. The ``extrema`` are those of A itself, and those of each column are there if
    they were asked for.
    """

    shape: tuple[int, int]
    unit: float
    gram: np.ndarray
    sums: np.ndarray
    sample: np.ndarray
    extrema: Extrema
    of_columns: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        gram: np.ndarray,
        sums: np.ndarray,
        sample: np.ndarray,
        extrema: Extrema,
        name: str,
        of_columns: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Moments:
        """From sums and a sample of A itself, which are scaled in place.

        InputError says that its magnitude is out of range.
        """
        check_magnitude(extrema.largest, name)
        unit, _ = bring_into_range(np.full((1, 1), extrema.largest, np.float32))
        gram /= unit * unit
        sums /= unit
        sample *= np.float32(1 / unit)
        return cls(shape, unit, gram, sums, sample, extrema, of_columns)

    def of_rows(self, count: int) -> Moments:
        """Those of so many rows like these."""
        share = count / self.shape[0]
        if share == 1:
            return self
        shape, gram, sums = (count, self.shape[1]), self.gram * share, self.sums * share
        return replace(self, shape=shape, gram=gram, sums=sums)

    def _kept(self) -> Kept:
        numbers = np.array([self.unit, self.extrema.low, self.extrema.high])
        sums = {"gram": self.gram, "sums": self.sums}
        kept = {"numbers": numbers, **sums, "sample": self.sample}
        if self.of_columns is not None:
            kept["columns"] = np.stack(self.of_columns)
        return kept

    @classmethod
    def _from_kept(cls, shape: tuple[int, int], kept: Kept) -> Moments:
        unit, low, high = kept["numbers"].tolist()
        ends = tuple(kept["columns"]) if "columns" in kept else None
        found = kept["gram"], kept["sums"], kept["sample"]
        return cls(shape, unit, *found, Extrema(low, high), ends)

    @property
    def extremes_of_columns(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest entry of each column, float32 (d,), in these units."""
        assert self.of_columns is not None
        low, high = (end * np.float32(1 / self.unit) for end in self.of_columns)
        return low, high

    @property
    def energy(self) -> float:
        """The squared norm of A."""
        return float(np.trace(self.gram))

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """All singular values, descending, and right singular vectors, as rows; float64."""
        from scipy.linalg import eigh

        w, V = eigh(self.gram, driver="evd", check_finite=False)
        return np.sqrt(np.maximum(w[::-1], 0.0)), np.ascontiguousarray(V[:, ::-1].T)

    @property
    def singular_values(self) -> np.ndarray:
        """All of them, float64, descending."""
        return self._eigen[0]

    def svd(self, k: int, rows: int | None = None) -> ShortSVD:
        """The leading singular values and right vectors, of A or of its `stand_in`."""
        s, V = self._eigen
        scale = 1.0 if rows is None else np.sqrt(rows / self.shape[0])
        return (scale * s[:k]).astype(np.float32), V[:k].astype(np.float32)

    def stand_in(self) -> np.ndarray:
        """A matrix of few rows with the Gram matrix of A up to their number, float32 (N, d).

        Its rows are those of the sample after a linear map near the identity, so that they are
        distributed as those of A are, as far as a linear map leaves that. With ``Y = sample V /
        Sigma`` in units in which ``Y^T Y`` would be the identity for a perfect sample, it is
        ``Y (Y^T Y)^(-1/2) Sigma V^T``. Directions that the sample lacks are filled up with normal
        numbers. A sample of all rows stands for itself, repeated until there are d of them.
        """
        s, V = self._eigen
        N = len(self.sample)
        share = np.sqrt(N / self.shape[0])
        Y = matmul(self.sample.astype(np.float64), V.T)
        Y /= share * np.maximum(s, 1e-6 * s[0])
        w, U = np.linalg.eigh(matmul(Y.T, Y))
        lacking = np.sqrt(np.maximum(_DEFICIT - w, 0.0))
        if lacking.any() and N >= len(s):
            Z = np.random.default_rng(0).standard_normal(Y.shape)
            Y += matmul(Z, matmul(U * (lacking / np.sqrt(N)), U.T))
            w, U = np.linalg.eigh(matmul(Y.T, Y))
        root = U / np.sqrt(np.maximum(w, 1e-3 * _DEFICIT))
        back = matmul(matmul(root, U.T), (share * s)[:, None] * V)
        return np.tile(matmul(Y, back).astype(np.float32), (-(-len(s) // N), 1))

    def few_rows(self) -> np.ndarray:
        """The stand-in in the units of A; of a matrix of one value the sample."""
        few = self.sample if self.extrema.are_equal else self.stand_in()
        return few * np.float32(self.unit)


@dataclass
class FirstPass:
    """What the first pass over a matrix finds, for who needs it when the factors are there.

    ``source`` is whatever is factored. Without one, but with moments, its rows are gone, and the
    factors are those of `Moments.few_rows`.
    """

    source: Any = None
    moments: Moments | None = None


def moments_of(passes: Passes, results: Results, **options: bool) -> Moments:
    """`first_pass`, or what it found before the computation was interrupted."""
    kept = results.read_once("moments", passes, lambda: first_pass(passes, **options)._kept())
    return Moments._from_kept(passes.shape, kept)


def first_pass(passes: Passes, *, by_column: bool = False, with_gram: bool = True) -> Moments:
    """Read all once; InputError says that an entry is not finite, or the magnitude out of range.

    The extrema of each column are kept if ``by_column``; the Gram matrix is (0, 0) if it is not
    asked for.
    """
    n, d = passes.shape
    name = passes.source.name
    rows = sample_rows(passes.shape)
    sample = np.empty((len(rows), d), np.float32)
    of_gram, filled = d if with_gram else 0, 0
    gram, extrema, sums = np.zeros((of_gram, of_gram)), Extrema(), np.zeros(d)
    lowest, highest = (np.full(d, end, np.float32) for end in (np.inf, -np.inf))

    def work(start: int, X: np.ndarray) -> tuple[Any, ...]:
        low, high = checked(X, name, start)
        of_columns = (X.min(axis=0), X.max(axis=0)) if by_column else None
        x = X[:, :of_gram].astype(np.float64)
        sampled = X[sampled_in(rows, start, len(X))]
        return low, high, X.sum(axis=0, dtype=np.float64), x.T @ x, sampled, of_columns

    def take(found: tuple[Any, ...]) -> None:
        nonlocal filled
        low, high, part, G, sampled, of_columns = found
        extrema.include(low, high)
        np.add(sums, part, out=sums)
        np.add(gram, G, out=gram)
        sample[filled : filled + len(sampled)] = sampled
        filled += len(sampled)
        if of_columns is not None:
            np.minimum(lowest, of_columns[0], out=lowest)
            np.maximum(highest, of_columns[1], out=highest)

    passes.each(work, take, "first pass")
    ends = (lowest, highest) if by_column else None
    return Moments.of((n, d), gram, sums, sample, extrema, name, ends)
