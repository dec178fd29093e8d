"""Locks: one process at a time, none that protects nothing, and none that leads elsewhere."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.exceptions import InputError, StorageError, UnsafeFileError
from lplr.matrices.base import PackedMatrix
from lplr.models.job import Job
from lplr.selftest.forge import small
from lplr.storage.folder_writer import add_parts, write_folder
from lplr.storage.workplace import locked


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        locked(path)
    return str(caught.value)


def test_one_at_a_time_whoever_asks(tmp_path: Path) -> None:
    """Another thread is another one; a fork that ends lets nothing go."""
    path = tmp_path / "lock"
    path.write_text("123")  # a process that was killed, maybe one with the number of another now
    with locked(path):
        said: list[str] = []
        thread = threading.Thread(target=lambda: said.append(refused(path)))
        thread.start()
        thread.join()
        assert f"another process ({os.getpid()})" in said[0]
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        refused(path)
    locked(path).close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_no_locks_no_work(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StorageError, match="cannot lock .*file system with locks"):
        lplr.quantize(np.eye(4), bits=2, out=tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_lock_that_was_deleted_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits for a lock that its holder deletes, and a third one makes it anew."""
    path, flock, held = tmp_path / "lock", fcntl.flock, []

    def late(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.close()
        path.unlink()
        held.append(locked(path))
        flock(file, how)

    first = locked(path)
    monkeypatch.setattr(fcntl, "flock", late)
    assert "another process" in refused(path)
    assert held[0].close() is None


@pytest.mark.parametrize("name", ["lock", "log.jsonl", "job.json", "model"])
def test_a_job_writes_through_no_link(name: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir() if name == "model" else precious.write_text("precious")
    with Job(tmp_path / "out", {}):
        pass
    path = tmp_path / "out.job" / name
    path.rmdir() if name == "model" else path.unlink(missing_ok=True)
    path.symlink_to(precious)
    with pytest.raises(UnsafeFileError, match="is a link"), Job(tmp_path / "out", {}) as job:
        job.log(seconds=1.0)
    assert list(precious.iterdir()) == [] if name == "model" else precious.read_text() == "precious"


def test_rows_are_not_added_to_a_folder_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_folder(path, [small(), small()], {"n": 0})

    def parts() -> Iterator[PackedMatrix]:
        yield small(seed=7)
        with pytest.raises(InputError, match="another process"):
            write_folder(path, [small(seed=3)], {"n": 1}, overwrite=True)
        yield small(seed=8)

    add_parts(path, parts())
    assert len(lplr.load(path).blocks) == 4
    lplr.verify(path)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (path / ".lock").unlink()
    (path / ".lock").symlink_to(precious)
    with pytest.raises(UnsafeFileError, match="is a link"):
        add_parts(path, [small()])
    assert precious.read_text() == "precious"
