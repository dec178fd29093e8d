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

from lplr.evaluation.metrics import metric
from lplr.exceptions import InputError

__all__ = ["Comparison", "Entry", "Results", "gather"]

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
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for a single one."""
        finite = len(self.values) > 1 and math.isfinite(self.mean)
        return statistics.stdev(self.values) if finite else 0.0

    @property
    def is_baseline(self) -> bool:
        """Whether this is another project's method, and compressed at all."""
        return self.family not in ("lplr", "reference")


@dataclass(frozen=True)
class Comparison:
    """The default against a baseline, in one metric of one case."""

    default: Entry
    baseline: Entry

    @property
    def lost(self) -> bool:
        """Whether the baseline is strictly better."""
        sign = metric(self.default.metric).sign
        return sign * self.baseline.mean < sign * self.default.mean


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
    def uncompressed(self) -> dict[str, float]:
        """Accuracy of the uncompressed data, by data set, in the first protocol of each."""
        found: dict[str, float] = {}
        for entry in self.pick(family="reference", metric="accuracy"):
            found.setdefault(entry.dataset, entry.mean)
        return found

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

    def losses(self, dataset: str, budget: float) -> list[tuple[Comparison, Comparison | None]]:
        """Baselines with a lower error and, where there are labels, a higher accuracy too.

        Each as a comparison in error, and one in accuracy, where the default loses most.
        """
        case = {"dataset": dataset, "budget": budget}
        mine = self.pick(**case, method=self.default)
        error = next((e for e in mine if e.metric == self.error_metric(dataset)), None)
        if error is None:
            return []
        votes = {e.protocol: e for e in mine if e.metric == "accuracy"}
        found: list[tuple[Comparison, Comparison | None]] = []
        for other in self.pick(**case, metric=error.metric):
            if not other.is_baseline or other.mean >= error.mean:
                continue
            theirs = self.pick(**case, metric="accuracy", method=other.method)
            pairs = [Comparison(votes[e.protocol], e) for e in theirs if e.protocol in votes]
            lost = [pair for pair in pairs if pair.lost]
            if lost or not votes:
                worst = max(lost, key=lambda c: c.baseline.mean - c.default.mean, default=None)
                found.append((Comparison(error, other), worst))
        return sorted(found, key=lambda pair: pair[0].baseline.mean)


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
        fields: list[Any] = [*key, values, *means, notes]
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
