"""Folders of parts, written and added to; the rules are those of `lplr.storage.folder`."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lplr.exceptions import ExistingFileError, InputError, LplrError, StorageError
from lplr.matrices.base import PackedMatrix
from lplr.storage import names
from lplr.storage.encoding import encode
from lplr.storage.folder import Folder, PartFile, is_folder, part_number
from lplr.storage.names import full_path, rename_folder, sync_folder
from lplr.storage.stored import write_stored
from lplr.storage.workplace import locked

__all__ = ["add_parts", "give_name", "new_folder", "write_folder", "write_part"]

_LOCK = ".lock"
_LEFT = re.compile(r"\.lplr-[0-9a-f]{32}\.tmp")  # by a kill, see lplr.storage.atomic


def new_folder(path: Any, overwrite: bool = False) -> Path:
    """The path behind all links, if a folder of parts can be there; errors as `lplr.save`."""
    target = Path(full_path(path, "path"))
    try:
        os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        return target
    except OSError as exc:
        raise InputError(f"path: {str(path)!r} cannot be written: {exc.strerror}") from exc
    if not overwrite:
        message = f"overwrite is False and {str(path)!r} exists; pass overwrite=True"
        raise ExistingFileError(message, str(path))
    if not is_folder(target):
        raise StorageError(f"cannot write {str(path)!r}: it is not a folder of parts; move it")
    return target


def write_folder(
    path: Any,
    parts: Iterable[PackedMatrix],
    meta: Mapping[str, Any],
    attrs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write packed matrices, the parts of one, as a folder: all of it or nothing.

    They are gone through once, so that each may be made when it is its turn. Errors are those of
    `lplr.save`.
    """
    target = new_folder(path, overwrite)
    temporary = target.parent / f".lplr-{secrets.token_hex(16)}.tmp"
    with _told(target):
        try:
            temporary.mkdir()
            files = [write_part(temporary, i, part) for i, part in enumerate(parts)]
            if not files:
                raise InputError("parts: must be one or more packed matrices")
            Folder(temporary, files[0].shape[1], tuple(files), meta, attrs or {}).write()
            give_name(temporary, target, overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_part(folder: Path, number: int, packed: PackedMatrix) -> PartFile:
    """Write a packed matrix as the part of a number."""
    path = folder / f"part-{number:05}.h5"
    write_stored(path, encode(packed, "part"), {}, overwrite=True)
    return PartFile.of(path, packed)


def give_name(folder: Path, target: Path, overwrite: bool = False) -> None:
    """Rename a complete folder.

    With ``overwrite`` a folder of parts that is there gives it its permission bits, takes the other
    name at the same moment, and is deleted; where the system cannot swap two names, it is moved
    aside a moment before. InputError says that another process adds to it, and OSError that
    something else is there, or that it cannot be renamed; what was there then still is.
    """
    if not (overwrite and is_folder(target)):
        rename_folder(folder, target)
        return
    with locked(target / _LOCK):  # who adds to it would go on in the new one
        shutil.copymode(target, folder)
        if names.swap(folder, target):
            sync_folder(target.parent)
            shutil.rmtree(folder, ignore_errors=True)
            return
        aside = target.parent / f".lplr-{secrets.token_hex(16)}.tmp"
        os.rename(target, aside)
        try:
            rename_folder(folder, target)
        except BaseException:
            if not os.path.lexists(target):
                os.rename(aside, target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def add_parts(path: str | os.PathLike[str], parts: Iterable[PackedMatrix]) -> Folder:
    """Add packed matrices below a matrix in parts: all of them or none.

    Others that add at the same time wait. The parts are gone through once, under the lock. Errors
    are those of `lplr.load` and `lplr.save`; InputError says that the columns are not as many.
    """
    with _told(path), locked(Path(path) / _LOCK, wait=True):
        folder = Folder.read(path)
        number = max(map(_number, _without_left_overs(folder))) + 1
        added: list[PartFile] = []
        try:
            for packed in parts:
                if packed.shape[1] != folder.columns:
                    raise InputError(
                        f"parts: must have {folder.columns} columns, found {packed.shape}"
                    )
                added.append(write_part(folder.path, number + len(added), packed))
            folder = replace(folder, parts=(*folder.parts, *added))
            folder.write(overwrite=True)
        except BaseException:  # an interrupt may come when the manifest is there already
            _without_left_overs(Folder.read(path))
            raise
    return folder


def _without_left_overs(folder: Folder) -> set[str]:
    """The names of the parts; files that the manifest does not name are deleted."""
    named = {os.path.basename(part.path) for part in folder.parts}
    for left in folder.path.iterdir():
        is_part = part_number(left.name) is not None
        if (is_part and left.name not in named) or _LEFT.fullmatch(left.name):
            left.unlink()
    return named


def _number(name: str) -> int:
    return part_number(name) or 0


@contextmanager
def _told(path: Any) -> Iterator[None]:
    """Errors of the file system as those of this package."""
    try:
        yield
    except LplrError:
        raise
    except OSError as exc:
        raise StorageError(
            f"cannot write {str(path)!r}: {exc.strerror or exc}; check that the folder it is in "
            "exists, its permissions and its free space"
        ) from exc
