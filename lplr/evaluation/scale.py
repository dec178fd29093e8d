"""How time, memory and error grow with the rows of a matrix that is read in blocks.

The data are written to a file once: clusters in a space whose directions weigh less and less, and
noise. Every method runs in a process of its own on the first rows of that file, so that the peak of
its memory is its own, and is warmed up on few rows before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from lplr.evaluation.resources import measured, run_script
from lplr.evaluation.scale_methods import SCALE_METHODS, Job
from lplr.exceptions import InputError, LplrError
from lplr.parallel import n_threads
from lplr.progress import Progress, parts, tracked, until
from lplr.sources import open_source
from lplr.storage.temporary import temporary_folder

__all__ = ["COLUMNS", "KEY", "ScaleSettings", "measure_scale", "run_method", "written_rows"]

Row = dict[str, Any]

KEY = ("method", "rows")  # what makes two records one measurement
COLUMNS = (
    *(*KEY, "columns", "status", "message", "seconds", "cpu_seconds", "extra_nbytes", "rank"),
    *("nbytes", "error"),
)
_BLOCK = 16384  # rows that are drawn together
_CLUSTERS, _NOISE = 64, 0.05
_WARM = 4096  # rows of the run before the clock
_COMPARED = 4096  # rows whose error is measured
_WRITING = 0.03  # of all time, about
_TABLES = 1024  # bytes a column that a product quantizer stores beside its codes
_BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class ScaleSettings:
    """What all measurements of a table have in common.

    Parameters
    ----------
    columns : int
    bits : float
        Bits per entry of the budget, to which every method may add the 1024 bytes a column that the
        tables of a product quantizer take.
    rank : int or None
        Instead of the budget: the rank of every method that has one.
    memory_limit : str
        Of the methods of this package.
    """

    columns: int = 128
    bits: float = 1.0
    rank: int | None = None
    memory_limit: str = "1GB"

    def nbytes(self, rows: int) -> int:
        """The budget for so many rows."""
        return int(rows * self.columns * self.bits / 8) + _TABLES * self.columns

    def methods(self) -> list[str]:
        """The methods that fit: with a rank, those that have one."""
        without = ("compress", "PQ") if self.rank else ()
        return [name for name in SCALE_METHODS if name not in without]


def measure_scale(
    settings: ScaleSettings,
    rows: Sequence[int],
    methods: Sequence[str],
    *,
    known: Sequence[Mapping[str, Any]] = (),
    save: Callable[[list[Row]], None] = lambda rows: None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress = False,
) -> list[Row]:
    """Measure each method at each number of rows.

    Parameters
    ----------
    settings : ScaleSettings
    rows : sequence of int
    methods : sequence of str
        Of `SCALE_METHODS`.
    known : sequence of mapping
        Records that are there already and are not measured again.
    save : callable
        Gets all records after each new one.
    folder : path-like, optional
        Where the data are written, and removed at the end; by default that of temporary files.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    list of dict
        Records by the number of rows: method, rows, columns, status ("ok", "skipped", "failed")
        and message; seconds and cpu_seconds; extra_nbytes, by which memory grew at most; rank,
        nbytes and error, the relative error of 4096 rows.

    Raises
    ------
    InputError
        If the disk has no room for the data.

    Examples
    --------
    >>> from lplr.evaluation.scale import ScaleSettings, measure_scale
    >>> [row] = measure_scale(ScaleSettings(columns=16), [5000], ["lplr"])
    >>> row["status"], 0 < row["error"] < 1
    ('ok', True)
    """
    found = [dict(row) for row in known]
    there = {_key(row) for row in found if row["status"] == "ok"}
    found = [row for row in found if row["status"] == "ok"]
    runs = [(n, m) for n in sorted(rows) for m in methods if (m, n) not in there]
    if runs:
        with ExitStack() as stack:
            stack.enter_context(tracked(progress, "rows"))
            most = max(n for n, _ in runs)
            with until(_WRITING):
                path = stack.enter_context(written_rows(most, settings.columns, folder))
            for n, method in parts(runs, [n for n, _ in runs], lambda run: f"{run[1]}, {run[0]:,}"):
                found.append(_measured(path, n, method, settings))
                save(_in_order(found))
    return _in_order(found)


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["method"], row["rows"]


def _in_order(rows: list[Row]) -> list[Row]:
    names = list(SCALE_METHODS)
    return sorted(rows, key=lambda row: (row["rows"], names.index(row["method"])))


@contextmanager
def written_rows(n: int, d: int, folder: str | os.PathLike[str] | None = None) -> Iterator[str]:
    """The path of an .npy file of n rows, which is removed at the end.

    Parameters
    ----------
    n, d : int
        The first rows are the same for any n.
    folder : path-like, optional

    Raises
    ------
    InputError
        If the folder is none, or the disk has no room.
    """
    where = Path(folder or tempfile.gettempdir())
    if not where.is_dir():
        raise InputError(f"folder: there is no folder {where}")
    needed, free = 4 * n * d, shutil.disk_usage(where).free
    if needed > 0.9 * free:
        raise InputError(
            f"rows: {n:,} rows of {d} columns take {needed:,} bytes and {where} has {free:,} free; "
            "measure fewer rows, or name another folder"
        )
    rng = np.random.default_rng(0)
    weights = np.arange(1, d + 1) ** -0.7
    turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
    turn = (weights[:, None] * turn).astype(np.float32)
    centres = rng.standard_normal((_CLUSTERS, d), np.float32)
    with temporary_folder(where) as temporary:
        path = os.path.join(temporary, "rows.npy")
        file = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
        for start in parts(range(0, n, _BLOCK), what="writing rows"):
            rng = np.random.default_rng([1, start])
            X = rng.standard_normal((_BLOCK, d), np.float32)
            X += 2 * centres[rng.integers(_CLUSTERS, size=_BLOCK)]
            X = X @ turn
            X += _NOISE * rng.standard_normal((_BLOCK, d), np.float32)
            file[start : start + _BLOCK] = X[: n - start]
        file.flush()
        del file
        yield path


def _measured(path: str, n: int, method: str, settings: ScaleSettings) -> Row:
    """One record, measured in a fresh process."""
    row = dict.fromkeys(COLUMNS) | {"method": method, "rows": n, "columns": settings.columns}
    call = f"m.run_method({path!r}, {n}, {method!r}, {json.dumps(asdict(settings))!r})"
    script = f"import json, {__name__} as m; print(json.dumps({call}))"
    try:
        found = json.loads(run_script(script, **dict.fromkeys(_BLAS, str(n_threads()))))
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"ended with {error.returncode}"]
        found = {"status": "failed", "message": last[0]}
    return {**row, **found}


def run_method(path: str, n: int, method: str, settings: str) -> Row:
    """What a method takes for the first n rows of a file, in this process.

    Parameters
    ----------
    path : str
    n : int
    method : str
    settings : str
        A `ScaleSettings` as JSON.
    """
    given = ScaleSettings(**json.loads(settings))
    file = np.load(path, mmap_mode="r")

    def job(rows: int) -> Job:
        source = open_source(file[:rows], "rows")
        return Job(source, given.nbytes(rows), given.rank, given.memory_limit)

    run = SCALE_METHODS[method]
    try:
        run(job(min(n, _WARM)))  # compiles, loads and starts threads
        before = process_time()
        stored, cost = measured(lambda: run(job(n)))
    except LplrError as error:
        return {"status": "skipped", "message": str(error)}
    row: Row = {
        "status": "ok",
        "seconds": cost.seconds,
        "cpu_seconds": process_time() - before,
        "extra_nbytes": cost.extra_nbytes,
        "rank": stored.rank,
        "nbytes": stored.nbytes if stored.rows else None,
        "error": None,
    }
    if stored.rows:
        at = np.unique(np.linspace(0, n - 1, _COMPARED).astype(int))
        X = np.array(file[at], np.float64)
        row["error"] = float(np.linalg.norm(X - stored.rows(at)) / np.linalg.norm(X))
    return row
