"""``model.json``: what a folder of a compressed model holds, to the byte.

The text is a JSON object of two members: ``model``, the description, and ``sha256``, the digest of
its canonical text. Of each file of the folder it has the length and the SHA-256, so that a change
of any byte anywhere is found. It is written last: a folder without it is unfinished.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lplr.exceptions import CorruptFileError, InputError, MissingFileError, UnsafeFileError
from lplr.storage.atomic import write_atomic
from lplr.storage.digest import file_digest
from lplr.storage.text import from_json

__all__ = [
    "FORMAT",
    "MANIFEST",
    "as_text",
    "check_file",
    "files_of",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "model.json"
FORMAT = 1
_LARGEST = 1 << 28  # bytes of a manifest; one of a model of ten thousand layers has 4 MB
_TEMPORARY = re.compile(r"\.lplr-[0-9a-f]{32}\.tmp")  # never a result, see lplr.storage.atomic
_DIGEST = re.compile(r"[0-9a-f]{64}")
# What the description has beside its format and its files, and what it says of each tensor.
_MEMBERS = {
    "settings": dict, "versions": dict, "totals": dict,
    "layers": list, "embedding": list, "kept": list,
}  # fmt: skip
_PACKED = {
    "name": str, "file": str, "shape": list, "nbytes": int,
    "bits_per_entry": float, "rank": int, "code": str,
}  # fmt: skip
_KEPT = {"name": str, "dtype": str, "shape": list, "nbytes": int}
_MEASURED = {"relative_error": float, "predicted_kl": float}  # not of every layer
_MOST = 1 << 61  # entries and bytes of a tensor


def write_manifest(folder: Path, description: dict[str, Any], overwrite: bool = False) -> None:
    """Describe the folder as it is now, the files in it included."""
    files = {
        name: {"nbytes": os.path.getsize(folder / name), "sha256": file_digest(folder / name)}
        for name in sorted(files_of(folder))
        if name != MANIFEST
    }
    text = as_text({"format": FORMAT, **description, "files": files})
    write_atomic(folder / MANIFEST, [text], overwrite)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The description of a folder, once it is what it was, as far as names and lengths tell.

    MissingFileError says that there is none, CorruptFileError that the folder is not as described,
    and UnsafeFileError that it has a link or a name that leads out of it.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise MissingFileError(f"path: there is no folder {str(folder)!r}", str(folder))
    if not os.path.lexists(path):
        raise MissingFileError(
            f"path: {folder} has no {MANIFEST}: it is no compressed model, or one that is not "
            "finished",
            str(path),
        )
    found, text = _text(folder)
    model = from_json(text, str(path), sum(found.values())).get("model")
    if not isinstance(model, dict) or text != _as_written(model):
        raise CorruptFileError(f"{path}: is damaged: its SHA-256 is not that of its text")
    if type(model.get("format")) is not int or model["format"] != FORMAT:
        raise CorruptFileError(
            f"{path}: has the format {model.get('format')!r}; this package reads {FORMAT}: update "
            "lplr"
        )
    _compare(folder, _checked_files(path, model), found)
    _check_description(path, model)
    return model


def _text(folder: Path) -> tuple[dict[str, int], bytes]:
    """The files of a folder, and the text of its manifest."""
    path = folder / MANIFEST
    try:
        found = files_of(folder)
        if MANIFEST not in found:
            raise CorruptFileError(f"{path}: is a folder; the manifest is a file")
        if found[MANIFEST] > _LARGEST:
            raise CorruptFileError(f"{path}: has {found[MANIFEST]} bytes; a manifest has fewer")
        return found, path.read_bytes()
    except CorruptFileError:
        raise
    except OSError as error:
        raise InputError(f"path: {folder} cannot be read: {error.strerror}") from error


def check_file(folder: Path, name: str, manifest: dict[str, Any]) -> Path:
    """The path of a file, once its bytes are the ones that were written."""
    path = folder / name
    try:
        digest = file_digest(path)
    except OSError as error:
        raise CorruptFileError(f"{path}: cannot be read: {error.strerror}") from error
    if digest != manifest["files"][name]["sha256"]:
        raise CorruptFileError(f"{path}: is damaged: its SHA-256 is not that of {MANIFEST}")
    return path


def files_of(folder: Path) -> dict[str, int]:
    """The bytes of each file in a folder and its folders, by its path in it."""
    found = {}
    pending = [""]
    while pending:
        at = pending.pop()
        with os.scandir(folder / at) as entries:
            for entry in entries:
                name, status = at + entry.name, entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(f"{name}/")
                elif not stat.S_ISREG(status.st_mode):
                    raise UnsafeFileError(f"{folder}: {name!r} is a link or no regular file")
                elif not _TEMPORARY.fullmatch(entry.name):
                    found[name] = status.st_size
    return found


def as_text(model: dict[str, Any]) -> bytes:
    """The whole text of a manifest, equal for equal descriptions."""
    said = json.dumps(model, indent=1, allow_nan=False)
    digest = hashlib.sha256(said.encode()).hexdigest()
    return f'{{"sha256": "{digest}", "model": {said}}}\n'.encode()


def _as_written(model: dict[str, Any]) -> bytes:
    """As `as_text`; empty of what is nested deeper than Python writes with indents."""
    try:
        return as_text(model)
    except RecursionError:
        return b""


def _checked_files(path: Path, model: dict[str, Any]) -> dict[str, int]:
    """The bytes of each file, if the description has them in order."""
    files = model.get("files")
    if not isinstance(files, dict):
        raise CorruptFileError(f"{path}: does not say which files there are")
    for name, facts in files.items():
        parts = PurePosixPath(name).parts
        if str(PurePosixPath(name)) != name or ".." in parts or "\\" in name or name[0] == "/":
            raise UnsafeFileError(f"{path}: {name!r} leads out of the folder")
        known = isinstance(facts, dict) and facts.keys() == {"nbytes", "sha256"}
        if not known or type(facts["nbytes"]) is not int:
            raise CorruptFileError(f"{path}: does not say how long {name!r} is")
        if not (isinstance(facts["sha256"], str) and _DIGEST.fullmatch(facts["sha256"])):
            raise CorruptFileError(f"{path}: has no SHA-256 of {name!r}")
    return {name: facts["nbytes"] for name, facts in files.items()}


def _check_description(path: Path, model: dict[str, Any]) -> None:
    """Refuse members that are missing or of another type; what records say may be anything."""
    _check_members(path, "the description", model, _MEMBERS)
    for place in ("layers", "embedding", "kept"):
        for entry in model[place]:
            if not isinstance(entry, dict):
                raise CorruptFileError(f"{path}: an entry of {place} is no object")
            measured = {key: kind for key, kind in _MEASURED.items() if key in entry}
            kinds = _KEPT if place == "kept" else _PACKED | measured
            _check_members(path, f"an entry of {place}", entry, kinds)
            sizes = [entry["nbytes"], entry["rank"] if "rank" in kinds else 0, *entry["shape"]]
            known = all(type(n) is int and n >= 0 for n in sizes)
            if not known or max(*sizes, math.prod(entry["shape"])) >= _MOST:
                raise CorruptFileError(f"{path}: {entry['name']!r} has a size that is none")


def _check_members(path: Path, what: str, found: dict[str, Any], kinds: Mapping[str, type]) -> None:
    for key, kind in kinds.items():
        if type(found.get(key)) is not kind:
            raise CorruptFileError(f"{path}: {what} has no {key!r}, or one of another type")


def _compare(folder: Path, described: dict[str, int], found: dict[str, int]) -> None:
    """Refuse files that are missing, too many, or of another length."""
    for name in sorted(described.keys() - found.keys()):
        raise CorruptFileError(f"{folder / name}: is missing; {MANIFEST} lists it")
    for name in sorted(found.keys() - described.keys() - {MANIFEST}):
        raise CorruptFileError(
            f"{folder / name}: does not belong to the model, whose files {MANIFEST} lists; move it "
            "out of the folder"
        )
    for name, nbytes in described.items():
        if found[name] != nbytes:
            raise CorruptFileError(f"{folder / name}: has {found[name]} bytes in place of {nbytes}")
