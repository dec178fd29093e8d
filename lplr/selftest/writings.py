"""What the package writes, each as a call on a folder that can be cut short and looked at."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import MissingFileError
from lplr.matrices.quantized import Quantized
from lplr.progress import unheard
from lplr.selftest.children import Ended, run
from lplr.storage.container import load, save, verify
from lplr.storage.folder_writer import add_parts, write_folder
from lplr.storage.table import meta_path, read_table, write_table

__all__ = [
    "ABSENT",
    "TEMPORARY",
    "WRITINGS",
    "Pieces",
    "Place",
    "Seen",
    "Writing",
    "digest",
    "identities",
    "kept_parts",
    "nothing",
    "prepare_matrix",
    "read_file",
    "read_parts",
    "read_results",
    "small",
    "small_parts",
]

ABSENT = "nothing"
TEMPORARY = re.compile(r"\.lplr-[0-9a-f]{32}\.tmp")  # never a result, see lplr.storage.atomic
_UNFINISHED = re.compile(rf"{TEMPORARY.pattern}|.*\.job")  # folders

Seen = Mapping[str, str]  # of each final name, a digest of what a reader finds there
Pieces = Mapping[str, object]  # what is finished of a job, and by what it is known again


@dataclass(frozen=True)
class Writing:
    """A call that writes into a folder.

    Parameters
    ----------
    what : str
    prepare : callable
        ``prepare(folder)`` makes what is there before.
    write : callable
        ``write(folder)`` is the call.
    read : callable
        ``read(folder)`` reads each final name as users do, and verifies it.
    finished : callable
        ``finished(folder)`` tells the pieces that are kept of a call that resumes, by their names,
        and what says that a piece is still the same one: of a file `identities`. None are kept of
        a call that writes once, at its end.
    writes : bool
        Whether the call changes anything that is read.
    """

    what: str
    prepare: Callable[[Path], Any]
    write: Callable[[Path], Any]
    read: Callable[[Path], Seen]
    finished: Callable[[Path], Pieces] = lambda folder: {}
    writes: bool = True


class Place:
    """A folder in which a writing is tried again and again.

    Attributes
    ----------
    old, new : mapping
        What is read before the call, and after one that nobody disturbs.
    """

    def __init__(self, writing: Writing, folder: Path) -> None:
        self.writing = writing
        self._model, self.folder = folder / "model", folder / "tried"
        self._model.mkdir(parents=True)
        with unheard():
            writing.prepare(self._model)
        self._read: dict[str, Seen] = {}  # by what is in the folder
        self.reset()
        self.old, self._names_before = self.seen(), self._names()
        with unheard():
            self.write()  # which compiles and imports what it needs
        self.new, self._names_after = self.seen(), self._names()
        assert (self.old != self.new) == writing.writes, writing.what
        self.reset()

    def reset(self) -> None:
        """Everything as before the call."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._model, self.folder, symlinks=True)

    def read(self) -> Seen:
        """What is read now."""
        with unheard():
            return self.writing.read(self.folder)

    def seen(self) -> Seen:
        """The same; where a folder holds just what it held before, that is not read once more."""
        found = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            found.update(repr((str(path), path.is_file())).encode())
            if path.is_file():
                found.update(hashlib.sha256(path.read_bytes()).digest())
        key = found.hexdigest()
        if key not in self._read:
            self._read[key] = self.read()
        return self._read[key]

    def broken(self, seen: Seen | None = None) -> str:
        """Why what is read is neither the old nor the new; empty if each file is one of them."""
        try:
            seen = self.seen() if seen is None else seen
        except Exception as error:  # of any kind: it is told
            return f"what is there cannot be read: {type(error).__name__}: {error}"
        odd = [name for name in seen if seen[name] not in self._allowed(name)]
        return f"{odd[0]} is neither the old nor the new" if odd else ""

    def _allowed(self, name: str) -> tuple[str, str]:
        return self.old.get(name, ABSENT), self.new.get(name, ABSENT)

    def run(self) -> Ended:
        """How a child that makes the call ends."""
        return run(self.write)

    def write(self) -> None:
        """Make the call."""
        self.writing.write(self.folder)

    def finished(self) -> Pieces:
        """The pieces that are kept now."""
        return self.writing.finished(self.folder)

    def lost(self, kept: Pieces) -> str:
        """Why not each piece that was kept before is still there, and the same one.

        Once the result is there, those that are no part of it may be gone.
        """
        now, is_done = self.finished(), self.seen() == self.new
        for name, piece in kept.items():
            if name in now and now[name] != piece:
                return f"{name} was finished, and is made anew"
            if name not in now and not is_done:
                return f"{name} was finished, and is gone"
        return ""

    def unfinished(self) -> str:
        """Why the call, made once more, does not end as one that nobody disturbed."""
        if self.seen() == self.new:
            return ""
        ended = self.run()
        if ended.code != 0:
            return f"the same call fails: {ended.value or ended.printed}"
        if self.seen() != self.new:
            return "the same call makes something else"
        left = [name for name in self.left() if not TEMPORARY.fullmatch(Path(name).name)]
        return f"the same call leaves {left[0]}" if left else ""

    def left(self) -> list[str]:
        """Names beside those of the old or the new, whichever is there."""
        if self.broken():
            return []  # which is told instead
        known = self._names_before if self.seen() == self.old else self._names_after
        return sorted(self._names() - known)

    def _names(self) -> set[str]:
        """Of files and folders; not of locks, and not what jobs and what is temporary hold."""
        found = {path.relative_to(self.folder) for path in self.folder.rglob("*")}
        return {
            str(path)
            for path in found
            if not path.name.endswith(".lock")
            and not any(_UNFINISHED.fullmatch(part) for part in path.parts[:-1])
        }


