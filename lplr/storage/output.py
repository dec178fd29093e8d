"""The name of something new: a folder or a file that is not there yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lplr.exceptions import InputError, MissingFileError
from lplr.storage.names import full_path

__all__ = ["new_path"]


def new_path(out: Any) -> Path:
    """The absolute path, if something new can be made there.

    Raises
    ------
    InputError
        If ``out`` is no name, or one that is too long, or exists.
    MissingFileError
        If the folder that it would be in does not exist.
    StorageError
        If ``out`` is relative and the working folder is gone.

    Examples
    --------
    >>> from lplr.storage.output import new_path
    >>> new_path(".")
    Traceback (most recent call last):
    ...
    lplr.exceptions.InputError: out: . exists; name another, or delete it
    """
    path = Path(full_path(out, "out", follow=False))
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as exc:  # a name that is too long, for one
        message = f"out: {str(path)!r} cannot be written: {exc.strerror}; name another"
        raise InputError(message) from exc
    else:
        raise InputError(f"out: {out} exists; name another, or delete it")
    if not path.parent.is_dir():
        message = f"out: the folder {str(path.parent)!r} does not exist; make it first"
        raise MissingFileError(message, str(path.parent))
    return path
