"""Signals at random moments of commands: no partial file, no process left, a documented code."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from threadpoolctl import threadpool_limits

from lplr.exceptions import LplrError
from lplr.selftest.calls import Call, watch
from lplr.selftest.children import Child, Ended, run
from lplr.selftest.commands import COMMANDS, Command
from lplr.selftest.jobs import command, done
from lplr.selftest.kills import calls_of
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import TEMPORARY, WRITINGS, Place, Writing

__all__ = ["campaign"]

_TWICE = "SIGINT twice"
_KINDS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGSTOP", _TWICE)
_QUICK = ("compress", "append", "decompress")
_OUTSIDE = 77  # exit code of a child that a signal reaches before or after the command
_TEMPORARY = "temporary"  # the folder for what a command puts aside


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Send signals to writers and commands."""
    for i, writing in enumerate(WRITINGS):
        yield from _at_each_call(scale, Place(writing, folder / f"calls-{i}"))
    codes: list[int] = []
    for name, given in COMMANDS.items():
        if scale.long or name in _QUICK:
            writing = Writing(
                name, partial(_prepare, given), partial(_done, given), given.read,
                writes=given.writes,
            )  # fmt: skip
            with given.smaller():
                place = Place(writing, folder / name.replace(" ", "-"))
                yield from _interrupted(scale, place, given, codes)
    # Most come while a command is at work, and few before its first line or behind its last.
    heeded, outside = sum(code > 128 for code in codes), codes.count(_OUTSIDE)
    failure = f"only {heeded} of {heeded + outside}" if heeded <= outside else ""
    yield Trial("G6", "signals that commands heed", failure)


def _at_each_call(scale: Scale, place: Place) -> Iterator[Trial]:
    """SIGINT right after each system call of a writer, which raises KeyboardInterrupt there."""
    calls = calls_of(place)
    step = max(1, scale.count(1, len(calls) // 2))
    for k in range(int(scale.rng(place.writing.what).integers(step)), len(calls), step):
        place.reset()
        ended = run(partial(_interrupted_at, place, k))
        failure = "" if ended.code == 0 else f"exit code {ended.code}: {ended.value}"
        failure = failure or _partial(place) or place.broken() or place.unfinished()
        told = f"{place.writing.what}, after call {k}, {calls[k]}: {failure}"
        yield Trial("G1 G6", "SIGINT after a system call of a writer", failure and told)


def _interrupted_at(place: Place, k: int) -> None:
    made = -1

    def interrupt(call: Call, do: Callable[..., Any]) -> Any:
        nonlocal made
        made += 1
        try:
            return do()
        finally:
            if made == k:
                signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch(place.folder, interrupt)
    with suppress(KeyboardInterrupt, LplrError):
        place.write()


def _done(given: Command, folder: Path) -> None:
    with _without_openmp():
        done(*given.words(folder))


def _without_openmp() -> AbstractContextManager[object]:
    """No threads of OpenMP, for which a fork of a process that has some waits for ever."""
    return threadpool_limits(1, user_api="openmp")


def _prepare(given: Command, folder: Path) -> None:
    given.prepare(folder)
    (folder / _TEMPORARY).mkdir()


def _begin(given: Command, folder: Path) -> NoReturn:
    """The life of a process that does a command."""
    tempfile.tempdir = str(folder / _TEMPORARY)
    os.environ |= dict.fromkeys(("TMPDIR", "JOBLIB_TEMP_FOLDER"), tempfile.tempdir)
    if given.anew:
        os.execv(sys.executable, [sys.executable, "-m", "lplr", *given.words(folder)])
    with _without_openmp():
        command(*given.words(folder))


def _interrupted(scale: Scale, place: Place, given: Command, codes: list[int]) -> Iterator[Trial]:
    """One command; its exit codes are added to ``codes``."""
    chance = scale.rng(place.writing.what)
    work = partial(_begin, given, place.folder)
    with Child(work) as child:
        begun = _begun(child, given)
        failure = "" if child.wait().code == 0 else "it fails when nobody disturbs it"
    alone = time.perf_counter() - begun
    for i in range(scale.count(given.signals, 3)):
        place.reset()
        name = _KINDS[i % 5 if scale.long else int(chance.integers(4))]
        pause, to_all = chance.uniform(0, alone), bool(chance.integers(2))
        with Child(work, _OUTSIDE) as child:
            _begun(child, given)
            time.sleep(pause)
            number = getattr(signal, name.split()[0])
            child.send(number, to_all)
            if name == "SIGSTOP":
                time.sleep(0.02)
                child.send(signal.SIGCONT, to_all)
            elif name == _TWICE:
                time.sleep(chance.exponential(0.01))
                child.send(number, to_all)
            ended = child.wait()
        codes.append(ended.code)
        failure = failure or _unexpected(ended, name, given) or place.broken()
        if not failure and ended.code == 0 and place.seen() != place.new:
            failure = "it says that it is done, and is not"
        if name != _TWICE:  # which cuts the clearing up short
            failure = failure or _partial(place) or (place.unfinished() if i % 4 == 0 else "")
        whom = "its processes" if to_all else "it"
        told = f"{name} to {whom} after {pause:.4f} s of lplr {place.writing.what}: {failure}"
        yield Trial("G1 G6", f"{name} of a command", failure and told)
        failure = ""


def _begun(child: Child, given: Command) -> float:
    """When a command has begun: a process that is started imports first."""
    while given.anew and not (child.spoke() or child.ended()):
        time.sleep(0.005)
    return time.perf_counter()


def _unexpected(ended: Ended, name: str, given: Command) -> str:
    """Why a command did not end as is documented."""
    number = getattr(signal, name.split()[0])
    expected = {0} if name == "SIGSTOP" else {0, 128 + number, -number if given.anew else _OUTSIDE}
    if ended.code not in expected:
        return f"exit code {ended.code}: {ended.printed[-1000:]} {ended.value or ''}"
    # What tells of the end of joblib's workers is ended by SIGHUP before them and complains; a
    # terminal that was closed does not show that.
    if "Traceback" in ended.printed and not (name == "SIGHUP" and given.anew):
        return f"prints {ended.printed[-1000:]}"
    return "a process is left" if ended.left else ""


def _partial(place: Place) -> str:
    """What is there that is no result and no folder of a job."""
    left = [path.name for path in place.folder.rglob("*") if TEMPORARY.fullmatch(path.name)]
    left += [name for name in place.left() if not name.endswith(".job")]
    left += [path.name for path in (place.folder / _TEMPORARY).glob("*")]
    return f"leaves {left[0]}" if left else ""
