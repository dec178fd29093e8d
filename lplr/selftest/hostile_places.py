"""Pipes, devices, folders and links to themselves, in the place of each file that is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from lplr.exceptions import (
    CorruptFileError,
    FolderError,
    InputError,
    LplrError,
    MissingFileError,
    UnsafeFileError,
)
from lplr.matrices.row_parts import RowParts
from lplr.selftest.forge import small
from lplr.selftest.hostile_file import Hostile, Maker
from lplr.selftest.hostile_folders import network
from lplr.selftest.unfinished import make_jobs
from lplr.storage.container import save
from lplr.storage.table import write_table

__all__ = ["PLACES", "SOUND"]

_KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "folder": Path.mkdir,
}
# Files that a caller names.
_NAMES = {
    "packed": ["a.h5"],
    "arrays": [
        "a.npy", "a.npz", "a.h5", "a.safetensors", "a.fvecs", "a.parquet", "a.png", "a.pgm"
    ],
    "checkpoint": ["a.gguf"],
    "moments": ["a.safetensors"],
    "tokens": ["a.npy"],
    "text": ["a.txt"],
}  # fmt: skip


def _parts(folder: Path) -> Path:
    save(folder / "m", RowParts((small(0), small(1))), parts=True)
    return folder / "m"


def _table(folder: Path) -> Path:
    write_table(folder / "rows.jsonl", [{"a": 1}], attrs={"seed": 0})
    return folder


# What is sound, by its reader.
SOUND: dict[str, Maker] = {
    "folder": _parts,
    "model": lambda folder: network(folder, "model"),
    "checkpoint": lambda folder: network(folder, "checkpoint"),
    "table": _table,
    "job": lambda folder: make_jobs(folder)["job"],
    "moments job": lambda folder: make_jobs(folder)["moments job"],
}
_FILES = {
    "folder": ["manifest.json", "part-00000.h5"],
    "model": [
        "model.json", "config.json", "tokenizer.json", "kept.safetensors", "layers/00000.h5"
    ],
    "checkpoint": [
        "config.json", "tokenizer.json", "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
    ],
    "table": ["rows.jsonl", "rows.meta.json"],
    "job": [
        "job.json", "lock", "log.jsonl", "states-00001.npy", "training.safetensors",
        "moments.safetensors", "model/layers/00000.h5",
    ],
    "moments job": ["job.json", "lock", "done.json", "sums-0.bin", "sums-1.bin", "weights.bin"],
}  # fmt: skip
# The class of error of each kind: where a caller names the file, and in a folder, of which nothing
# is followed.
_NAMED: tuple[type[LplrError], ...] = (InputError, InputError, MissingFileError, FolderError)
_UNSAFE = (UnsafeFileError,) * 4
_ERRORS_OF_NAMES: dict[str, tuple[type[LplrError], ...]] = {
    "packed": (InputError, InputError, InputError, FolderError),
    "checkpoint": (*_NAMED[:3], MissingFileError),  # a folder may be one, whatever it is called
}
_ERRORS: dict[str, tuple[type[LplrError], ...]] = {
    "folder": _UNSAFE,
    "model": (*_UNSAFE[:3], CorruptFileError),
    "checkpoint": (MissingFileError, UnsafeFileError, UnsafeFileError, MissingFileError),
    "table": (InputError,) * 4,
    "job": _UNSAFE,
    "moments job": _UNSAFE,
}


def _replaced(make: Maker, name: str, kind: str) -> Maker:
    """What is made, with something else in the place of a file of it."""

    def made(folder: Path) -> Path:
        found = make(folder)
        (found / name).unlink(missing_ok=True)
        _KINDS[kind](found / name)
        return found

    return made


def _named(name: str, kind: str) -> Maker:
    def made(folder: Path) -> Path:
        _KINDS[kind](folder / name)
        return folder / name

    return made


def _all() -> Iterator[tuple[str, Hostile]]:
    for reader, names in _NAMES.items():
        errors = _ERRORS_OF_NAMES.get(reader, _NAMED)
        for name, (kind, error) in product(names, zip(_KINDS, errors, strict=True)):
            yield f"{reader}: {name} is a {kind}", Hostile(_named(name, kind), reader, error)
    for reader, names in _FILES.items():
        for name, (kind, error) in product(names, zip(_KINDS, _ERRORS[reader], strict=True)):
            make = _replaced(SOUND[reader], name, kind)
            yield f"{reader}: {name} is a {kind}", Hostile(make, reader, error)


PLACES = dict(_all())
