"""The folders of unfinished work as specimens: what of them is damaged is made anew, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.models.adaptation.optimizer import AdamW
from lplr.models.adaptation.training import Training
from lplr.models.calibration import States
from lplr.models.job import Job
from lplr.models.moments_job import MomentsJob
from lplr.selftest.forge import small

__all__ = ["make_jobs", "read_job", "read_moments_job"]

_CALL = {"bits": 2, "tokens": [2, 3]}
_SHAPE = (2, 3, 4)  # sequences, tokens, width
_MOMENTS = [{"a": (2, 2)}], (1, 2, 3)  # shapes of sums, and layers, sequences, tokens


def make_jobs(folder: Path) -> tuple[Path, Path]:
    """Two folders with all that jobs keep, under the names of what would be made."""
    model, moments = folder / "unfinished", folder / "sums"
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
    return folder / "unfinished.job", folder / "sums.job"


def _copy(path: Path) -> Path:
    """The output of a copy of a job, since whoever opens one may clear it."""
    out = path.parent / "again" / path.stem
    shutil.rmtree(out.parent, ignore_errors=True)
    shutil.copytree(path, out.with_suffix(".job"))
    return out


def read_job(path: Path) -> Any:
    """What the job of a model has kept; CorruptFileError says that some of it is made anew."""
    with Job(_copy(path), _CALL) as job:
        packed, training = job.packed(0), Training.load(job.training)
        start, states = job.states(_SHAPE)
        log = list(job.logged())
    if packed is None or training is None or states is None or len(log) < 2:
        raise CorruptFileError("something is made anew")
    said = vars(training) | vars(training.optimizer)
    arrays = [said.pop(name) for name in ("theta", "mean", "square", "best")]
    del said["optimizer"]
    found = [states.original, states.compressed, packed.to_dense(), *arrays]
    return start, repr(said), log, [np.array(array).tobytes() for array in found]


def read_moments_job(path: Path) -> Any:
    """The same of the job of moments."""
    with MomentsJob(_copy(path), _CALL, *_MOMENTS) as job:
        if not job.batches:
            raise CorruptFileError("something is made anew")
        return job.batches, job.loss, job.sums(0)["a"].tobytes(), job.weights.tobytes()
