"""Faults of the system: calls that fail, disks that are full, limits, memory that is not there."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import LplrError
from lplr.selftest.allocations import failing_arrays
from lplr.selftest.calls import Call, watch
from lplr.selftest.children import run
from lplr.selftest.jobs import JOBS, command, done
from lplr.selftest.kills import calls_of
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import TEMPORARY, WRITINGS, Place, small

__all__ = ["campaign"]

_ERRORS = ("ENOSPC", "EIO", "EINTR", "EDQUOT", "EXDEV", "EROFS")
_GROWING = ("create", "write", "fsync", "mkdir", "link", "rename", "swap", "allocate", "truncate")
_QUICK = ("a file replaced", "rows appended")
_SIZES = 12  # of a disk, and of a limit
_TYPED = "a typed error: "
_MUST_SUCCEED = "succeed"


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Take from writers what they need."""
    for i, writing in enumerate(WRITINGS):
        if not scale.long and writing.what not in _QUICK:
            continue
        place = Place(writing, folder / f"calls-{i}")
        yield from _failing_calls(scale, place)
        yield from _odd_systems(place)
        yield from _size_limits(scale, place)
        yield from _no_memory(scale, place)
    yield from _full_disks(scale, folder / "disk")
    yield from _read_only(scale, folder / "read-only")
    yield from _commands_without_memory(scale, folder / "command")


def _tried(place: Place, before: Callable[[], Any], must: str = "", again: bool = True) -> str:
    """Why a writer that lacks something has not done what it should; ``before`` takes it away.

    It ends in the new, or in a typed error with the old or the new, and leaves nothing else. Then,
    with what it lacked, the same call ends as if nothing had been.
    """

    def work() -> str:
        before()
        try:
            place.write()
        except (LplrError, MemoryError) as error:
            return f"{_TYPED}{type(error).__name__}: {error}"
        return ""

    ended = run(work)
    if ended.code != 0:
        return f"ends with the code {ended.code}: {ended.value}"
    if ended.value and must == _MUST_SUCCEED:
        return f"fails with {ended.value}"
    left = [path.name for path in place.folder.rglob("*") if TEMPORARY.fullmatch(path.name)]
    failure = f"leaves {left[0]}" if left else place.broken()
    if not failure and not ended.value and place.seen() != place.new:
        failure = "reports no error, and the new one is not there"
    return failure or (place.unfinished() if again else "")


# --- calls that fail -------------------------------------------------------------------------


