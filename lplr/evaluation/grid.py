"""Methods x budgets x seeds on several matrices, as one tidy table that grows and resumes.

One row is one value; a *run* is a matrix, a method, a budget and a seed, and has a row for each of
its metrics. What could not run has a row too, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from lplr.evaluation.baselines import METHODS, Method
from lplr.evaluation.cases import Case
from lplr.evaluation.measure import Measurement, Meter
from lplr.evaluation.report.metrics import bits_text
from lplr.exceptions import BudgetError, InputError, MissingPackageError
from lplr.matrices.base import Artefact
from lplr.validation import check_choice, check_integer, check_real

__all__ = ["COLUMNS", "Grid", "Run", "remaining", "run_grid"]

Row = dict[str, Any]

COLUMNS = (
    "dataset",
    "shape",
    "method",
    "family",
    "budget",
    "bits_per_entry",
    "stored_bytes",
    "seed",
    "metric",
    "protocol",
    "value",
    "seconds",
    "peak_mb",
    "status",
    "note",
)

_LARGE = 10_000_000  # entries, from which one seed is enough: the spread falls with the size
_REFERENCE = "uncompressed"


@dataclass(frozen=True)
class Run:
    """One thing to do.

    Parameters
    ----------
    case : Case
    method : Method
    budget : float
    seed : int
    """

    case: Case
    method: Method
    budget: float
    seed: int

    @property
    def key(self) -> tuple[str, str, float, int]:
        """By which its rows are found again."""
        return self.case.name, self.method.name, self.budget, self.seed

    @property
    def work(self) -> float:
        """Roughly its seconds, for an estimate of the time that is left."""
        millions = 1e-6 * self.case.A.size
        fixed, each = self.method.cost
        seconds = fixed + each * millions * math.sqrt(self.budget)
        if self.case.queries is not None:
            seconds += 1e-5 * millions * len(self.case.queries.X)
        return seconds


@dataclass(frozen=True)
class Grid:
    """What to run.

    Parameters
    ----------
    cases : sequence of Case
    methods : sequence of str
        Names in `lplr.evaluation.baselines.METHODS`.
    budgets : sequence of float
        Bits an entry, scales and everything else included.
    seeds : sequence of int

    Raises
    ------
    InputError
        If a list is empty, or has something that is not offered.

    Examples
    --------
    >>> from lplr.evaluation.cases import load_suite
    >>> from lplr.evaluation.grid import Grid
    >>> grid = Grid(load_suite("image", quick=True), ["feedback", "naive"], [0.5, 1.0], [0, 1])
    >>> len(grid.runs())  # naive quantization draws no random numbers
    12
    """

    cases: Sequence[Case]
    methods: Sequence[str]
    budgets: Sequence[float]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        for name in ("cases", "methods", "budgets", "seeds"):
            values = list(getattr(self, name))
            if not values:
                raise InputError(f"{name}: is empty; give at least one")
        for name in self.methods:
            check_choice(name, "methods", tuple(METHODS))
        for budget in self.budgets:
            check_real(budget, "budgets")
        for seed in self.seeds:
            check_integer(seed, "seeds", 0, 2**31 - 1)

    def runs(self) -> list[Run]:
        """All of them, matrix by matrix.

        Returns
        -------
        list of Run
            A method without random numbers has one seed, the first, and so has every method on a
            matrix of more than ten million entries.
        """
        return [
            Run(case, METHODS[name], float(budget), int(seed))
            for case in self.cases
            for budget in dict.fromkeys(self.budgets)
            for name in dict.fromkeys(self.methods)
            for seed in self.seeds_of(case, METHODS[name])
        ]

    def seeds_of(self, case: Case, method: Method) -> list[int]:
        """The seeds that a method is run with.

        Parameters
        ----------
        case : Case
        method : Method

        Returns
        -------
        list of int
        """
        seeds = list(dict.fromkeys(self.seeds))
        return seeds if method.seeded and case.A.size <= _LARGE else seeds[:1]


Step = Callable[[str, float], AbstractContextManager[None]]


def run_grid(
    grid: Grid,
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    save: Callable[[list[Row]], None] | None = None,
    every: float = 10.0,
    step: Step | None = None,
    see: Callable[[Run, Artefact], None] | None = None,
) -> list[Row]:
    """Do what is not done, and return the whole table.

    Parameters
    ----------
    grid : Grid
    rows : sequence of mapping
        The table so far. What it has is not run again, unless it was skipped or failed.
    save : callable, optional
        Called with the table now and then and at the end, an interrupt or an error included.
    every : float
        Seconds between two savings.
    step : callable, optional
        ``step(label, work)``, a context manager around each run.
    see : callable, optional
        Called with each run and its result.

    Returns
    -------
    list of dict
        With the keys `COLUMNS`, in the order of `Grid.runs`; what the table had beside that
        comes first.

    Examples
    --------
    >>> from lplr.evaluation.cases import load_suite
    >>> from lplr.evaluation.grid import Grid, run_grid
    >>> cases = load_suite("sklearn", quick=True)[:1]
    >>> rows = run_grid(Grid(cases, ["naive"], [0.5, 8.0], [0]))
    >>> [(row["method"], row["metric"], row["status"]) for row in rows]
    [('uncompressed', 'accuracy', 'ok'), ('uncompressed', 'recall@10', 'ok'),
     ('naive', None, 'skipped'),
     ('naive', 'relative error', 'ok'), ('naive', 'accuracy', 'ok'), ('naive', 'recall@10', 'ok')]
    """
    step = step or (lambda label, work: nullcontext())
    runs = grid.runs()
    kept = _done(rows)
    table = [dict(row) for row in rows if _key(row) in kept]
    saved = perf_counter()
    try:
        for case in grid.cases:
            own = [run for run in runs if run.case is case and run.key not in kept]
            meter = Meter(case)
            if case.queries is not None and (case.name, _REFERENCE, 32.0, 0) not in kept:
                with step(f"{case.name}: {_REFERENCE}", 0.0):
                    table += _reference_rows(meter)
            for run in own:
                with step(f"{case.name}: {run.method.name}, {bits_text(run.budget)}", run.work):
                    table += _carry_out(run, meter, see)
                if save and perf_counter() - saved > every:
                    save(table)
                    saved = perf_counter()
    finally:
        if save:
            save(table)
    order = {run.key: i for i, run in enumerate(runs)}
    return sorted(table, key=lambda row: order.get(_key(row), -1))


def remaining(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> float:
    """Roughly the seconds of what `run_grid` has yet to do.

    Parameters
    ----------
    grid : Grid
    rows : sequence of mapping
        The table so far.

    Returns
    -------
    float
    """
    kept = _done(rows)
    return sum(run.work for run in grid.runs() if run.key not in kept)


def _done(rows: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """The runs that have a result; those that were skipped or failed are tried again."""
    return {_key(row) for row in rows if row["status"] == "ok"}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["dataset"], row["method"], row["budget"], row["seed"]


def _reference_rows(meter: Meter) -> Iterator[Row]:
    """What the uncompressed rows are good for, as a method of 32 bits an entry."""
    case = meter.case
    common = {
        "dataset": case.name,
        "shape": case.shape,
        "method": _REFERENCE,
        "family": "reference",
        "budget": 32.0,
        "bits_per_entry": 32.0,
        "stored_bytes": 4 * case.A.size,
        "seed": 0,
        "seconds": 0.0,
    }
    return (_row({**common, **_value(found)}) for found in meter.reference())


def _carry_out(run: Run, meter: Meter, see: Callable[[Run, Artefact], None] | None) -> list[Row]:
    """The rows of a run."""
    case, method = run.case, run.method
    common: Row = {
        "dataset": case.name,
        "shape": case.shape,
        "method": method.name,
        "family": method.family,
        "budget": run.budget,
        "seed": run.seed,
    }
    try:
        f, seconds, peak = _compress(run)
        found = meter.measure(f)
    except (BudgetError, MissingPackageError) as error:
        return [_row({**common, "status": "skipped", "note": str(error)})]
    except Exception as error:  # one method must not take the others with it; the row tells
        return [_row({**common, "status": "failed", "note": f"{type(error).__name__}: {error}"})]
    if see:
        see(run, f)
    over = f.bits_per_entry / run.budget - 1
    common |= {
        "bits_per_entry": f.bits_per_entry,
        "stored_bytes": f.nbytes,
        "seconds": seconds,
        "peak_mb": peak,
        "note": f"stores {100 * over:.1f} % more than the budget" if over > 1e-3 else None,
    }
    return [_row({**common, **_value(measured)}) for measured in found]


def _compress(run: Run) -> tuple[Artefact, float, float]:
    """The result, its seconds, and the MB of memory that it took beyond what was there."""
    from lplr.evaluation.speed import peak_rss, threads
    from lplr.parallel import n_threads

    options = {}
    if run.method.weighted and run.case.hessian is not None:
        options["hessian"] = run.case.hessian
    with threads(n_threads()):
        before = peak_rss(reset=True)
        start = perf_counter()
        f = run.method.run(run.case.A, run.budget, rng=run.seed, **options)
        seconds = perf_counter() - start
        return f, seconds, max(peak_rss() - before, 0.0) / 1e6


def _value(measured: Measurement) -> Row:
    known: Row = {
        "metric": measured.metric,
        "protocol": measured.protocol,
        "value": measured.value,
    }
    if measured.value is None:
        known |= {"status": "skipped", "note": measured.note}
    return known


def _row(known: Row) -> Row:
    return {name: known.get(name, "ok" if name == "status" else None) for name in COLUMNS}
