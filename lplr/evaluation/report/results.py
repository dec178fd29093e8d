"""A results table, gathered: means over seeds, and the default against the baselines.

A *case* is a data set at a budget. At the same budget all methods store the same number of bits at
most, so that within a case errors and accuracies may be compared directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lplr.evaluation.report.metrics import metric
from lplr.exceptions import InputError

__all__ = ["Cell", "Duel", "Results", "gather"]

_NEEDED = ("dataset", "method", "family", "budget", "metric", "status")
_MEANS = ("bits_per_entry", "stored_bytes", "seconds", "peak_mb")
_ERRORS = ("relative error under H", "relative error")  # the first that was measured ranks


@dataclass(frozen=True)
class Cell:
    """One metric of one method at one budget on one data set, over seeds.

    Parameters
    ----------
    dataset, method, family, metric, protocol : str
        An empty protocol where there is but one.
    budget : float
        Asked bits an entry.
    values : tuple of float
        One a seed.
    bits, stored_bytes, seconds, peak_mb : float or None
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
    bits: float | None
    stored_bytes: float | None
    seconds: float | None
    peak_mb: float | None
    notes: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for a single one."""
        if len(self.values) < 2 or not math.isfinite(self.mean):
            return 0.0
        return math.sqrt(sum((v - self.mean) ** 2 for v in self.values) / (len(self.values) - 1))


@dataclass(frozen=True)
class Duel:
    """The default against the best baseline, in one metric of one case.

    Parameters
    ----------
    default, rival : Cell
    """

    default: Cell
    rival: Cell

    @property
    def lost(self) -> bool:
        """Whether the baseline is strictly better."""
        return metric(self.default.metric).wins(self.rival.mean, self.default.mean)


@dataclass
class Results:
    """A results table, gathered.

    Parameters
    ----------
    default : str
        The method that the others are compared with.
    cells : list of Cell
        Of what ran, in the order of the table.
    skipped : list of dict
        Rows of what did not, with the reason as ``note``.
    shapes : dict of str to str
    """

    default: str
    cells: list[Cell] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """Names of all data sets, those where everything was skipped too."""
        return list(self.shapes)

    @property
    def uncompressed(self) -> dict[str, float]:
        """Accuracy of the uncompressed data, by data set, in the first protocol of each."""
        found: dict[str, float] = {}
        for cell in self.cells:
            if cell.family == "reference" and cell.metric == "accuracy":
                found.setdefault(cell.dataset, cell.mean)
        return found

    def pick(self, **wanted: Any) -> list[Cell]:
        """Cells with these attributes.

        Parameters
        ----------
        **wanted : object
        """
        return [c for c in self.cells if all(getattr(c, k) == v for k, v in wanted.items())]

    def is_baseline(self, cell: Cell) -> bool:
        """Whether a cell is of another project's method, and compressed at all.

        Parameters
        ----------
        cell : Cell
        """
        return cell.method != self.default and cell.family not in ("lplr", "reference")

    def error_name(self, dataset: str) -> str | None:
        """The error by which methods are ranked on a data set: under H where there is one.

        Parameters
        ----------
        dataset : str
        """
        found = {c.metric for c in self.cells if c.dataset == dataset}
        return next((name for name in _ERRORS if name in found), None)

    def cases(self) -> list[tuple[str, float]]:
        """Data sets and budgets at which the default ran."""
        found = {(c.dataset, c.budget) for c in self.cells if c.method == self.default}
        return sorted(found, key=lambda case: (self.datasets.index(case[0]), case[1]))

    def duels(self, dataset: str, budget: float) -> list[Duel]:
        """The default against the best baseline, in each metric with a better side.

        Parameters
        ----------
        dataset : str
        budget : float
        """
        found = []
        for mine in self.pick(dataset=dataset, budget=budget, method=self.default):
            same = self.pick(
                dataset=dataset, budget=budget, metric=mine.metric, protocol=mine.protocol
            )
            rivals = [c for c in same if self.is_baseline(c)]
            if rivals and metric(mine.metric).better:
                sign = 1 if metric(mine.metric).better == "lower" else -1
                found.append(Duel(mine, min(rivals, key=lambda c: sign * c.mean)))
        return found

    def defeats(self, dataset: str, budget: float) -> list[tuple[Duel, Duel | None]]:
        """Baselines with a lower error and, where there are labels, a higher accuracy too.

        Parameters
        ----------
        dataset : str
        budget : float

        Returns
        -------
        list of (Duel, Duel or None)
            In error and in accuracy, of the protocol in which the default falls back the most.
        """
        mine = self.pick(dataset=dataset, budget=budget, method=self.default)
        error = next((c for c in mine if c.metric == self.error_name(dataset)), None)
        if error is None:
            return []
        votes = {c.protocol: c for c in mine if c.metric == "accuracy"}
        found: list[tuple[Duel, Duel | None]] = []
        for rival in self.pick(dataset=dataset, budget=budget, metric=error.metric):
            if not self.is_baseline(rival) or rival.mean >= error.mean:
                continue
            theirs = self.pick(
                dataset=dataset, budget=budget, metric="accuracy", method=rival.method
            )
            better = [Duel(votes[c.protocol], c) for c in theirs if c.protocol in votes]
            better = [duel for duel in better if duel.lost]
            if better:
                worst = max(better, key=lambda duel: duel.rival.mean - duel.default.mean)
                found.append((Duel(error, rival), worst))
            elif not votes:
                found.append((Duel(error, rival), None))
        return sorted(found, key=lambda pair: pair[0].rival.mean)


def gather(rows: Iterable[Mapping[str, Any]], default: str) -> Results:
    """Group the rows of a results table over seeds.

    Parameters
    ----------
    rows : iterable of mapping
        One value a row; see `lplr.evaluation.report.write_report`.
    default : str

    Returns
    -------
    Results

    Raises
    ------
    InputError
        If there is no row, or one lacks a column or has a value that is no number.
    """
    results = Results(default)
    groups: dict[tuple[str, str, str, str, str, float], list[Mapping[str, Any]]] = {}
    for i, row in enumerate(rows):
        _check_row(row, i)
        dataset = str(row["dataset"])
        shape = results.shapes.setdefault(dataset, "")
        results.shapes[dataset] = shape or str(row.get("shape") or "")
        if row["status"] != "ok":
            results.skipped.append(dict(row))
            continue
        method, family, name = str(row["method"]), str(row["family"]), str(row["metric"])
        key = dataset, method, family, name, str(row.get("protocol") or ""), float(row["budget"])
        groups.setdefault(key, []).append(row)
    if not results.shapes:
        raise InputError("rows: the table is empty; run a benchmark first")
    for key, group in groups.items():
        bits, nbytes, seconds, peak = (_mean([row.get(name) for row in group]) for name in _MEANS)
        values = tuple(float(row["value"]) for row in group)
        notes = tuple(dict.fromkeys(str(row["note"]) for row in group if row.get("note")))
        results.cells.append(Cell(*key, values, bits, nbytes, seconds, peak, notes))
    return results


def _check_row(row: Mapping[str, Any], i: int) -> None:
    missing = [name for name in _NEEDED if row.get(name) is None and name != "metric"]
    if row.get("status") == "ok":
        missing += [name for name in ("metric", "value") if row.get(name) is None]
    if missing:
        raise InputError(f"rows: row {i} has no {missing[0]!r}; give the rows of a benchmark")
    for name in ("budget", "value"):
        value = row.get(name)
        if value is not None and not isinstance(value, (int, float)):
            raise InputError(f"rows: {name!r} of row {i} must be a number, found {value!r}")


def _mean(values: Sequence[Any]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known else None
