"""Writers on disks that are full or read-only, and under a limit of the size of files."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from lplr.selftest.jobs import JOBS
from lplr.selftest.lacking import MUST_SUCCEED, tried
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import WRITINGS, Place

__all__ = ["full_disks", "read_only", "size_limits"]

_SIZES = 12  # of a disk, and of a limit


def size_limits(scale: Scale, place: Place) -> Iterator[Trial]:
    place.reset()
    place.write()
    largest = max(path.stat().st_size for path in place.folder.rglob("*") if path.is_file())
    sizes = np.linspace(0, 1.1 * largest, _SIZES).astype(int).tolist()
    for size in sizes[:: scale.count(1, 4)]:
        place.reset()
        limits = (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        before = partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        failure = tried(place, before, MUST_SUCCEED if size > largest else "")
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


def full_disks(scale: Scale, folder: Path) -> Iterator[Trial]:
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
                    failure = tried(place, bool, again=False)
                finally:
                    _mount("-o", "remount,size=16m", str(disk))
                failure = failure or place.unfinished()
                told = failure and f"{writing.what}, {left} pages left: {failure}"
                yield Trial("G1 G6", what, told)
            place.reset()
            _mount("-o", "remount,ro", str(disk))
            try:
                failure = tried(place, bool, again=False)
            finally:
                _mount("-o", "remount,rw", str(disk))
            failure = failure or ("" if place.seen() == place.old else "it was written to")
            yield Trial("G1 G6", "a disk that is read-only", failure)


def _used(disk: Path) -> int:
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def read_only(scale: Scale, folder: Path) -> Iterator[Trial]:
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
            failure = tried(place, partial(os.seteuid, user), again=False)
        finally:
            for path in above:
                path.chmod(modes[path])
            for path in paths:
                path.chmod(0o755)
        failure = failure or ("" if place.seen() == place.old else "it was written to")
        told = failure and f"{writing.what}: {failure}"
        yield Trial("G1 G6", "a folder without permission", told)
