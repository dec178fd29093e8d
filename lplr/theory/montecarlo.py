"""Test statements by simulation: measured against bound, with a verdict of stated confidence."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pickle import PicklingError
from typing import Any

import numpy as np

from lplr.exceptions import InputError, LplrError
from lplr.processes import map_in_order
from lplr.progress import Progress, parts, tracked
from lplr.theory.checks import check_probability
from lplr.theory.records import QUANTILES, ROUNDING, Cell, Outcome, Setting, Statement
from lplr.theory.statements import STATEMENTS, find_statements
from lplr.theory.statements.matrices import OwnMatrix, complete, own_matrices
from lplr.validation.arguments import check_integer, check_rng

__all__ = ["Cell", "Outcome", "Statement", "judge_mean", "run"]

_BLOCK = 200  # trials that a process runs at a time


def run(
    statements: Iterable[Statement | str] | None = None,
    *,
    trials: int = 200,
    rng: int | np.random.Generator | None = None,
    level: float = 1e-6,
    full: bool = False,
    matrices: Mapping[str, Any] | None = None,
    progress: Progress = False,
) -> list[Cell]:
    """Test statements at all settings of their grids; each such pair is called a cell.

    Parameters
    ----------
    statements : iterable of Statement or str, optional
        Statements, or names that `lplr.theory.statements.find_statements` takes; by default the
        whole registry.
    trials : int
        Trials of each cell, at least 2.
    rng : int, numpy.random.Generator or None
    level : float
        Probability that any true bound in expectation of this table is refuted, between 0 and 1.
    full : bool
        Also test the settings of real matrices.
    matrices : mapping of str to array_like, or to a pair of them, optional
        Matrices of one's own, of shape (n, d), by the names that settings give as ``"matrix"``;
        or pairs (matrix, Hessian) for statements about a loss. Such a setting needs no ``"n"`` and
        ``"d"``.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`.

    Returns
    -------
    list of Cell
        In the order of the statements and of their grids.

    Raises
    ------
    InputError
        If a name is unknown, an argument is outside its range, or a matrix does not fit a setting.
    LplrError
        If a trial measures something that is not finite.

    Notes
    -----
    Each trial has a random stream of its own, keyed by the statement, the setting and the number
    of the trial. So a cell has the same values whatever else is in the table, and the same bits
    in any number of processes (`lplr.processes`): blocks of 200 trials, for each of which the
    cell is prepared anew, are put together in order.

    A bound in expectation is refuted when the mean of ``value - bound`` is above zero by more than
    Student's t quantile at ``level / cells`` times its standard error (Bonferroni); where it is
    above zero by less, the verdict is "not refuted", and the p-value says how likely that is under
    a bound that is exact. The errors
    measured here are skewed to the right, some without a variance (``|(V^T S)^+|^2`` at
    m = k + 2 has none). That makes the test conservative, never the contrary: a sample that has
    no value from the long right tail has a mean that is too small, and one that has such a value
    has a standard error that is of the order of that value over the number of trials, which keeps
    t near 1. So a true bound is refuted less often than ``level``, and a wrong one may take more
    trials. A random bound is paired with its value, and the difference is tested. Where the bound
    has the long tail, the skew is to the left and the test refutes too easily; the statements here
    are of that kind only where they hold by a wide margin.

    A statement about each trial is refuted by one trial beyond rounding: 2^12 units in the last
    place of float64 (recursive sums of up to that many terms), and the cancellation that the trial
    itself states. A cell with a saturated trial has the verdict "assumption not met" whatever it
    measured, since the statement then says nothing about it.

    Examples
    --------
    >>> from lplr.theory.montecarlo import run
    >>> cells = run("range_finder_bound", trials=20, rng=0)
    >>> {cell.verdict for cell in cells}
    {'holds'}

    On a matrix of one's own:

    >>> from dataclasses import replace
    >>> import numpy as np
    >>> from lplr.theory.statements import STATEMENTS
    >>> mine = replace(STATEMENTS["lplr-bound"], grid=({"matrix": "mine", "m": 8, "bits": 4},))
    >>> (cell,) = run([mine], trials=20, rng=0, matrices={"mine": np.vander([3.0, 2, 1, 0])})
    >>> cell.verdict, cell.setting["n"]
    ('holds', 4)
    """
    chosen = _resolve(statements)
    trials = check_integer(trials, "trials", 2)
    level = check_probability(level, "level")
    entropy = int(rng) if isinstance(rng, (int, np.integer)) else None
    generator = check_rng(rng)
    root = entropy if entropy is not None else int(generator.integers(2**63))
    own = own_matrices(matrices)
    work = [
        (s, complete(setting, own)) for s in chosen for setting in s.grid + (s.full if full else ())
    ]
    for name in own:
        if all(setting.get("matrix") != name for _, setting in work):
            raise InputError(
                f"matrices: no setting names {name!r}; give the statement such a grid, "
                f"as in replace(STATEMENTS[...], grid=({{'matrix': {name!r}, ...}},))"
            )
    tests = sum(s.kind == "expectation" for s, _ in work)
    tasks = [
        (statement, setting, own.get(setting.get("matrix", "")), root, *block)
        for statement, setting in work
        for block in pairwise([*range(0, trials, _BLOCK), trials])
    ]
    cells, blocks = [], []
    with tracked(progress, _words(tasks[0]) if tasks else ""):
        results, weights = _run(tasks), [stop - start for *_, start, stop in tasks]
        for statement, setting, *_, stop in parts(tasks, weights, _words):
            blocks.append(next(results))
            if stop == trials:
                found = np.concatenate(blocks, axis=1)
                cells.append(_judge(statement, setting, found, level / max(tests, 1)))
                blocks = []
    return cells


def _resolve(statements: Iterable[Statement | str] | None) -> list[Statement]:
    if isinstance(statements, (str, Statement)):
        statements = [statements]
    chosen: list[Statement] = []
    for s in STATEMENTS.values() if statements is None else statements:
        chosen += [s] if isinstance(s, Statement) else find_statements(s)
    if not chosen:
        raise InputError(f"statements: is empty; name one of {', '.join(STATEMENTS)}")
    return chosen


# ..., own matrix and Hessian, root of the seeds, start and stop
_Task = tuple[Statement, Setting, OwnMatrix | None, int, int, int]


class _Given(dict[str, Any]):
    """A setting that says what it lacks."""

    def __missing__(self, key: str) -> Any:
        raise InputError(
            f"grid: the statement asks for {key!r}, which a setting lacks; it has {list(self)}"
        )


def _words(task: _Task) -> str:
    return task[0].name


def _run(tasks: Sequence[_Task]) -> Iterator[np.ndarray]:
    try:
        yield from map_in_order(_block, tasks)
    except PicklingError as error:
        raise LplrError(
            f"statements: cannot be sent to other processes ({error}); "
            "LPLR_NUM_THREADS=1 keeps them in this one"
        ) from error


def _block(task: _Task) -> np.ndarray:
    """Consecutive trials of a cell: rows value, bound, saturated and rounding error."""
    statement, setting, own, root, start, stop = task
    key = _key(statement.name, setting)
    shared = np.random.default_rng(np.random.SeedSequence(root, spawn_key=key))
    given = _Given({**setting, "matrix": own} if own else setting)
    trial = statement.prepare(given, shared)
    found = np.empty((4, stop - start))
    for i in range(start, stop):
        stream = np.random.SeedSequence(root, spawn_key=(*key, i))
        value, bound, saturated, rounding = trial(np.random.default_rng(stream))
        if not (math.isfinite(value) and math.isfinite(bound)):
            raise LplrError(
                f"{statement.name}: trial {i} measured {value} against a bound of {bound}"
            )
        rounding += ROUNDING * max(abs(value), abs(bound))
        found[:, i - start] = value, bound, saturated, rounding
    return found


def _key(name: str, setting: Setting) -> tuple[int, int]:
    """64 bits that name a cell, the same in every process."""
    text = json.dumps([name, dict(setting)], sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def _judge(statement: Statement, setting: Setting, found: np.ndarray, level: float) -> Cell:
    value, bound, saturated, rounding = found
    excess, largest_rounding = value - bound, float(rounding.max())
    p_value, above = float("nan"), False
    if statement.kind == "expectation":
        p_value = _p_value(excess, largest_rounding)
        refuted = p_value < level
        above = float(excess.mean()) > largest_rounding
    else:
        off = excess if statement.kind == "always" else np.abs(excess)
        refuted = bool((off > rounding).any())
    verdict = "refuted" if refuted else "not refuted" if above else "holds"
    if saturated.any():
        verdict = "assumption not met"
    mean, mean_bound = float(value.mean()), float(bound.mean())
    tangible = bound > rounding
    return Cell(
        statement=statement.name,
        setting=dict(setting),
        trials=len(value),
        mean=mean,
        standard_error=_standard_error(value),
        bound=mean_bound,
        ratio=mean / mean_bound if mean_bound > largest_rounding else float("nan"),
        quantiles=tuple(np.quantile(value, QUANTILES, method="inverted_cdf").tolist()),
        worst=float(np.max(value[tangible] / bound[tangible])) if tangible.any() else float("nan"),
        saturated=int(saturated.sum()),
        p_value=p_value,
        verdict=verdict,
    )


def _standard_error(x: np.ndarray) -> float:
    return float(x.std(ddof=1) / np.sqrt(len(x)))


def _p_value(excess: np.ndarray, rounding: float) -> float:
    """p-value of "the mean excess, minus what rounding explains, is at most zero"."""
    return _of_mean(float(excess.mean()) - rounding, _standard_error(excess), len(excess))


def _of_mean(over: float, error: float, count: int) -> float:
    """p-value of a mean of ``count`` values above zero, by Student's t."""
    from scipy.special import stdtr

    if error == 0:
        return 0.0 if over > 0 else 1.0
    return float(stdtr(count - 1, -over / error))


def judge_mean(cell: Cell, bound: float, level: float, rounding: float) -> tuple[float, str]:
    """p-value and verdict of the measured values of a cell against another bound, not random.

    Parameters
    ----------
    cell : Cell
    bound : float
    level : float
        p-values below it refute.
    rounding : float
        Absolute floating-point error of the measured values, as in `Outcome`.

    Returns
    -------
    (float, str)
    """
    over = cell.mean - bound - rounding - ROUNDING * max(cell.mean, bound)
    p_value = _of_mean(over, cell.standard_error, cell.trials)
    if cell.saturated:
        return p_value, "assumption not met"
    return p_value, "refuted" if p_value < level else "not refuted" if over > 0 else "holds"
