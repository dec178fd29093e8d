"""The name of something new: a folder or a file that is not there yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lplr.exceptions import InputError, MissingFileError

__all__ = ["new_path"]


def new_path(out: Any) -> Path:
    """The absolute path, if something new can be made there.

    Raises
    ------
    InputError
        If ``out`` is no name, or exists.
    MissingFileError
        If the folder that it would be in does not exist.

    Examples
    --------
    >>> from lplr.storage.output import new_path
    >>> new_path(".")
    Traceback (most recent call last):
    ...
    lplr.exceptions.InputError: out: . exists; name another, or delete it
    """
    try:
        path = Path(os.path.abspath(out))
        if b"\0" in os.fsencode(path):
            raise ValueError
    except (TypeError, ValueError):  # no name, or a character that no name has
        raise InputError(f"out: must be the name of a folder or file, found {out!r}") from None
    if os.path.lexists(path):
        raise InputError(f"out: {out or path} exists; name another, or delete it")
    if not path.parent.is_dir():
        message = f"out: the folder {str(path.parent)!r} does not exist; make it first"
        raise MissingFileError(message, str(path.parent))
    return path
