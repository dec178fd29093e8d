"""Kills a job at random moments until it has been killed so often; see the tests of each.

Run as ``python killed_jobs.py JOB SOURCE OUT KILLS``. Each run is a fork of this process, in which
everything is imported and compiled, so that a kill hits the work and not the start. Prints where
the kills hit: the number of layers that were finished, and of steps of training.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from tiny_models import TOKENS

from lplr.models.adaptation.adapt_model import adapt
from lplr.models.compress_model import compress
from lplr.models.job import progress_of
from lplr.storage.workplace import folder_of


def compression(source: str, out: str) -> None:
    compress(source, out, calibration=TOKENS, method="caldera", rank=2)


def adaptation(source: str, out: str) -> None:
    """Of a folder with ``original`` and ``small``."""
    models = f"{source}/small", f"{source}/original"
    adapt(*models, TOKENS, out, rank=2, steps=12, batch=4, rate=1e-3)


JOBS = {"compress": compression, "adapt": adaptation}


def place(out: str) -> list[int]:
    """Where it was."""
    steps = 0
    with suppress(FileNotFoundError), np.load(folder_of(out) / "training.npz") as state:
        steps = json.loads(state["said"].tobytes())["step"]
    return [progress_of(out), steps]


def main(job: str, source: str, out: Path, kills: int) -> None:
    run = JOBS[job]
    run(source, f"{out}.warm")  # imports, and compiles where that is needed
    start = time.perf_counter()
    run(source, f"{out}.0")
    alone = time.perf_counter() - start
    chance = random.Random(0)
    hits: list[list[int]] = []
    finished = 0
    while len(hits) < kills:
        child = os.fork()
        if child == 0:
            run(source, str(out))
            os._exit(0)
        time.sleep(chance.uniform(0, alone))
        if os.waitpid(child, os.WNOHANG)[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            hits.append(place(str(out)))
        if out.exists():
            finished += 1
            out.rename(f"{out}.{finished}")
            shutil.rmtree(f"{out}.job", ignore_errors=True)
    run(source, str(out))
    out.rename(f"{out}.{finished + 1}")
    print(json.dumps(hits))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
