"""Results of a benchmark on disk: an HDF5 table that is resumed, and the same as CSV beside it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lplr.evaluation.grid import COLUMNS, Grid, Row
from lplr.evaluation.measure import Meter, search_engine
from lplr.exceptions import InputError
from lplr.storage.table import SUFFIXES, read_table, write_table

__all__ = ["Ledger", "describe"]

_PACKAGES = ("numpy", "scipy", "numba", "sklearn", "faiss", "skimage")
# What makes values comparable. Limits and sizes follow from the data; methods, budgets and seeds
# may be added to a table.
_MUST_AGREE = ("versions", "machine", "settings", "data")


def describe(grid: Grid, quick: bool, default: str) -> dict[str, Any]:
    """What goes with a table: machine, versions, settings, data, limits and what methods store.

    Parameters
    ----------
    grid : Grid
    quick : bool
    default : str
        The method that the others are compared with.

    Returns
    -------
    dict, JSON-able

    Examples
    --------
    >>> from lplr.evaluation.cases import load_suite
    >>> from lplr.evaluation.grid import Grid
    >>> from lplr.evaluation.ledger import describe
    >>> grid = Grid(load_suite("image", quick=True), ["naive"], [1.0], [0])
    >>> about = describe(grid, quick=True, default="naive")
    >>> about["settings"]["quick"], about["stores"]
    (True, {'naive': 'codes; one scale, one offset'})
    """
    import lplr
    from lplr.evaluation.baselines import METHODS
    from lplr.parallel import n_threads

    versions = {name: import_module(name).__version__ for name in _PACKAGES if find_spec(name)}
    return {
        "default": default,
        "versions": {
            "lplr": lplr.__version__,
            "python": platform.python_version(),
            **versions,
        },
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count() or 1,
            "threads": n_threads(),
        },
        "settings": {"quick": quick, "search": search_engine()},
        "data": {case.name: {"shape": case.shape, "sha256": case.digest()} for case in grid.cases},
        "queries": {
            case.name: f"{len(case.queries.X)} queries, {case.queries.k} neighbours vote, "
            f"{case.queries.metric} distance"
            for case in grid.cases
            if case.queries is not None
        },
        "limits": {case.name: _limits(Meter(case), grid.budgets) for case in grid.cases},
        "stores": {name: METHODS[name].stores for name in grid.methods},
    }


def _limits(meter: Meter, budgets: Sequence[float]) -> dict[str, float]:
    return {f"{budget:g}": meter.limit(budget) for budget in sorted(set(budgets))}


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


class Ledger:
    """The files of one benchmark.

    Parameters
    ----------
    path : str or path-like
        One ending in ``.h5`` (``.hdf5``) or ``.csv``; the other file has the same name otherwise.
        Only HDF5 says how its values were made, so that is the one that is resumed.

    Raises
    ------
    InputError
        If the name ends in something else.

    Examples
    --------
    >>> from lplr.evaluation.ledger import Ledger
    >>> [path.name for path in Ledger("results.csv").paths]
    ['results.h5', 'results.csv']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        if given.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path}: results end in {', '.join(SUFFIXES)}")
        is_csv = given.suffix.lower() == ".csv"
        self.paths = (
            given.with_suffix(".h5") if is_csv else given,
            given if is_csv else given.with_suffix(".csv"),
        )
        self.attrs: dict[str, Any] = {}

    def resume(self, attrs: Mapping[str, Any]) -> list[Row]:
        """The rows so far; none if there is no file yet.

        Parameters
        ----------
        attrs : mapping
            Of the run that goes on, by `describe`. What the file knows beside it is kept.

        Returns
        -------
        list of dict

        Raises
        ------
        InputError
            If the file is of other versions, another machine, other settings or other data, or is
            no table of a benchmark.
        CorruptFileError
            If it is damaged.
        """
        self.attrs = json.loads(json.dumps(attrs, sort_keys=True))  # as a file gives them back
        path = self.paths[0]
        if not path.exists():
            return []
        rows, before = read_table(path)
        if (rows and not set(COLUMNS) <= rows[0].keys()) or not set(_MUST_AGREE) <= before.keys():
            raise InputError(f"{path}: holds no results of lplr bench; name another file")
        for name in _MUST_AGREE:
            for key in before[name].keys() & attrs[name].keys() if name == "data" else [None]:
                old, new = (x[name] if key is None else x[name][key] for x in (before, attrs))
                if old != new:
                    raise InputError(
                        f"{path}: has results of other {name}: {_difference(old, new)}; name "
                        "another file, or pass --restart to measure everything again"
                    )
        for name in ("data", "queries", "limits", "stores"):
            self.attrs[name] = _merged(before.get(name, {}), attrs[name])
        return rows

    def save(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write both files; what was there is replaced only by complete ones.

        Parameters
        ----------
        rows : sequence of mapping

        Raises
        ------
        StorageError
            If a file cannot be written.
        """
        for path in self.paths:
            write_table(path, rows, attrs=self.attrs, overwrite=True)


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
        return f"{old!r}, now {new!r}"
    for key in [*new, *(key for key in old if key not in new)]:
        if old.get(key) != new.get(key):
            return f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
    return "nothing"
