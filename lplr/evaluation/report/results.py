"""A results table, gathered: means over seeds, and the default against the baselines.

A *case* is a data set at a budget. At the same budget all methods store the same number of bits at
most, so that within a case errors and accuracies may be compared directly.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lplr.evaluation.metrics import metric, nearest_to_one
from lplr.evaluation.significance import TWICE, paired_error, read_flags
from lplr.exceptions import InputError

__all__ = ["GROUPS", "Comparison", "Entry", "Results", "gather"]

# Whose methods they are, by family, in the order in which they are shown.
GROUPS = {
    "paper": "best of the paper",
    "naive": "naive rounding",
    "sklearn": "best of scikit-learn, SciPy",
    "scipy": "best of scikit-learn, SciPy",
    "faiss": "best of faiss",
    "lplr": "best other of ours",
}
_NEEDED = ("dataset", "method", "family", "budget", "status")
_MEANS = ("bits_per_entry", "stored_bytes", "seconds", "peak_mb")
_ERRORS = ("relative error under H", "relative error")  # the first that was measured ranks


@dataclass(frozen=True)
class Entry:
    """One metric of one method at one budget on one data set, over seeds.

    Parameters
    ----------
    dataset, method, family, metric, protocol : str
        An empty protocol where there is but one.
    budget : float
        Asked bits per entry.
    values : tuple of float
        One a seed.
    sampling : float
        Standard error of the mean over queries; 0 where there are none.
    correct : ndarray of shape (n,), optional
        Of each query, the share of the seeds that answered it rightly.
    bits_per_entry, stored_bytes, seconds, peak_mb : float or None
        Means over the seeds; None where not measured.
    notes : tuple of str
    """

    dataset: str
    method: str
    family: str
    metric: str
    protocol: str
    budget: float
    values: tuple[float, ...]
    sampling: float = 0.0
    correct: np.ndarray | None = field(default=None, compare=False)
    bits_per_entry: float | None = None
    stored_bytes: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def seed_error(self) -> float:
        """Standard error of the mean over the seeds; 0 for a single one, which has none."""
        n = len(self.values)
        finite = n > 1 and math.isfinite(self.mean)
        return statistics.stdev(self.values) / math.sqrt(n) if finite else 0.0

    @property
    def standard_error(self) -> float:
        """Of the mean, over queries and seeds."""
        return math.hypot(self.sampling, self.seed_error)

    @property
    def is_baseline(self) -> bool:
        """Whether this is not one of this project's own methods, and compressed at all."""
        return self.family not in ("lplr", "reference")


@dataclass(frozen=True)
class Comparison:
    """The default against a baseline, in one metric of one case."""

    default: Entry
    baseline: Entry

    @property
    def gain(self) -> float:
        """By how much the default is better; negative where the baseline is."""
        sign = metric(self.default.metric).sign
        return sign * (self.baseline.mean - self.default.mean)

    @property
    def standard_error(self) -> float:
        """Of the difference: over the same queries where they are known, and over the seeds."""
        a, b = self.default, self.baseline
        if a.correct is not None and b.correct is not None and len(a.correct) == len(b.correct):
            sampling = paired_error(a.correct, b.correct)
        else:
            sampling = math.hypot(a.sampling, b.sampling)
        return math.hypot(sampling, a.seed_error, b.seed_error)

    @property
    def verdict(self) -> int:
        """1 if the default is better, -1 if the baseline is; 0 within twice the standard error."""
        if abs(self.gain) <= TWICE * self.standard_error or math.isnan(self.gain):
            return 0
        return (self.gain > 0) - (self.gain < 0)


