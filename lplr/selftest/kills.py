"""Processes killed while they write: after each system call, and at random moments."""

from __future__ import annotations

import os
import signal
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

# Kills of each job at random moments, in the long form (400 together) and the quick one.
_KILLS = {
    "saving": (100, 4),
    "appending": (80, 4),
    "factorizing in parts": (80, 4),
    "compressing a model": (60, 2),
    "adapting a model": (20, 0),
    "lplr bench": (30, 0),
    "lplr bounds": (30, 0),
}


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Kill writers and jobs."""
    for i, writing in enumerate(WRITINGS):
        yield from _at_each_call(scale, Place(writing, folder / f"calls-{i}"))
    for i, writing in enumerate(JOBS):
        if kills := scale.count(*_KILLS[writing.what]):
            yield from _at_random(scale, Place(writing, folder / f"job-{i}"), kills)


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
        ended = run(partial(_killed_at, place, k, half))
        what = f"{place.writing.what}, killed {'in' if half else 'after'} call {k}: {calls[k]}"
        failure = "" if ended.code == -signal.SIGKILL else f"ended by itself: {ended.value}"
        failure = failure or place.broken() or place.unfinished()
        yield Trial(
            "G1 G3", "SIGKILL after a system call of a writer", failure and f"{what}: {failure}"
        )


def _halves(call: Call) -> tuple[bool, ...]:
    return (True, False) if call.name == "write" else (False,)


def _killed_at(place: Place, k: int, half: bool) -> None:
    made = -1

    def kill(call: Call, do: Callable[..., Any]) -> Any:
        nonlocal made
        made += 1
        try:
            return do(len(call.data) // 2) if half and made == k else do()
        finally:
            if made == k:
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
    done, kept = 0, 0
    while done < kills:
        pause = chance.uniform(0, alone)
        with Child(place.write) as child:
            time.sleep(pause)
            child.send(signal.SIGKILL)
            ended = child.wait()
        if ended.code == -signal.SIGKILL:
            done += 1
            failure = place.broken() or ("a process is left" if ended.left else "")
            if place.seen() == place.old and place.writing.finished(place.folder) < kept:
                failure = failure or f"of {kept} finished pieces some are gone"
            kept = place.writing.finished(place.folder)
            failure = failure and f"{what}, kill {done} after {pause:.4f} s: {failure}"
            yield Trial("G1 G3", f"SIGKILL of a job: {place.writing.what}", failure)
        elif ended.code != 0:
            failure = f"{what}, after kill {done}: the same call fails: {ended.value}"
            yield Trial("G1 G3", f"SIGKILL of a job: {place.writing.what}", failure)
            place.reset()
            kept = 0
        if ended.code == 0 or place.seen() == place.new:
            failure = place.unfinished() or ("" if place.seen() == place.new else "other bytes")
            yield Trial("G3", "the same bytes after kills", failure and f"{what}: {failure}")
            place.reset()
            kept = 0
    failure = place.unfinished()
    yield Trial("G3", "the same bytes after kills", failure and f"{what}: {failure}")
