"""The folder OUT.job beside something that is being made: one process, one call, until it is done.

It holds ``job.json`` (what every byte of the result depends on), ``lock``, and what is finished so
far, so that the same call, after an interrupt or a kill, goes on from there.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar, Self

from lplr.exceptions import InputError, StorageError
from lplr.storage.names import check_regular, sync_folder
from lplr.storage.sealed import read_sealed, write_sealed

__all__ = ["Lock", "Workplace", "folder_of", "locked"]

_CALL, _LOCK = "job.json", "lock"
_TEMPORARY = re.compile(r"\.lplr-[0-9a-f]{32}\.tmp")  # never a result, see lplr.storage.atomic


def folder_of(out: str | os.PathLike[str]) -> Path:
    """Where the unfinished parts of an output are."""
    return Path(f"{os.path.abspath(out)}.job")


class Workplace:
    """Work that is under way; use as a context manager, which holds its lock.

    Parameters
    ----------
    out : path
        What is being made.
    call : dict
        What every byte of it depends on, as JSON holds it.

    Attributes
    ----------
    ours : pattern
        Names of what lies in the folder beside ``job.json`` and ``lock``.

    Raises
    ------
    InputError
        If another process works on it, or the folder holds the parts of another call, or files of
        others.
    StorageError
        If the folder cannot be made.
    """

    ours: ClassVar[re.Pattern[str]]

    def __init__(self, out: Path, call: dict[str, Any]) -> None:
        self.out, self.folder = out, folder_of(out)
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be made: {error.strerror}; name another output"
            ) from None
        with suppress(OSError):  # of a disk that fails below as well, where it is told
            sync_folder(self.folder.parent)
        self._lock = locked(self.folder / _LOCK)
        try:
            self._adopt(call)
        except BaseException:
            with suppress(OSError):
                if [path.name for path in self.folder.iterdir()] == [_LOCK]:
                    self.discard()  # nothing could be written
            self._lock.close()
            raise

    def _adopt(self, call: dict[str, Any]) -> None:
        for path in list(self.folder.rglob("*")):
            # What is written here must not go through a link. Names of files have a suffix.
            check_regular(path, folder=path.suffix in ("", ".job"))
            if _TEMPORARY.fullmatch(path.name):  # a kill has left it
                path.unlink()
        before = self._call()
        if before is None and not all(self._is_ours(path.name) for path in self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: holds files of others and is needed for unfinished parts; move "
                "them, or name another output"
            )
        if before is None:
            self._clear()
            # What JSON cannot express is refused by whoever is called.
            write_sealed(self.folder / _CALL, dict(sorted(call.items())))
        elif before != call:
            differs = sorted(
                key for key in before.keys() | call if before.get(key) != call.get(key)
            )
            raise InputError(
                f"{self.folder}: holds what another call has finished (it differs in "
                f"{', '.join(differs)}); repeat that call, or delete the folder"
            )

    def _is_ours(self, name: str) -> bool:
        return name in (_CALL, _LOCK) or self.ours.fullmatch(name) is not None

    def _call(self) -> dict[str, Any] | None:
        return read_sealed(self.folder / _CALL)

    def _clear(self) -> None:
        """Parts of an unknown call are of no use."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:
                path.unlink()

    def discard(self) -> None:
        """Delete what was kept: what it was for is there. What is of others stays."""
        if not self.folder.is_dir():  # an interrupt came when it was gone
            return
        # The lock last: who works here from then on has a folder without any of this.
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == _LOCK):
            if path.is_dir() and self._is_ours(path.name):
                shutil.rmtree(path, ignore_errors=True)
            elif self._is_ours(path.name):
                with suppress(OSError):  # Windows deletes no open file, as the lock is
                    path.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()


class Lock:
    """A lock that this process holds until `close`, or until it ends, however it ends."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def close(self) -> None:
        """Give it back; what a close that fails could lose is who held it."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def locked(path: Path, *, of: Path | None = None, wait: bool = False) -> Lock:
    """The lock that this file stands for, which this process alone holds now.

    It is the lock ``of`` something, by default of its folder. InputError says that another process
    holds it, unless this one is to ``wait`` for it, and StorageError that it cannot be had: there
    is no going on without one.
    """
    while True:
        check_regular(path)
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lives as long as it
        except OSError as error:
            raise StorageError(
                f"cannot write {path}: {error.strerror}; name another output"
            ) from None
        try:
            _lock(file, wait)
            if _is_there(file, path):
                break
        except (BlockingIOError, PermissionError):  # taken; Windows says the latter
            file.seek(0)
            who = file.read().strip()
            file.close()
            raise InputError(
                f"{of or path.parent}: another process{who and f' ({who})'} works on it; wait for "
                "it, or name another output"
            ) from None
        except OSError as error:
            file.close()
            raise StorageError(
                f"cannot lock {path}: {error.strerror}; two processes could write there at once: "
                "name an output on a file system with locks, such as a local disk"
            ) from None
        file.close()  # who had it was done and has deleted it: it protects nothing any more
    with suppress(OSError):  # of a full disk: it is locked all the same
        file.truncate(0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return Lock(file)


def _is_there(file: Any, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(file: Any, wait: bool) -> None:
    """Take the lock of the operating system, which a kill releases; OSError if it is taken."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        how = msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK  # type: ignore[attr-defined]
        msvcrt.locking(file.fileno(), how, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