@dataclass
class Results:
    """A results table, gathered.

    Parameters
    ----------
    default : str
        The method that the others are compared with.
    entries : list of Entry
        What ran, in the order of the table.
    skipped : list of dict
        Rows that did not run, with the reason as ``note``.
    shapes : dict of str to str
        By data set, also where everything was skipped.
    """

    default: str
    entries: list[Entry] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> list[str]:
        """Data sets that have a result."""
        found = {e.dataset for e in self.entries}
        return [name for name in self.shapes if name in found]

    def uncompressed(self, like: Entry) -> Entry | None:
        """The same metric of the uncompressed data."""
        same = {"dataset": like.dataset, "metric": like.metric, "protocol": like.protocol}
        return next(iter(self.pick(family="reference", **same)), None)

    def pick(self, **wanted: Any) -> list[Entry]:
        """Entries with these attributes."""
        return [e for e in self.entries if all(getattr(e, k) == v for k, v in wanted.items())]

    def error_metric(self, dataset: str) -> str | None:
        """The error by which methods are ranked on a data set: under H where there is one."""
        found = {e.metric for e in self.pick(dataset=dataset)}
        return next((name for name in _ERRORS if name in found), None)

    def cases(self) -> list[tuple[str, float]]:
        """Data sets and budgets at which the default ran."""
        found = {(e.dataset, e.budget) for e in self.pick(method=self.default)}
        return sorted(found, key=lambda case: (list(self.shapes).index(case[0]), case[1]))

    def comparisons(self, dataset: str, budget: float) -> list[Comparison]:
        """The default against the best baseline, in each metric with a better side."""
        found = []
        for mine in self.pick(dataset=dataset, budget=budget, method=self.default):
            same = self.pick(
                dataset=dataset, budget=budget, metric=mine.metric, protocol=mine.protocol
            )
            baselines = [e for e in same if e.is_baseline and e.method != self.default]
            sign = metric(mine.metric).sign
            if baselines and sign:
                best = min(baselines, key=lambda e: sign * e.mean)
                found.append(Comparison(mine, best))
        return found

    def ranked(self, dataset: str) -> list[Comparison]:
        """The comparisons in error on a data set, by budget."""
        return [
            c
            for name, budget in self.cases()
            if name == dataset
            for c in self.comparisons(dataset, budget)
            if c.default.metric == self.error_metric(dataset)
        ]

    @property
    def budget(self) -> float | None:
        """The budget that is shown first: of those at which the default ran, nearest to one bit."""
        budgets = {budget for _, budget in self.cases()}
        return nearest_to_one(budgets) if budgets else None

    def best_of_groups(self, dataset: str) -> dict[str, Entry]:
        """Of each group, the method with the least error on a data set, near one bit."""
        errors = self.pick(dataset=dataset, metric=self.error_metric(dataset))
        groups: dict[str, list[Entry]] = {name: [] for name in GROUPS.values()}
        for e in errors:
            if e.method != self.default:
                groups.setdefault(GROUPS.get(e.family, f"best of {e.family}"), []).append(e)
        found = {}
        for name, members in groups.items():
            if members:
                budget = nearest_to_one(e.budget for e in members)
                found[name] = min((e for e in members if e.budget == budget), key=lambda e: e.mean)
        return found


def gather(rows: Iterable[Mapping[str, Any]], default: str) -> Results:
    """Group the rows of a results table over seeds.

    Raises
    ------
    InputError
        If there is no row, or one lacks a column or has a value that is no number.
    """
    results = Results(default)
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for i, row in enumerate(rows):
        _check_row(row, i)
        dataset = str(row["dataset"])
        results.shapes[dataset] = results.shapes.get(dataset) or str(row.get("shape") or "")
        if row["status"] != "ok":
            results.skipped.append(dict(row))
            continue
        names = [str(row.get(k) or "") for k in ("method", "family", "metric", "protocol")]
        groups.setdefault((dataset, *names, float(row["budget"])), []).append(row)
    if not results.shapes:
        raise InputError("rows: the table is empty; run a benchmark first")
    for key, group in groups.items():
        values = tuple(float(row["value"]) for row in group)
        means = [_mean(group, k) for k in _MEANS]
        notes = tuple(dict.fromkeys(str(row["note"]) for row in group if row.get("note")))
        fields: list[Any] = [*key, values, _sampling(group), _correct(group), *means, notes]
        results.entries.append(Entry(*fields))
    return results


def _check_row(row: Mapping[str, Any], i: int) -> None:
    needed = (*_NEEDED, "metric", "value") if row.get("status") == "ok" else _NEEDED
    missing = [name for name in needed if row.get(name) is None]
    if missing:
        raise InputError(f"rows: row {i} has no {missing[0]!r}; give the rows of a benchmark")
    for name in ("budget", "value"):
        value = row.get(name)
        if value is not None and not isinstance(value, (int, float)):
            raise InputError(f"rows: {name!r} of row {i} must be a number, found {value!r}")


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [float(row[name]) for row in rows if row.get(name) is not None]
    return sum(known) / len(known) if known else None


def _sampling(rows: Sequence[Mapping[str, Any]]) -> float:
    """Standard error over the queries, which are the same for all seeds."""
    return _mean(rows, "standard_error") or 0.0


def _correct(rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Of each query, the share of the rows that have it right; None where one does not say."""
    if not all(row.get("correct") and row.get("queries") for row in rows):
        return None
    try:
        return np.mean([read_flags(row["correct"], int(row["queries"])) for row in rows], axis=0)
    except (TypeError, ValueError) as error:
        where = f"{rows[0]['method']} on {rows[0]['dataset']}"
        raise InputError(f"rows: 'correct' of {where} is damaged: {error}") from None
