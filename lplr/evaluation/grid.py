"""Methods x budgets x seeds on several matrices, as one tidy table that grows and resumes.

One row is one value; a *run* is a task, a method, a budget and a seed, and has a row for each of
its metrics. What could not run has a row too, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from lplr.evaluation.baselines import METHODS, Method
from lplr.evaluation.measure import Evaluator
from lplr.evaluation.metrics import bits_text
from lplr.evaluation.resources import Cost, measured, threads
from lplr.evaluation.tasks import Task
from lplr.exceptions import BudgetError, InputError, LplrError, MissingPackageError
from lplr.matrices.base import PackedMatrix
from lplr.validation import check_choice, check_integer, check_matrix, check_real

__all__ = ["COLUMNS", "UNCOMPRESSED", "Grid", "Run", "remaining", "run_grid"]

Row = dict[str, Any]

COLUMNS = (
    "dataset",
    "shape",
    "method",
    "family",
    "budget",
    "bits_per_entry",
    "stored_bytes",
    "kind",
    "rank",
    "seed",
    "metric",
    "protocol",
    "value",
    "seconds",
    "peak_mb",
    "status",
    "note",
)
UNCOMPRESSED = "uncompressed"  # the method of the original's own rows, of 32 bits per entry

_LARGE = 10_000_000  # entries, from which one seed is enough: the spread falls with the size


@dataclass(frozen=True)
class Run:
    """One thing to do."""

    task: Task
    method: Method
    budget: float
    seed: int

    @property
    def key(self) -> tuple[str, str, float, int]:
        """By which its rows are found again."""
        return self.task.name, self.method.name, self.budget, self.seed

    @property
    def work(self) -> float:
        """Roughly its seconds, for an estimate of the time that is left."""
        millions = 1e-6 * self.task.size
        fixed, each = self.method.cost
        seconds = fixed + each * millions * math.sqrt(self.budget)
        if self.task.queries is not None:
            seconds += 1e-5 * millions * len(self.task.queries.X)
        return seconds


@dataclass(frozen=True)
class Grid:
    """What to run.

    Parameters
    ----------
    tasks : sequence of Task
    methods : sequence of str or Method
        Names in `lplr.evaluation.baselines.METHODS`, or methods of your own.
    budgets : sequence of float
        Bits per entry, scales and everything else included.
    seeds : sequence of int

    Raises
    ------
    InputError
        If a list is empty, or has something that is not offered.

    Examples
    --------
    >>> from lplr.evaluation.grid import Grid
    >>> from lplr.evaluation.tasks import load_suite
    >>> grid = Grid(load_suite("image", quick=True), ["feedback", "naive"], [0.5, 1.0], [0, 1])
    >>> len(grid.runs())  # naive quantization draws no random numbers
    12
    """

    tasks: Sequence[Task]
    methods: Sequence[str | Method]
    budgets: Sequence[float]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        for name in ("tasks", "methods", "budgets", "seeds"):
            if not list(getattr(self, name)):
                raise InputError(f"{name}: is empty; give at least one")
        for method in self.methods:
            if not isinstance(method, Method):
                check_choice(method, "methods", tuple(METHODS))
        for budget in self.budgets:
            check_real(budget, "budgets")
        for seed in self.seeds:
            check_integer(seed, "seeds", 0, 2**31 - 1)

    def runs(self) -> list[Run]:
        """All of them, task by task.

        A method without random numbers has one seed, the first, and so has every method on a
        matrix of more than ten million entries.
        """
        found: dict[tuple[Any, ...], Run] = {}  # each once
        for task in self.tasks:
            for budget in self.budgets:
                for method in self.methods:
                    method = method if isinstance(method, Method) else METHODS[method]
                    many = method.seeded and task.size <= _LARGE
                    for seed in self.seeds if many else self.seeds[:1]:
                        run = Run(task, method, float(budget), int(seed))
                        found.setdefault(run.key, run)
        return list(found.values())


Step = Callable[[str, float], AbstractContextManager[None]]
See = Callable[[Run, PackedMatrix], None]


def run_grid(
    grid: Grid,
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    save: Callable[[list[Row]], None] | None = None,
    every: float = 10.0,
    step: Step | None = None,
    see: See | None = None,
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
    >>> from lplr.evaluation.grid import Grid, run_grid
    >>> from lplr.evaluation.tasks import load_suite
    >>> tasks = load_suite("sklearn", quick=True)[:1]
    >>> rows = run_grid(Grid(tasks, ["naive"], [0.5, 8.0], [0]))
    >>> [(row["method"], row["metric"], row["status"]) for row in rows]
    [('uncompressed', 'accuracy', 'ok'), ('uncompressed', 'recall@10', 'ok'),
     ('naive', None, 'skipped'),
     ('naive', 'relative error', 'ok'), ('naive', 'accuracy', 'ok'), ('naive', 'recall@10', 'ok')]
    """
    step = step or (lambda label, work: nullcontext())
    runs = grid.runs()
    finished = _finished(rows)
    table = [dict(row) for row in rows if _key(row) in finished]
    saved = perf_counter()
    try:
        for task in grid.tasks:
            todo = [run for run in runs if run.task is task and run.key not in finished]
            if not todo:
                continue
            task, problem = _loaded(task)
            if problem:
                table += [_row(replace(run, task=task), **problem) for run in todo]
                continue
            evaluator = Evaluator(task)
            reference = Run(task, _REFERENCE, 32.0, 0)
            if task.queries is not None and reference.key not in finished:
                with step(f"{task.name}: {UNCOMPRESSED}", 0.0):
                    table += _reference_rows(reference, evaluator)
            for run in todo:
                with step(f"{task.name}: {run.method.name}, {bits_text(run.budget)}", run.work):
                    table += _carry_out(replace(run, task=task), evaluator, see)
                if save and perf_counter() - saved > every:
                    save(table)
                    saved = perf_counter()
    finally:
        if save:
            save(table)
    order = {run.key: i for i, run in enumerate(runs)}
    return sorted(table, key=lambda row: order.get(_key(row), -1))


