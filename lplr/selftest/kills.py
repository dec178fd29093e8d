"""Processes killed while they write: after each system call, and at random moments."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lplr.selftest.calls import Call, watch
from lplr.selftest.children import Child, run
from lplr.selftest.jobs import JOBS
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import WRITINGS, Place

__all__ = ["calls_of", "campaign"]

_PATIENCE = 60.0  # seconds until workers must have begun

# Kills of each job at random moments, in the long form (400 together) and the quick one.
_KILLS = {
    "saving": (90, 3),
    "appending": (70, 3),
    "factorizing in parts": (70, 4),
    "compressing a model": (50, 2),
    "adapting a model": (16, 0),
    "forming output moments": (30, 2),
    "comparing allocations": (4, 0),
    "compressing many matrices": (20, 0),
    "lplr bench": (30, 0),
    "lplr bounds": (20, 0),
}
_WORKERS = """\
import os, sys, time
from functools import partial
from lplr.processes import map_in_order
def work(folder, i):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(0.01)
list(map_in_order(partial(work, sys.argv[1]), range(10_000), patience=0.0))
"""


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Kill writers and jobs."""
    for i, writing in enumerate(WRITINGS):
        yield from _at_each_call(scale, Place(writing, folder / f"calls-{i}"))
    for i, writing in enumerate(JOBS):
        if kills := scale.count(*_KILLS[writing.what]):
            yield from _at_random(scale, Place(writing, folder / f"job-{i}"), kills)
    for name in ("SIGKILL", "SIGTERM", "SIGINT")[: scale.count(3, 1)]:
        failure = _workers(folder / name, getattr(signal, name))
        yield Trial("G3", f"workers end with the process that {name} ends", failure)


# --- after each system call ------------------------------------------------------------------


def calls_of(place: Place) -> list[Call]:
    """The system calls of a writing, without what is written; the place is as before."""
    made: list[tuple[Any, ...]] = []

    def note(call: Call, do: Callable[..., Any]) -> Any:
        made.append(call[:4])
        return do()

    def work() -> list[tuple[Any, ...]]:
        watch(place.folder, note)
        place.write()
        return made

    place.reset()
    ended = run(work)
    place.reset()
    if ended.code != 0:
        raise RuntimeError(f"{place.writing.what}: {ended.value}")
    return [Call(*call) for call in ended.value]


def _at_each_call(scale: Scale, place: Place) -> Iterator[Trial]:
    """Every call in the long form, and some of them in the quick one."""
    calls = calls_of(place)
    moments = [(k, half) for k, call in enumerate(calls) for half in _halves(call)]
    step = max(1, scale.count(1, len(moments) // 3))
    first = int(scale.rng(place.writing.what).integers(step))
    for k, half in moments[first::step]:
        place.reset()
        ended = run(partial(_killed, place, partial(_is, k), 0.5 if half else 1.0))
        what = f"{place.writing.what}, killed {'in' if half else 'after'} call {k}: {calls[k]}"
        failure = "" if ended.code == -signal.SIGKILL else f"ended by itself: {ended.value}"
        failure = failure or place.broken()
        if not failure and (kept := place.finished()):
            # It goes on until right before what is finished becomes the result, and is deleted.
            run(partial(_killed, place, lambda _, call: call.other in place.new, 0.0))
            failure = place.lost(kept)
        failure = failure or place.unfinished()
        yield Trial(
            "G1 G3", "SIGKILL after a system call of a writer", failure and f"{what}: {failure}"
        )


def _halves(call: Call) -> tuple[bool, ...]:
    return (True, False) if call.name == "write" else (False,)


def _is(k: int, i: int, call: Call) -> bool:
    return i == k


def _killed(place: Place, when: Callable[[int, Call], bool], share: float) -> None:
    """Make the call, and die in one of its system calls, of which this share is done."""
    made = -1

    def kill(call: Call, do: Callable[..., Any]) -> Any:
        nonlocal made
        made += 1
        if not when(made, call):
            return do()
        try:
            if share == 1:
                do()
            elif share:
                do(call.data[: int(share * len(call.data))])
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(place.folder, kill)
    place.write()


# --- at random moments -----------------------------------------------------------------------


def _at_random(scale: Scale, place: Place, kills: int) -> Iterator[Trial]:
    """Kill a job again and again, and let it go on each time, until it has been killed so often."""
    start = time.perf_counter()
    place.run()
    alone = time.perf_counter() - start  # seconds
    place.reset()
    chance = scale.rng(place.writing.what)
    what = f"{place.writing.what}, seed {scale.seed}"
    done, kept = 0, place.finished()
    while done < kills:
        pause = chance.uniform(0, alone)
        with Child(place.write) as child:
            time.sleep(pause)
            child.send(signal.SIGKILL)
            ended = child.wait()
        killed = ended.code == -signal.SIGKILL
        done += killed
        if killed:
            failure = place.broken() or ("a process is left" if ended.left else "")
            failure = failure or place.lost(kept)
            failure = failure and f"{what}, kill {done} after {pause:.4f} s: {failure}"
        else:
            failure = "" if ended.code == 0 else f"the same call fails: {ended.value}"
            failure = failure and f"{what}, after kill {done}: {failure}"
        if killed or failure:
            yield Trial("G1 G3", f"SIGKILL of a job: {place.writing.what}", failure)
        kept = place.finished()
        if not failure:
            if ended.code and place.seen() != place.new and done < kills:
                continue
            failure = place.unfinished() or place.lost(kept)
            yield Trial("G3", "the same bytes after kills", failure and f"{what}: {failure}")
        place.reset()
        kept = place.finished()


# --- with processes of its own ---------------------------------------------------------------


def _workers(folder: Path, number: int) -> str:
    """Why not all workers of a process end soon after it."""
    folder.mkdir()
    script = [sys.executable, "-c", _WORKERS, str(folder)]
    env = os.environ | {"LPLR_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    with Child(partial(os.execve, sys.executable, script, env)) as child:
        end = time.monotonic() + _PATIENCE
        while len(os.listdir(folder)) < 2 and not child.ended() and time.monotonic() < end:
            time.sleep(0.01)
        child.send(number)
        ended = child.wait()
    workers = len(os.listdir(folder))
    if workers < 2 or ended.code == 0:
        return f"{workers} workers before exit code {ended.code}: {ended.printed[-500:]}"
    return "a process is left" if ended.left else ""
