"""Kills a compression at random moments until it has been killed so often; see its test.

Run as ``python killed_jobs.py CHECKPOINT OUT KILLS``. Each run is a fork of this process, in which
everything is imported and compiled, so that a kill hits the work and not the start. Prints where
the kills hit: the number of layers that were finished.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from tiny_models import TOKENS

from lplr.models.compress_model import compress
from lplr.models.job import progress_of


def run(checkpoint: str, out: str) -> None:
    compress(checkpoint, out, calibration=TOKENS, method="caldera", rank=2)


def main(checkpoint: str, out: Path, kills: int) -> None:
    start = time.perf_counter()
    run(checkpoint, f"{out}.warm")  # imports, and compiles where that is needed
    start = time.perf_counter()
    run(checkpoint, f"{out}.0")
    alone = time.perf_counter() - start
    chance = random.Random(0)
    hits: list[int] = []
    finished = 0
    while len(hits) < kills:
        child = os.fork()
        if child == 0:
            run(checkpoint, str(out))
            os._exit(0)
        time.sleep(chance.uniform(0, alone))
        if os.waitpid(child, os.WNOHANG)[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            hits.append(progress_of(out))
        if out.exists():
            finished += 1
            out.rename(f"{out}.{finished}")
            shutil.rmtree(f"{out}.job", ignore_errors=True)
    run(checkpoint, str(out))
    out.rename(f"{out}.{finished + 1}")
    print(json.dumps(hits))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
