"""Names of files and folders: where they lead, and how they are given, at once and durably."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from pathlib import Path
from typing import Any

from lplr.exceptions import InputError, StorageError, UnsafeFileError

__all__ = ["check_regular", "full_path", "rename_folder", "swap", "sync_folder"]

_HERE = -100  # AT_FDCWD: names are relative to the working folder
_SWAP = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)  # this system, or this disk


def full_path(path: Any, argument: str, *, follow: bool = True) -> str:
    """The absolute path, behind all links or, unless ``follow``, as it is called.

    InputError says that it is no path, and StorageError that there is no folder to start from.
    """
    try:
        name = os.fsdecode(path)
        if not name or "\0" in name:
            raise ValueError("it is empty or has a NUL")
        return os.path.realpath(name) if follow else os.path.abspath(name)
    except (TypeError, ValueError) as exc:
        what = "the name of a folder or file"
        raise InputError(f"{argument}: must be {what}, found {path!r}: {exc}") from exc
    except OSError as exc:
        raise StorageError(
            f"{argument}: {path!r} leads nowhere, since the working folder is gone; name a whole "
            "path"
        ) from exc


def check_regular(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """UnsafeFileError refuses a link, a pipe or a device in the place of a file.

    With ``folder`` a folder may be there as well. What is not there passes.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # whoever opens it says why
        return
    if not (stat.S_ISREG(mode) or (folder and stat.S_ISDIR(mode))):
        raise UnsafeFileError(f"{str(path)!r} is a link or no regular file; delete it")


def swap(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Give each of two files or folders the name of the other, at once; False where none can.

    Python has no function for it, but the C libraries of Linux and macOS have one. OSError says
    that it cannot be done to these two.
    """
    names = os.fsencode(os.path.abspath(a)), os.fsencode(os.path.abspath(b))
    if sys.platform == "win32":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_HERE, names[0], _HERE, names[1], _SWAP)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, _SWAP)
    else:
        return False
    if failed and (number := ctypes.get_errno()) not in _CANNOT:
        raise OSError(number, os.strerror(number), str(a), None, str(b))
    return not failed


def rename_folder(folder: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a complete folder over nothing, or over an empty one; it stays so after a power cut.

    What it was made from may be deleted after that and not before.
    """
    os.rename(folder, target)
    sync_folder(os.path.dirname(os.path.abspath(target)))


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make new names in it durable, where folders can be opened and synced at all."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(Path(folder), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            raise