def remaining(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> float:
    """Roughly the seconds of what `run_grid` has yet to do beside the rows so far."""
    finished = _finished(rows)
    return sum(run.work for run in grid.runs() if run.key not in finished)


_REFERENCE = Method(UNCOMPRESSED, "reference", lambda *_: None, "float32")  # type: ignore[arg-type]


def _finished(rows: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """The runs that have a result; those that were skipped or failed are tried again."""
    return {_key(row) for row in rows if row["status"] == "ok"}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["dataset"], row["method"], row["budget"], row["seed"]


def _loaded(task: Task) -> tuple[Task, dict[str, str]]:
    """The task with its matrix in memory; or why it has none, as status and note of its rows."""
    try:
        task = task.load()
        if task.A.ndim != 2:
            return task, {"status": "skipped", "note": f"not a matrix: shape {task.A.shape}"}
        return replace(task, A=check_matrix(task.A, task.name)), {}
    except LplrError as error:
        return task, {"status": "failed", "note": str(error)}


def _reference_rows(run: Run, evaluator: Evaluator) -> list[Row]:
    """What the uncompressed rows are good for, as a method of 32 bits per entry."""
    size = {"bits_per_entry": 32.0, "stored_bytes": 4 * run.task.size, "seconds": 0.0}
    return [_row(run, **size, **found) for found in evaluator.uncompressed()]


def _carry_out(run: Run, evaluator: Evaluator, see: See | None) -> list[Row]:
    """The rows of a run."""
    try:
        f, cost = _compress(run)
        found = evaluator.measure(f)
    except (BudgetError, MissingPackageError) as error:
        return [_row(run, status="skipped", note=str(error))]
    except LplrError as error:
        return [_row(run, status="failed", note=str(error))]
    except Exception as error:  # one method must not take the others with it; the row tells
        return [_row(run, status="failed", note=f"{type(error).__name__}: {error}")]
    if see:
        see(run, f)
    over = f.bits_per_entry / run.budget - 1
    common = {
        "bits_per_entry": f.bits_per_entry,
        "stored_bytes": f.nbytes,
        "kind": type(f).__name__,
        "rank": getattr(f, "rank", None),
        "seconds": cost.seconds,
        "peak_mb": None if cost.extra_nbytes is None else cost.extra_nbytes / 1e6,
        "note": f"stores {100 * over:.1f} % more than the budget" if over > 1e-3 else None,
    }
    return [_row(run, **{**common, **value}) for value in found]


def _compress(run: Run) -> tuple[PackedMatrix, Cost]:
    from lplr.parallel import n_threads

    options = {}
    if run.method.weighted and run.task.hessian is not None:
        options["hessian"] = run.task.hessian
    with threads(n_threads()):
        return measured(lambda: run.method.run(run.task.A, run.budget, rng=run.seed, **options))


def _row(run: Run, **known: Any) -> Row:
    """A row of a run; its columns are `COLUMNS`."""
    row = dict.fromkeys(COLUMNS) | {
        "dataset": run.task.name,
        "shape": run.task.shape,
        "method": run.method.name,
        "family": run.method.family,
        "budget": run.budget,
        "seed": run.seed,
        "status": "ok",
    }
    return row | known
