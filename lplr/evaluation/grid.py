"""Methods x budgets x seeds on several matrices, as one tidy table that grows and resumes.

One row is one value; a *run* is a task, a method, a budget and a seed, and has a row for each of
its metrics. What could not run has a row too, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
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
from lplr.progress import Progress, parts, tracked, unheard
from lplr.validation.arguments import check_choice, check_integer, check_real
from lplr.validation.matrices import check_matrix

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
    "standard_error",  # of a mean over queries
    "queries",  # how many
    "correct",  # which of them, by `lplr.evaluation.significance.write_flags`
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


See = Callable[[Run, PackedMatrix], None]


def run_grid(
    grid: Grid,
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    save: Callable[[list[Row]], None] | None = None,
    every: float = 10.0,
    see: See | None = None,
    progress: Progress = False,
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
    see : callable, optional
        Called with each run and its result.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)`` between runs.

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
    runs = grid.runs()
    finished = _finished(rows)
    table = [dict(row) for row in rows if _key(row) in finished]
    todo = [run for run in runs if run.key not in finished]
    bench: _Bench | None = None
    saved = perf_counter()
    try:
        with tracked(progress, "benchmark"):
            for run in parts(todo, [run.work for run in todo], _label):
                if bench is None or bench.asked is not run.task:
                    bench = None  # one matrix at a time
                    bench = _Bench(run.task)
                    table += bench.reference_rows(finished)
                table += bench.carry_out(run, see)
                if save and perf_counter() - saved > every:
                    save(table)
                    saved = perf_counter()
    finally:
        order = {run.key: i for i, run in enumerate(runs)}
        table.sort(key=lambda row: order.get(_key(row), -1))
        if save:
            save(table)
    return table


def _label(run: Run) -> str:
    return f"{run.task.name}: {run.method.name}, {bits_text(run.budget)}"


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


class _Bench:
    """A task with its matrix in memory, on which runs are carried out."""

    def __init__(self, asked: Task) -> None:
        self.asked = asked
        self.task = asked
        self.problem: dict[str, str] = {}  # status and note of all rows, where there is no matrix
        try:
            self.task = asked.load()
            if self.task.A.ndim == 2 and self.task.A.size:
                self.task = replace(self.task, A=check_matrix(self.task.A, self.task.name))
            else:
                shape = f"not a matrix: shape {self.task.A.shape}"
                self.problem = {"status": "skipped", "note": shape}
        except LplrError as error:
            self.problem = {"status": "failed", "note": str(error)}
        self.evaluator = Evaluator(self.task)

    def reference_rows(self, finished: Container[tuple[Any, ...]]) -> list[Row]:
        """What the uncompressed rows are good for, as a method of 32 bits per entry."""
        run = Run(self.task, _REFERENCE, 32.0, 0)
        if self.task.queries is None or self.problem or run.key in finished:
            return []
        size = {"bits_per_entry": 32.0, "stored_bytes": 4 * self.task.size, "seconds": 0.0}
        return [_row(run, **size, **found) for found in self.evaluator.uncompressed()]

    def carry_out(self, run: Run, see: See | None) -> list[Row]:
        """The rows of a run."""
        run = replace(run, task=self.task)
        if self.problem:
            return [_row(run, **self.problem)]
        try:
            f, cost = _compress(run)
            found = self.evaluator.measure(f)
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
    # A run is one step: what its method says would be taken for an error of the method, if the
    # listener raised one.
    with threads(n_threads()), unheard():
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
