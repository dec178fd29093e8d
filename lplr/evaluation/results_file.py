"""Results of a benchmark on disk: JSON lines that are resumed, and the same as CSV beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lplr.evaluation.gallery import gallery_path
from lplr.evaluation.grid import COLUMNS, Grid, Row
from lplr.evaluation.machine import machine, package_versions
from lplr.evaluation.measure import search_engine
from lplr.evaluation.spectrum import describe_spectrum, singular_values
from lplr.evaluation.tasks import Task
from lplr.exceptions import InputError, LplrError
from lplr.progress import Progress, parts, tracked
from lplr.storage.table import SUFFIXES, meta_path, read_table, write_attrs, write_table
from lplr.storage.workplace import locked
from lplr.theory import rate_distortion_limit
from lplr.validation.matrices import check_matrix

__all__ = ["ResultsFile", "describe"]

# What makes values comparable. Limits and sizes follow from the data; methods, budgets and seeds
# may be added to a table.
_MUST_AGREE = ("versions", "machine", "settings", "data")
_KEY = {"dataset", "method", "budget", "seed", "metric", "value", "status"}


def describe(
    grid: Grid,
    quick: bool,
    default: str,
    *,
    known: Mapping[str, Any] | None = None,
    progress: Progress = False,
) -> dict[str, Any]:
    """What goes with a table: machine, versions, settings, data, limits and what methods store.

    Parameters
    ----------
    grid : Grid
    quick : bool
    default : str
        The method that the others are compared with.
    known : mapping, optional
        An earlier description: singular values of equal data are not calculated again.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    dict
        As JSON gives it back.

    Examples
    --------
    >>> from lplr.evaluation.grid import Grid
    >>> from lplr.evaluation.results_file import describe
    >>> from lplr.evaluation.tasks import load_suite
    >>> grid = Grid(load_suite("image", quick=True), ["naive"], [1.0], [0])
    >>> attrs = describe(grid, quick=True, default="naive")
    >>> attrs["settings"]["quick"], attrs["stores"]
    (True, {'naive': 'codes; one scale, one offset'})
    """
    attrs: dict[str, Any] = {
        "default": default,
        "versions": package_versions(),
        "machine": machine(),
        "settings": {"quick": quick, "search": search_engine()},
        "about": {task.name: task.about for task in grid.tasks if task.about},
        "data": {},
        "spectra": {},
        "queries": {},
        "limits": {},
        "stores": {run.method.name: run.method.stores for run in grid.runs()},
    }
    budgets = sorted(set(grid.budgets))
    with tracked(progress, "singular values"):
        sizes = [task.size for task in grid.tasks]
        for task in parts(grid.tasks, sizes, lambda task: f"{task.name}: singular values"):
            with suppress(LplrError):  # its rows say so
                _describe_task(task.load(), budgets, attrs, known or {})
    return json.loads(json.dumps(attrs, sort_keys=True))


def _describe_task(
    task: Task, budgets: Sequence[float], attrs: dict[str, Any], known: Mapping[str, Any]
) -> None:
    name = task.name
    about = {"shape": task.shape, "dtype": task.A.dtype.name, "sha256": task.digest()}
    attrs["data"][name] = about
    if task.A.ndim != 2:
        return
    A = check_matrix(task.A, name)
    if task.queries is not None:
        q = task.queries
        attrs["queries"][name] = f"{len(q.X)} queries, {q.k} neighbours vote, {q.metric} distance"
    wanted = {f"{b:g}" for b in budgets}
    before = {key: known.get(key, {}).get(name, {}) for key in ("data", "spectra", "limits")}
    if before["data"] == about and before["spectra"] and wanted <= before["limits"].keys():
        attrs["spectra"][name] = before["spectra"]
        attrs["limits"][name] = {key: before["limits"][key] for key in wanted}
        return
    sigma = singular_values(A)
    attrs["spectra"][name] = describe_spectrum(sigma)
    attrs["limits"][name] = {f"{b:g}": rate_distortion_limit(sigma, A.shape, b) for b in budgets}


class ResultsFile:
    """The files of one benchmark.

    Parameters
    ----------
    path : str or path-like
        One ending in ``.jsonl`` or ``.csv``; the other file has the same name otherwise, and so
        have the one that says how the values were made and, where there are any, the one of images.
    columns : sequence of str
        What every row has, None where it has no value.
    key : collection of str
        What a table is known by.

    Raises
    ------
    InputError
        If the name ends in something else.

    Examples
    --------
    >>> from lplr.evaluation.results_file import ResultsFile
    >>> [path.name for path in ResultsFile("results.csv").paths]
    ['results.jsonl', 'results.csv', 'results.meta.json', 'results.pictures.npz']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] = COLUMNS,
        key: Collection[str] = _KEY,
    ) -> None:
        given = Path(path)
        self._columns, self._key = columns, set(key)
        if given.suffix.lower() not in SUFFIXES:
            old = "; results in HDF5 are no longer read" if given.suffix.lower() == ".h5" else ""
            raise InputError(f"{path}: results end in {' or '.join(SUFFIXES)}{old}")
        self.tables = tuple(given.with_suffix(suffix) for suffix in SUFFIXES)
        self.gallery = gallery_path(given)
        self.paths = (*self.tables, meta_path(given), self.gallery)
        self.attrs: dict[str, Any] = {}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else measures for these files; InputError says that somebody does."""
        table = Path(os.path.realpath(self.tables[0]))
        path = table.with_name(f".{table.stem}.lock")
        with locked(path, of=table):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete all files, the rows last: no picture may be left for other rows."""
        for path in reversed(self.paths):
            path.unlink(missing_ok=True)

    def known(self) -> dict[str, Any]:
        """The description so far; empty where there is none that can be read."""
        with suppress(LplrError):
            return read_table(self.tables[0])[1]
        return {}

    def resume(self, attrs: Mapping[str, Any]) -> list[Row]:
        """The rows so far; none if there is no file yet.

        Parameters
        ----------
        attrs : mapping
            The description, by `describe`, of the run that goes on. What else the file knows is
            added to it.

        Raises
        ------
        InputError
            If the file is of other versions, another machine, other settings or other data, or is
            no table of a benchmark; if there is a CSV file without the other.
        CorruptFileError
            If it is damaged.
        """
        self.attrs = dict(attrs)
        path = self.tables[0]
        if not path.exists():
            if self.tables[1].exists():  # rows are written first
                raise InputError(
                    f"{self.tables[1]}: exists, and {path.name} does not; name another file, or "
                    "pass --restart to replace it"
                )
            return []
        rows, before = read_table(path)
        if (rows and not rows[0].keys() >= self._key) or not set(_MUST_AGREE) <= before.keys():
            raise InputError(f"{path}: holds no results of lplr bench; name another file")
        for name in _MUST_AGREE:
            old, new = before[name], attrs[name]
            if name == "data":  # of the matrices that both have
                old = {key: value for key, value in old.items() if key in new}
                new = {key: value for key, value in new.items() if key in old}
            if old != new:
                raise InputError(
                    f"{path}: has results of other {name}: {_difference(old, new)}; name "
                    "another file, or pass --restart to measure everything again"
                )
        for name in ("about", "data", "spectra", "queries", "limits", "stores"):
            self.attrs[name] = _merged(before.get(name, {}), attrs.get(name, {}))
        return [dict.fromkeys(self._columns) | row for row in rows]

    def save(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write all files; what was there is replaced only by complete ones."""
        write_attrs(self.tables[0], self.attrs)  # first: they are of the rows so far as well
        write_table(self.tables[0], rows, overwrite=True)
        write_table(self.tables[1], rows, overwrite=True)


def _merged(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """All of both, in the order of the keys; of one key, mappings are merged, else the new one."""
    merged = {**before, **now}
    for key in before.keys() & now.keys():
        if isinstance(now[key], Mapping):
            merged[key] = _merged(before[key], now[key])
    return dict(sorted(merged.items()))


def _difference(old: Any, new: Any) -> str:
    """The first thing that two descriptions disagree on."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return f"was {old!r}, is {new!r}"
    key = next(k for k in [*new, *old] if old.get(k) != new.get(k))
    return f"{key} {_difference(old.get(key), new.get(key))}"