def _failing_calls(scale: Scale, place: Place) -> Iterator[Trial]:
    """Each call fails alone, and with all that need space behind it."""
    calls = calls_of(place)
    tries = [
        (k, name, stays)
        for k, call in enumerate(calls)
        for name in _ERRORS
        for stays in (False, True)
        if not stays or (call.name in _GROWING and name != "EINTR")  # which comes and goes
    ]
    step = max(1, scale.count(1, len(tries) // 8))
    first = int(scale.rng(place.writing.what).integers(step))
    for i, (k, name, stays) in enumerate(tries[first::step]):
        place.reset()
        before = partial(watch, place.folder, _failing(k, getattr(errno, name), stays))
        if calls[k].name in ("unlink", "rmdir"):
            failure = _without_removal(place, before)
        else:
            failure = _tried(place, before, again=i % 3 == 0)
        told = f"{place.writing.what}: {name} of call {k}{' and all behind' * stays}, {calls[k]}"
        what = f"a call of a writer fails: {name}"
        yield Trial("G1 G6", what, failure and f"{told}: {failure}")


def _without_removal(place: Place, before: Callable[[], Any]) -> str:
    """The same where what is temporary cannot be deleted."""
    failure = _tried(place, before, again=False)
    return "" if failure.startswith("leaves .lplr-") else failure


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
        return do(-(-len(call.data) // 2)) if call.name == "write" else do()

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
        failure = _tried(place, partial(watch, place.folder, hook), _MUST_SUCCEED, again=False)
        told = failure and f"{place.writing.what}, {name}: {failure}"
        yield Trial("G1", "a file system that lacks something", told)


# --- sizes -----------------------------------------------------------------------------------


def _size_limits(scale: Scale, place: Place) -> Iterator[Trial]:
    place.reset()
    place.write()
    largest = max(path.stat().st_size for path in place.folder.rglob("*") if path.is_file())
    sizes = np.linspace(0, 1.1 * largest, _SIZES).astype(int).tolist()
    for size in sizes[:: scale.count(1, 4)]:
        place.reset()
        limits = (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        before = partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        failure = _tried(place, before, _MUST_SUCCEED if size > largest else "")
        told = failure and f"{place.writing.what}, files of {size} bytes: {failure}"
        yield Trial("G1 G6", "RLIMIT_FSIZE", told)


@contextmanager
def _mounted(folder: Path) -> Iterator[str]:
    """A tmpfs; yields why there is none, if so."""
    folder.mkdir(parents=True, exist_ok=True)
    failure = _mount("-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", str(folder))
    try:
        yield failure
    finally:
        if not failure:
            subprocess.run(["umount", str(folder)], check=True)


def _mount(*args: str) -> str:
    """Why it cannot; empty if it can."""
    try:
        done = subprocess.run(["mount", *args], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() or "not permitted" if done.returncode else ""


def _full_disks(scale: Scale, folder: Path) -> Iterator[Trial]:
    """A real one, with so many pages left; and one that is read-only."""
    what = f"a full tmpfs of {_SIZES} sizes"
    jobs = [job for job in JOBS if job.what == "compressing a model"]
    writings = [*WRITINGS, *jobs] if scale.long else WRITINGS[1:2]
    for i, writing in enumerate(writings):
        disk = folder / str(i)
        with _mounted(disk) as refusal:
            if refusal:
                yield Trial("G1 G6", f"{what} (skipped: {refusal})", count=0)
                return
            place = Place(writing, disk)
            page = os.statvfs(disk).f_frsize
            used = _used(disk)
            place.write()
            need = max(_SIZES, 3 * (_used(disk) - used) // page)
            for left in np.linspace(0, need, _SIZES).astype(int).tolist():
                place.reset()
                _mount("-o", f"remount,size={_used(disk) + left * page}", str(disk))
                try:
                    failure = _tried(place, bool, again=False)
                finally:
                    _mount("-o", "remount,size=16m", str(disk))
                failure = failure or place.unfinished()
                told = failure and f"{writing.what}, {left} pages left: {failure}"
                yield Trial("G1 G6", what, told)
            place.reset()
            _mount("-o", "remount,ro", str(disk))
            try:
                failure = _tried(place, bool, again=False)
            finally:
                _mount("-o", "remount,rw", str(disk))
            failure = failure or ("" if place.seen() == place.old else "it was written to")
            yield Trial("G1 G6", "a disk that is read-only", failure)


def _used(disk: Path) -> int:
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def _read_only(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Folders and files without permission, as an ordinary user: root may write everywhere."""
    for i, writing in enumerate(WRITINGS if scale.long else WRITINGS[:2]):
        place = Place(writing, folder / str(i))
        paths = [place.folder, *(p for p in place.folder.rglob("*") if p.is_dir())]
        above = [path for path in place.folder.parents if path.stat().st_uid == os.getuid()]
        modes = {path: path.stat().st_mode for path in above}
        for path in paths:
            path.chmod(0o555)
        try:
            for path in above:
                path.chmod(modes[path] | 0o111)
            user = os.geteuid() or 65534
            failure = _tried(place, partial(os.seteuid, user), again=False)
        finally:
            for path in above:
                path.chmod(modes[path])
            for path in paths:
                path.chmod(0o755)
        failure = failure or ("" if place.seen() == place.old else "it was written to")
        told = failure and f"{writing.what}: {failure}"
        yield Trial("G1 G6", "a folder without permission", told)


# --- memory ----------------------------------------------------------------------------------


def _no_memory(scale: Scale, place: Place) -> Iterator[Trial]:
    """The k-th array that is made has no room; and the process no more than so many bytes."""
    for k in range(0, 40, scale.count(1, 13)):
        place.reset()
        failure = _tried(place, partial(failing_arrays, k), again=False)
        told = failure and f"{place.writing.what}, array {k}: {failure}"
        yield Trial("G1 G6", "no memory for the k-th array", told)
    for more in range(0, 24, scale.count(1, 8)):
        place.reset()
        failure = _tried(place, partial(_limited_to, more << 17), again=False)
        told = failure and f"{place.writing.what}, {more << 17} bytes more: {failure}"
        yield Trial("G1 G6", "RLIMIT_AS", told)


def _limited_to(more: int) -> None:
    """The process gets so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _commands_without_memory(scale: Scale, folder: Path) -> Iterator[Trial]:
    """The exit code of a command is 0 or 2, and its error is one line."""
    folder.mkdir()
    np.save(folder / "A.npy", small().to_dense())
    out = folder / "x.h5"
    given = "compress", folder / "A.npy", "-o", out, "--bits-per-entry", "2"
    done(*given)  # everything is imported from now on

    def work(more: int) -> None:
        _limited_to(more)
        command(*given)

    for more in range(0, 24, scale.count(1, 8)):
        out.unlink(missing_ok=True)
        ended = run(partial(work, more << 20))
        failure = ""
        if ended.code not in (0, 2):
            failure = f"exit code {ended.code}: {ended.printed[-500:]} {ended.value or ''}"
        elif ended.code == 2 and "lplr: error: " not in ended.printed.splitlines()[-1]:
            failure = f"its last line is no error: {ended.printed[-500:]}"
        elif (ended.code == 0) != out.exists() or len(os.listdir(folder)) != 1 + out.exists():
            failure = f"exit code {ended.code}, and there are {os.listdir(folder)}"
        yield Trial("G6", "a command without memory", failure and f"{more} MB more: {failure}")
