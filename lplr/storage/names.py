"""Names of folders that are complete: given and swapped in one step, and durable."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

__all__ = ["rename_folder", "swap", "sync_folder"]

_HERE = -100  # AT_FDCWD: names are relative to the working folder
_SWAP = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)  # this system, or this disk


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
