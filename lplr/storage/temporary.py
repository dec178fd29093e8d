"""Folders for what is put aside for a while, which no interrupt leaves behind.

`tempfile.TemporaryDirectory` does, if one comes right after the folder is made, or while it is
being removed. Here the name is known before the folder exists, and a removal that is interrupted is
made again; one that is interrupted twice is not.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_folder", "temporary_folder"]


@contextmanager
def temporary_folder(where: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """A new folder, which is removed at the end; by default beside other temporary files."""
    folder = Path(where or tempfile.gettempdir(), f"lplr-{secrets.token_hex(16)}")
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there, and all that is in it."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:  # an interrupt has come meanwhile, or there is nothing left to do
        shutil.rmtree(folder, ignore_errors=True)
