"""The one writer: under its final name a file is the complete new one or the untouched old one.

The bytes go to a temporary file ``.lplr-<32 hex digits>.tmp`` in the folder of the target. It is
synced to disk, read back and compared with what was meant; only then it gets the final name, and
the folder is synced. An exception of any kind removes the temporary file. Only the kill of the
process or a power cut can leave one behind: such a file is never a result and may be deleted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from lplr.exceptions import ExistingFileError, LplrError, StorageError
from lplr.storage.names import full_path, sync_folder

__all__ = ["write_atomic", "written"]

_DIGEST = "blake2b"  # of what is written and read back: the quickest of the safe ones


def write_atomic(
    path: str | os.PathLike[str], parts: Iterable[bytes | memoryview], overwrite: bool = False
) -> None:
    """Write ``parts``, one after the other, as the file ``path``: all of it or none.

    They are gone through once, so that each may be made when it is its turn.

    A symbolic link is followed, and the file that it points to is written. An existing file keeps
    its permission bits; a new one gets those of the umask. Without ``overwrite`` a hard link takes
    the name: it fails if the name exists, so that two writers cannot both win. On a file system
    without hard links, the name is checked right before the renaming.

    InputError says that ``path`` is no path, ExistingFileError that it exists and ``overwrite`` is
    False, and StorageError that the file cannot be written; what was there before is then intact.
    """
    with written(path, parts, overwrite) as give_name:
        give_name()


@contextmanager
def written(
    path: str | os.PathLike[str], parts: Iterable[bytes | memoryview], overwrite: bool = False
) -> Iterator[Callable[[], None]]:
    """A file that is written and verified, and waits for a call that gives it its name.

    Of several that belong together all can be ready before the first of them has its name. Errors
    are those of `write_atomic`.
    """
    target = full_path(path, "path")
    name, folder = os.fsdecode(path), os.path.dirname(target)
    # Known before the file exists, so that an interrupt at any moment still finds it to remove.
    temporary = os.path.join(folder, f".lplr-{secrets.token_hex(16)}.tmp")
    try:
        mode = _target_mode(target, overwrite)
        try:
            digest = _write(temporary, parts, mode)
            _compare(temporary, digest)
            yield partial(_give_name, temporary, target, overwrite)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        sync_folder(folder)
    except FileExistsError as exc:
        raise ExistingFileError(
            f"overwrite is False and {name!r} exists; pass overwrite=True or another path", name
        ) from exc
    except LplrError:  # also what the parts are made from may be damaged
        raise
    except OSError as exc:
        raise StorageError(
            f"cannot write {name!r}: {exc.strerror or exc}; "
            "check that the folder exists, its permissions and its free space"
        ) from exc


def _target_mode(target: str, overwrite: bool) -> int | None:
    """Permission bits of the file to replace; None if there is none."""
    try:
        found = os.lstat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found):
        raise StorageError(f"cannot write {target!r}: it is a loop of symbolic links")
    if not stat.S_ISREG(found):
        kind = "a folder" if stat.S_ISDIR(found) else "not a regular file"
        raise StorageError(f"cannot write {target!r}: it is {kind}; name a file")
    if not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    if not os.access(target, os.W_OK):
        raise StorageError(f"cannot write {target!r}: it is read-only; change that or the path")
    return stat.S_IMODE(found)


def _write(temporary: str, parts: Iterable[bytes | memoryview], mode: int | None) -> bytes:
    """Write the file, and return a digest of what was meant."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    digest = hashlib.new(_DIGEST)
    # What replaces a private file is private from its first byte.
    with open(os.open(temporary, flags, 0o666 if mode is None else 0o600), "wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        if mode is not None:
            os.chmod(temporary, mode)
        os.fsync(file.fileno())
    return digest.digest()


def _compare(temporary: str, digest: bytes) -> None:
    """Read the file back: storage that loses bytes is noticed while the old file still exists."""
    with open(temporary, "rb") as file:
        if hashlib.file_digest(file, _DIGEST).digest() != digest:
            raise StorageError(
                f"cannot write {temporary!r}: it reads back differently; the disk is faulty"
            )


def _give_name(temporary: str, target: str, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.replace(temporary, target)
