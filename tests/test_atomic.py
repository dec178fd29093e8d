"""The one writer: permissions, links, races, interrupts; always the old file or the new one."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from lplr.exceptions import CorruptFileError, InputError, StorageError
from lplr.selftest.forge import small
from lplr.storage import atomic
from lplr.storage.container import load, save, verify
from lplr.storage.output import new_path


def test_overwrite_must_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite") as caught:
        save(path, small(n=2, d=2))
    assert isinstance(caught.value, InputError)
    assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, str(path))
    assert path.read_bytes() == b"precious"
    save(path, small(n=2, d=2), overwrite=True)
    verify(path)
    assert os.listdir(tmp_path) == ["x.h5"]


def test_two_writers_cannot_both_win(tmp_path: Path) -> None:
    """Both see no file and write; the name is taken once, and the other is told."""
    path = tmp_path / "x.h5"
    outcomes: list[str] = []

    def write(seed: int) -> None:
        try:
            save(path, small(n=2, d=2, seed=seed))
            outcomes.append("saved")
        except InputError:
            outcomes.append("refused")

    for _ in range(10):
        outcomes.clear()
        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["refused"] * 3 + ["saved"]
        verify(path)
        assert os.listdir(tmp_path) == ["x.h5"]
        path.unlink()


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(atomic.os, "link", no_link)
    save(tmp_path / "x.h5", small(n=2, d=2))
    verify(tmp_path / "x.h5")
    with pytest.raises(InputError, match="overwrite"):
        save(tmp_path / "x.h5", small(n=2, d=2))
    assert os.listdir(tmp_path) == ["x.h5"]


def test_symbolic_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "link.h5", tmp_path / "real" / "x.h5"
    link.symlink_to(real)
    save(link, small(n=2, d=2))
    assert link.is_symlink()
    verify(real)
    with pytest.raises(InputError, match="overwrite"):
        save(link, small(n=2, d=2))
    save(link, small(n=3, d=2), overwrite=True)
    assert link.is_symlink()
    assert load(real).shape == (3, 2)
    loop = tmp_path / "loop.h5"
    loop.symlink_to(loop)
    with pytest.raises(StorageError, match="loop"):
        save(loop, small(n=2, d=2), overwrite=True)


def test_permission_bits(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    old = os.umask(0o027)
    try:
        save(path, small(n=2, d=2))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    save(path, small(n=2, d=2), overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize("path", ["", None, 3, "a\0b"])
def test_path_that_is_none(path: object) -> None:
    with pytest.raises(InputError, match="path"):
        save(path, small(n=2, d=2))
    with pytest.raises(InputError, match="path"):
        load(path)


def test_folder_without_permission() -> None:
    """As an ordinary user, since root may write everywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder / "x.h5", small(n=2, d=2))
        folder.chmod(0o555)
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            with pytest.raises(StorageError, match="Permission denied"):
                save(folder / "y.h5", small(n=2, d=2))
            assert load(folder / "x.h5").shape == (2, 2)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
        assert os.listdir(folder) == ["x.h5"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "no/x.h5", "file/x.h5", "pipe", "x" * 300):
        with pytest.raises(StorageError) as caught:
            save(tmp_path / name, small(n=2, d=2), overwrite=True)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


def test_interrupt_at_every_step_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    save(path, small(n=2, d=2))
    before = path.read_bytes()
    for step in ("_write", "_compare", "_give_name"):
        original = None if step == "_give_name" else getattr(atomic, step)

        def interrupted(*args: object, original: Callable | None = original) -> None:
            if original is not None:
                original(*args)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(atomic, step, interrupted)
            with pytest.raises(KeyboardInterrupt):
                save(path, small(n=5, d=5), overwrite=True)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["x.h5"]


def test_an_error_of_what_is_written_stays_what_it_is(tmp_path: Path) -> None:
    """It may be of another file, which the parts are read from."""

    def parts() -> Iterator[bytes]:
        yield b"first"
        raise CorruptFileError("the source is damaged")

    with pytest.raises(CorruptFileError, match="^the source is damaged$"):
        atomic.write_atomic(tmp_path / "file", parts())
    assert not list(tmp_path.iterdir())


def test_a_disk_that_returns_other_bytes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    save(path, small(n=2, d=2))
    before = path.read_bytes()
    write = atomic._write

    def faulty(temporary: str, *args: object) -> bytes:
        digest = write(temporary, *args)
        written = Path(temporary).read_bytes()
        Path(temporary).write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
        return digest

    monkeypatch.setattr(atomic, "_write", faulty)
    with pytest.raises(StorageError, match="faulty"):
        save(path, small(n=5, d=5), overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.h5"]


def test_what_replaces_a_private_file_is_private_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    path.chmod(0o600)

    def parts() -> Iterator[bytes]:
        yield b"secret"
        (temporary,) = tmp_path.glob(".lplr-*")
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600

    atomic.write_atomic(path, parts(), overwrite=True)
    assert path.read_bytes() == b"secret"


def test_a_folder_behind_a_link_is_replaced_there(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    save(real, small(n=2, d=2), parts=True)
    real.chmod(0o700)
    link.symlink_to(real)
    save(link, small(n=5, d=5), parts=True, overwrite=True)
    assert link.is_symlink()
    assert load(real).shape == (5, 5)
    assert stat.S_IMODE(real.stat().st_mode) == 0o700
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_the_working_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for write in (save, partial(save, parts=True), lambda path, f: new_path(path)):
        with pytest.raises(StorageError, match="the working folder is gone"):
            write("x", small(n=2, d=2))
