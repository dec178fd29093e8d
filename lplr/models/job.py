"""The folder OUT.job: what a compression of a network has finished, so that the same call goes on.

It holds ``job.json`` (what every byte of the result depends on), ``lock``, ``model/`` (what becomes
OUT), ``states-I.npy`` (the hidden states before block I, of the original network and behind the
compressed blocks) and ``log.jsonl`` (times and errors). Each file is complete, or not there; a line
of the log that a kill has cut off is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, MissingFileError, StorageError
from lplr.matrices.base import PackedMatrix
from lplr.models.calibration import States
from lplr.models.store import layer_file, write_layer
from lplr.storage.atomic import write_atomic

__all__ = ["Job", "folder_of", "progress_of"]

_CALL, _LOCK, _LOG, _MODEL, _WORK = "job.json", "lock", "log.jsonl", "model", "work.npy"
_STATES = re.compile(r"states-(\d{5})\.npy")
_OURS = re.compile(r"job\.json|lock|log\.jsonl|model|work\.npy|states-\d{5}\.npy")
_TEMPORARY = re.compile(r"\.lplr-[0-9a-f]{32}\.tmp")


def folder_of(out: str | os.PathLike[str]) -> Path:
    """Where the unfinished parts of a model are."""
    return Path(f"{os.path.abspath(out)}.job")


def progress_of(out: str | os.PathLike[str]) -> int:
    """How many layers of a model are finished that is not."""
    return len(list((folder_of(out) / _MODEL / "layers").glob("*.h5")))


class Job:
    """A compression that is under way; use as a context manager, which holds its lock.

    Parameters
    ----------
    out : path
        The folder that is being made.
    call : dict
        What every byte of it depends on, as JSON holds it.

    Raises
    ------
    InputError
        If another process works on it, or the folder holds the parts of another call, or files of
        others.
    StorageError
        If the folder cannot be made.
    """

    def __init__(self, out: Path, call: dict[str, Any]) -> None:
        self.out, self.folder = out, folder_of(out)
        self.model = self.folder / _MODEL
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be made: {error.strerror}; name another output"
            ) from None
        self._lock = _locked(self.folder / _LOCK)
        try:
            self._adopt(call)
        except BaseException:
            self._lock.close()
            raise

    def _adopt(self, call: dict[str, Any]) -> None:
        before = self._call()
        for path in list(self.folder.rglob("*")):
            if _TEMPORARY.fullmatch(path.name):  # a kill has left it
                path.unlink()
        if before is None and any(not _OURS.fullmatch(p.name) for p in self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: holds files of others and is needed for unfinished parts; move "
                "them, or name another output"
            )
        if before is None:
            self._clear()
            text = json.dumps(call, indent=1, sort_keys=True)
            write_atomic(self.folder / _CALL, [text.encode()], overwrite=True)
        elif before != call:
            differs = sorted(
                key for key in before.keys() | call if before.get(key) != call.get(key)
            )
            raise InputError(
                f"{self.folder}: holds what another call has finished (it differs in "
                f"{', '.join(differs)}); repeat that call, or delete the folder"
            )
        self.model.mkdir(exist_ok=True)

    def _call(self) -> Any:
        try:
            found = json.loads((self.folder / _CALL).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # not there, or damaged
            return None
        return found if isinstance(found, dict) else None

    def _clear(self) -> None:
        """Parts of an unknown call are of no use."""
        shutil.rmtree(self.model, ignore_errors=True)
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    # --- layers ---

    def packed(self, number: int) -> PackedMatrix | None:
        """A finished layer; None if it is not there whole."""
        from lplr.storage.container import load

        try:
            return load(layer_file(self.model, number))
        except (MissingFileError, CorruptFileError):
            return None

    def keep(self, number: int, name: str, packed: PackedMatrix, record: dict[str, Any]) -> None:
        """Write a layer."""
        write_layer(self.model, number, name, packed, record)

    # --- hidden states ---

    def states(self, shape: tuple[int, ...]) -> tuple[int, States | None]:
        """The hidden states that were kept last, and the block that comes next; else 0, None."""
        for i in sorted(self._generations(), reverse=True):
            with suppress(OSError, ValueError):
                both = np.load(self._states(i), mmap_mode="r", allow_pickle=False)
                if both.shape == (2, *shape) and both.dtype == np.float32:
                    return i, States(both[0], both[1])
        return 0, None

    def keep_states(self, i: int, states: States) -> None:
        """Write the hidden states before block i, then delete those before earlier blocks."""
        shape = (2, *states.original.shape)
        header = _npy_header(shape)
        arrays = (np.ascontiguousarray(h) for h in (states.original, states.compressed))
        pieces: list[bytes | memoryview] = [header]
        pieces += [h.reshape(-1).view(np.uint8).data for h in arrays]
        write_atomic(self._states(i), pieces, overwrite=True)
        self.forget_states(before=i)

    def forget_states(self, before: int | None = None) -> None:
        """Delete hidden states before earlier blocks, or all."""
        for j in self._generations():
            if before is None or j < before:
                self._states(j).unlink(missing_ok=True)

    def room(self, shape: tuple[int, ...], on_disk: bool) -> States:
        """Arrays for the hidden states, in memory or in a file that is mapped."""
        if not on_disk:
            return States(np.empty(shape, np.float32), np.empty(shape, np.float32))
        path = self.folder / _WORK
        nbytes = 8 * int(np.prod(shape))
        try:
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, nbytes)  # a full disk is noticed here
        except OSError as error:
            raise StorageError(
                f"{path}: {nbytes} bytes for hidden states cannot be had: {error.strerror}; free "
                "space and repeat the call"
            ) from None
        both = np.memmap(path, np.float32, "r+", shape=(2, *shape))
        return States(both[0], both[1])

    def _states(self, i: int) -> Path:
        return self.folder / f"states-{i:05}.npy"

    def _generations(self) -> list[int]:
        found = (_STATES.fullmatch(path.name) for path in self.folder.iterdir())
        return [int(match[1]) for match in found if match]

    # --- what is told at the end ---

    def log(self, **record: Any) -> None:
        """Add a line to the log."""
        line = "\n" + json.dumps(record)
        try:
            with open(self.folder / _LOG, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise StorageError(
                f"cannot write {self.folder / _LOG}: {error.strerror}; check the free space and "
                "repeat the call"
            ) from None

    def logged(self) -> Iterator[dict[str, Any]]:
        """The whole lines of the log."""
        with suppress(FileNotFoundError):
            for line in (self.folder / _LOG).read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):
                    if line:
                        yield json.loads(line)

    def finish(self) -> None:
        """Give ``model/`` the name OUT; nothing else is left."""
        self.forget_states()
        try:
            os.rename(self.model, self.out)
        except OSError as error:
            raise StorageError(
                f"cannot rename {self.model} to {self.out}: {error.strerror}; rename it yourself"
            ) from None
        shutil.rmtree(self.folder, ignore_errors=True)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    import io

    file = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def _locked(path: Path) -> Any:
    """The open lock file, which this process alone holds until it ends, however it ends."""
    try:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lives as long as it
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; name another output") from None
    try:
        _lock(file)
    except OSError:
        file.seek(0)
        who = file.read().strip()
        file.close()
        raise InputError(
            f"{path.parent}: another process{who and f' ({who})'} works on it; wait for it, or "
            "name another output"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _lock(file: Any) -> None:
    """Take the lock of the operating system, which a kill releases; OSError if it is taken."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
