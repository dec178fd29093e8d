"""The folders of unfinished work as specimens: what of them is damaged is made anew, or refused."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.models.adaptation.optimizer import AdamW
from lplr.models.adaptation.training import Training
from lplr.models.calibration import States
from lplr.models.comparison import Work
from lplr.models.job import Job
from lplr.models.moments_job import MomentsJob
from lplr.selftest.forge import small
from lplr.storage.workplace import folder_of
from lplr.streaming.results import FolderResults

__all__ = ["JOB_READERS", "make_jobs"]

_CALL = {"bits": 2, "tokens": [2, 3]}
_SHAPE = (2, 3, 4)  # sequences, tokens, width
_MOMENTS = [{"a": (2, 2)}], (1, 2, 3)  # shapes of sums, and layers, sequences, tokens


def make_jobs(folder: Path) -> dict[str, Path]:
    """Folders with all that jobs keep, by what reads them in `JOB_READERS`."""
    model, moments = folder / "unfinished", folder / "sums"
    parts, comparison = folder / "in-parts", folder / "compared"
    h = np.arange(24, dtype=np.float32).reshape(_SHAPE)
    with Job(model, _CALL) as job:
        job.keep_states(1, States(h, h + 1))
        job.log(layer="a", seconds=1.5)
        job.keep(0, "a", small(), {"relative_error": 0.5})
        job.log(block=0, error=0.25)
        one = np.ones(3, np.float32)
        Training(AdamW(one, one, one, 5), one, 0.5, [(0, 0.5)], {"a": 1}).save(job.training)
    with MomentsJob(moments, _CALL, *_MOMENTS) as job:
        job.sums(0, new=True)["a"][:] = 1
        job.weights[:] = 2
        job.finish_batch(0.25, 2)
    with FolderResults(parts, _CALL) as results:
        results.once("scales", lambda: {"scales": np.arange(6.0)})
        results.once("part-00000", lambda: {"L": small()})
    with Work(comparison, _CALL) as work:
        work.learn("alone", {"blocks": [0.5, 0.25]})
        work.learn("divergences", {"equal": [0.125, 0.5]})
    made = model, moments, parts, comparison
    return {reader: folder_of(out) for reader, out in zip(JOB_READERS, made, strict=True)}


def _anew() -> NoReturn:
    raise CorruptFileError("something is made anew")


def _copy(path: Path) -> Path:
    """The output of a copy of a job, since whoever opens one may clear it; beside its folder."""
    home = path.parent
    out = home.with_name(f"{home.name}-again") / path.stem
    shutil.rmtree(out.parent, ignore_errors=True)
    shutil.copytree(path, out.with_suffix(".job"), symlinks=True, copy_function=_duplicate)
    return out


def _duplicate(source: str, target: str) -> None:
    """A copy of a file, or another pipe."""
    if stat.S_ISFIFO(os.lstat(source).st_mode):
        os.mkfifo(target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _read_job(path: Path) -> Any:
    """What the job of a model has kept; CorruptFileError says that some of it is made anew."""
    with Job(_copy(path), _CALL) as job:
        packed, training = job.packed(0), Training.load(job.training)
        start, states = job.states(_SHAPE)
        log = sorted({repr(line) for line in job.logged()})  # one that is there twice says no more
    if packed is None or training is None or states is None or len(log) < 2:
        _anew()
    said = vars(training) | vars(training.optimizer)
    arrays = [said.pop(name) for name in ("theta", "mean", "square", "best")]
    del said["optimizer"]
    found = [states.original, states.compressed, packed.to_dense(), *arrays]
    return start, repr(said), log, [np.array(array).tobytes() for array in found]


def _read_moments_job(path: Path) -> Any:
    """The same of the job of moments."""
    with MomentsJob(_copy(path), _CALL, *_MOMENTS) as job:
        if not job.batches:
            _anew()
        return job.batches, job.loss, job.sums(0)["a"].tobytes(), job.weights.tobytes()


def _read_results_job(path: Path) -> Any:
    """The same of the job of a matrix in parts."""
    with FolderResults(_copy(path), _CALL) as job:
        scales, part = job.once("scales", _anew), job.once("part-00000", _anew)
        return scales["scales"].tobytes(), part["L"].to_dense().tobytes()


def _read_comparison_job(path: Path) -> Any:
    """The same of the job of a comparison."""
    with Work(_copy(path), _CALL) as work:
        found = work.known("alone"), work.known("divergences")
    if not all(found):
        _anew()
    return found


JOB_READERS = {
    "job": _read_job,
    "moments job": _read_moments_job,
    "job in parts": _read_results_job,
    "comparison job": _read_comparison_job,
}