# --- what is written -------------------------------------------------------------------------


def small(seed: int = 0, n: int = 40, d: int = 300) -> Quantized:
    """A matrix of random bytes, about 12 kB of them, more than a buffer holds."""
    codes = np.random.default_rng(seed).integers(0, 256, n * d, np.uint8)
    return Quantized((n, d), "uniform", 8, codes, np.full((1, 1), 0.5, np.float32))


def digest(*what: Any) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def read_file(folder: Path) -> Seen:
    path = folder / "x.h5"
    try:
        load(path)
        return {path.name: verify(path)}
    except MissingFileError:
        return {path.name: ABSENT}


def read_parts(folder: Path) -> Seen:
    path = folder / "f"
    return {path.name: verify(path) if path.exists() else ABSENT}


def read_results(folder: Path) -> Seen:
    path = folder / "t.jsonl"
    try:
        rows, about = read_table(path)
    except MissingFileError:
        return {path.name: ABSENT}
    seen = {path.name: digest(rows)}  # without attributes for a moment, never with those of others
    return seen | ({meta_path(path).name: digest(rows, about)} if about else {})


def _write_table(folder: Path, value: int) -> None:
    rows = [{"value": value, "note": "x" * 200} for _ in range(100)]
    write_table(folder / "t.jsonl", rows, attrs={"value": value}, overwrite=True)


@contextmanager
def small_parts() -> Iterator[None]:
    """Results in parts of 4096 rows, which are small."""
    from lplr.streaming import part_rows

    before, part_rows._NBYTES = part_rows._NBYTES, 1
    try:
        yield
    finally:
        part_rows._NBYTES = before


def _stream(folder: Path) -> None:
    import lplr

    with small_parts():
        lplr.quantize(str(folder / "A.npy"), bits=2, out=folder / "f")


def prepare_matrix(folder: Path) -> None:
    A = np.random.default_rng(0).standard_normal((8300, 6), np.float32)
    np.save(folder / "A.npy", A)


def identities(*patterns: str) -> Callable[[Path], Pieces]:
    """The files of some names, and which files they are: one that is made anew is another one."""

    def found(folder: Path) -> Pieces:
        paths = [path for pattern in patterns for path in folder.glob(pattern)]
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}

    return found


kept_parts = identities("f.job/*.h5")


def _two(folder: Path, seed: int, overwrite: bool = False) -> None:
    write_folder(folder / "f", [small(seed), small(seed + 1)], {"n": seed}, overwrite=overwrite)


def nothing(folder: Path) -> None:
    pass


WRITINGS = (
    Writing("a new file", nothing, lambda f: save(f / "x.h5", small(1)), read_file),
    Writing(
        "a file replaced",
        lambda f: save(f / "x.h5", small(2)),
        lambda f: save(f / "x.h5", small(1), overwrite=True),
        read_file,
    ),
    Writing("a new folder", nothing, partial(_two, seed=1), read_parts),
    Writing(
        "a folder replaced",
        partial(_two, seed=5),
        partial(_two, seed=1, overwrite=True),
        read_parts,
    ),
    Writing(
        "rows appended",
        partial(_two, seed=5),
        lambda f: add_parts(f / "f", [small(7), small(8)]),
        read_parts,
    ),
    Writing(
        "a table replaced",
        partial(_write_table, value=1),
        partial(_write_table, value=2),
        read_results,
    ),
    Writing("a matrix in parts", prepare_matrix, _stream, read_parts, kept_parts),
)
