"""Faults of the system: calls that fail or lie, disks that are full, memory that is not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lplr.selftest.calls import Call, watch
from lplr.selftest.full_disks import full_disks, read_only, size_limits
from lplr.selftest.kills import calls_of
from lplr.selftest.lacking import MUST_SUCCEED, tried
from lplr.selftest.no_memory import commands, readers, writers
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import TEMPORARY, WRITINGS, Place

__all__ = ["campaign"]

_STAYING = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
_GROWING = ("create", "write", "fsync", "mkdir", "link", "rename", "swap", "allocate", "truncate")
_QUICK = ("a file replaced", "rows appended")


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Take from writers, and readers, what they need."""
    for i, writing in enumerate(WRITINGS):
        if not scale.long and writing.what not in _QUICK:
            continue
        place = Place(writing, folder / f"calls-{i}")
        yield from _failing_calls(scale, place)
        yield from _lying_writes(scale, place)
        yield from _odd_systems(place)
        yield from size_limits(scale, place)
        yield from writers(scale, place)
    yield from full_disks(scale, folder / "disk")
    yield from read_only(scale, folder / "read-only")
    yield from readers(scale, folder / "readers")
    yield from commands(scale, folder / "command")


# --- calls that fail, or lie -----------------------------------------------------------------


def _failing_calls(scale: Scale, place: Place) -> Iterator[Trial]:
    """Each call fails alone, and with all that need space behind it."""
    calls = calls_of(place)
    tries = [
        (k, name, stays)
        for k, call in enumerate(calls)
        for name in _errors_of(call)
        for stays in (False, True)
        if not stays or (call.name in _GROWING and name in _STAYING)
    ]
    step = max(1, scale.count(1, len(tries) // 6))
    first = int(scale.rng(place.writing.what).integers(step))
    for i, (k, name, stays) in enumerate(tries[first::step]):
        place.reset()
        before = partial(watch, place.folder, _failing(k, getattr(errno, name), stays))
        if calls[k].name in ("unlink", "rmdir"):
            failure = _without_removal(place, before)
        else:
            failure = tried(place, before, again=i % 5 == 0)
        told = f"{place.writing.what}: {name} of call {k}{' and all behind' * stays}, {calls[k]}"
        what = f"a call of a writer fails: {name}"
        yield Trial("G1 G6", what, failure and f"{told}: {failure}")


def _errors_of(call: Call) -> Iterator[str]:
    """Those that a call may end in."""
    yield from ("ENOSPC", "EIO", "EINTR", "EDQUOT")
    if call.name in ("rename", "swap", "link"):
        yield "EXDEV"
    if call.name not in ("write", "fsync", "close"):
        yield "EROFS"


def _without_removal(place: Place, before: Callable[[], Any]) -> str:
    """The same where what is temporary cannot be deleted."""
    failure = tried(place, before, again=False)
    told, _, name = failure.partition("leaves ")
    return "" if not told and TEMPORARY.fullmatch(os.path.basename(name)) else failure


def _failing(k: int, number: int, stays: bool) -> Any:
    made = -1

    def fail(call: Call, do: Callable[..., Any]) -> Any:
        nonlocal made
        made += 1
        if made == k or (stays and made > k and call.name in _GROWING):
            if call.name == "close":
                do()  # as Linux does
            raise OSError(number, os.strerror(number), call.path)
        return do()

    return fail


def _lying_writes(scale: Scale, place: Place) -> Iterator[Trial]:
    """Each write alone stores other bytes than it was given, and says nothing."""
    writes = [k for k, call in enumerate(calls_of(place)) if call.name == "write"]
    for k in writes[:: max(1, scale.count(1, len(writes) // 2))]:
        place.reset()
        failure = tried(place, partial(watch, place.folder, _lying(k)), again=False)
        told = failure and f"{place.writing.what}, other bytes of call {k}: {failure}"
        yield Trial("G1", "a write that stores other bytes", told)


def _lying(k: int) -> Any:
    made = -1

    def lie(call: Call, do: Callable[..., Any]) -> Any:
        nonlocal made
        made += 1
        if made != k:
            return do()
        middle = len(call.data) // 2
        return do(call.data[:middle] + bytes([call.data[middle] ^ 1]) + call.data[middle + 1 :])

    return lie


def _odd_systems(place: Place) -> Iterator[Trial]:
    """File systems that lack something, where a writer must succeed all the same."""

    def refuse(name: str, number: int) -> Any:
        def hook(call: Call, do: Callable[..., Any]) -> Any:
            if call.name == name and (name != "fsync" or (place.folder / call.path).is_dir()):
                raise OSError(number, os.strerror(number), call.path)
            return do()

        return hook

    def no_swap(call: Call, do: Callable[..., Any]) -> Any:
        return False if call.name == "swap" else do()

    def half(call: Call, do: Callable[..., Any]) -> Any:
        return do(call.data[: -(-len(call.data) // 2)]) if call.name == "write" else do()

    systems = {
        "no fsync of folders": refuse("fsync", errno.EINVAL),
        "fsync of folders not permitted": refuse("fsync", errno.EACCES),
        "no hard links": refuse("link", errno.EPERM),
        "no hard links, as others say it": refuse("link", errno.ENOTSUP),
        "names are not swapped": no_swap,
        "each write writes half": half,
    }
    for name, hook in systems.items():
        place.reset()
        failure = tried(place, partial(watch, place.folder, hook), MUST_SUCCEED, again=False)
        told = failure and f"{place.writing.what}, {name}: {failure}"
        yield Trial("G1", "a file system that lacks something", told)
