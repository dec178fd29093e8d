r"""The format of a matrix in parts, version 1: a folder of packed files and a manifest.

The words MUST and MAY are meant as in RFC 2119.

**Parts.** Each part MUST be a file of its own, as `lplr.storage.container` describes it, that holds
one packed matrix without a name, some rows of the whole; it MUST be called ``part-`` followed by
5 to 18 digits and ``.h5``. What all parts need, such as the factor R, is in each of them: any
part can be loaded alone.

**Manifest.** ``manifest.json`` MUST be a JSON object in UTF-8 without NaN, infinities or an object
with two members of one name, with these members and no others: ``format``, the text ``lplr-parts``;
``version``, 1; ``columns``, an integer; ``meta``, an object about how the matrix was made;
``attrs``, an object of the caller; ``parts``, an array; and ``sha256``. The matrix is that of the
parts, above each other in the order of the array. An entry MUST be an object of ``file``, a name
that no other entry has; ``rows``, at least 1; ``nbytes``, what the packed matrix stores;
``sha256``, that of the payload of the file, in hexadecimal digits; and ``meta``, that of the packed
matrix. The ``sha256`` of the manifest is that of its other members as JSON text in ASCII with
sorted names and no spaces: a digest of the digests, which says that all parts are right. The
matrix MUST have fewer than 2**61 entries, and all parts fewer than 2**63 bytes.

**Writer.** A folder gets its name when it is complete. Parts are added under the lock of the file
``.lock``: they are written under numbers that no entry has, then the manifest is replaced. A part
that no entry names was left by a killed process; it is not part of the matrix, and the next writer
deletes it.

**Reader.** A reader MUST verify the manifest by its digest, and the header of each part by its
entry, before it says what the matrix is; a part before any of it is used. It MUST refuse a newer
version.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lplr.exceptions import CorruptFileError, InputError, MissingFileError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.row_parts import RowParts
from lplr.progress import parts as in_parts
from lplr.storage.atomic import write_atomic
from lplr.storage.header import payload_digest
from lplr.storage.names import check_regular
from lplr.storage.stored import read_stored
from lplr.storage.text import from_json, to_json

__all__ = ["MANIFEST", "Folder", "PartFile", "is_folder", "part_number"]

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "lplr-parts", 1
_LARGEST = 1 << 26  # bytes of a manifest
_MOST = 1 << 63  # bytes, of the dense matrix too
_NAME = re.compile(r"part-([0-9]{5,18})\.h5")
_T = TypeVar("_T")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENTRY = {"file": str, "rows": int, "nbytes": int, "sha256": str, "meta": dict}
_MEMBERS = {
    "format": str,
    "version": int,
    "columns": int,
    "meta": dict,
    "attrs": dict,
    "parts": list,
    "sha256": str,
}


def is_folder(path: Any) -> bool:
    """Whether there is a folder with a manifest of parts."""
    return isinstance(path, (str, os.PathLike)) and os.path.isfile(os.path.join(path, MANIFEST))


def part_number(name: str) -> int | None:
    """The number of a part by its name; None if it is no such name.

    >>> part_number("part-00012.h5"), part_number("manifest.json")
    (12, None)
    """
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class PartFile:
    """A part as a manifest describes it; `lplr.matrices.row_parts.Part`."""

    path: str
    shape: tuple[int, int]
    nbytes: int
    sha256: str
    meta: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, packed: PackedMatrix) -> PartFile:
        """The file of a packed matrix, which is there."""
        return cls(str(path), packed.shape, packed.nbytes, payload_digest(path), dict(packed.meta))

    def check(self) -> None:
        """CorruptFileError says that the file is missing, or by its header another one."""
        self._compare(self._present(payload_digest))

    def open(self) -> PackedMatrix:
        """The packed matrix, once all bytes of the file are verified."""
        stored = self._present(read_stored)
        self._compare(stored.sha256)
        packed = None if stored.names is not None else stored.decode()
        if not isinstance(packed, PackedMatrix) or isinstance(packed, RowParts):
            raise CorruptFileError(f"{self.path!r} does not hold one packed matrix")
        if (packed.shape, packed.nbytes) != (self.shape, self.nbytes):
            raise CorruptFileError(
                f"{self.path!r} holds {packed.shape} in {packed.nbytes} bytes, where the manifest "
                f"says {self.shape} in {self.nbytes}"
            )
        if to_json(packed.meta, "meta") != to_json(self.meta, "meta"):
            raise CorruptFileError(f"{self.path!r} has other metadata than the manifest says")
        return packed

    def _present(self, read: Callable[[str], _T]) -> _T:
        try:
            check_regular(self.path)
            return read(self.path)
        except MissingFileError as exc:
            raise CorruptFileError(f"{self.path!r} is missing: the matrix is incomplete") from exc

    def _compare(self, sha256: str) -> None:
        if sha256 != self.sha256:
            raise CorruptFileError(f"{self.path!r} is not the part that the manifest names")

    def _entry(self) -> dict[str, Any]:
        return {
            "file": os.path.basename(self.path),
            "rows": self.shape[0],
            "nbytes": self.nbytes,
            "sha256": self.sha256,
            "meta": self.meta,
        }


@dataclass(frozen=True)
class Folder:
    """What a manifest says."""

    path: Path
    columns: int
    parts: tuple[PartFile, ...]
    meta: Mapping[str, Any]
    attrs: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Folder:
        """The manifest of a folder, verified, as are the headers of its parts."""
        folder = Path(path)
        name = repr(str(folder / MANIFEST))
        found = _members(_text(folder / MANIFEST), name, _stored(folder))
        parts = tuple(_part(folder, entry, found["columns"], name) for entry in found["parts"])
        if len({part.path for part in parts}) < len(parts) or not parts:
            raise CorruptFileError(f"{name} names no part, or one twice")
        rows, nbytes = sum(p.shape[0] for p in parts), sum(p.nbytes for p in parts)
        if max(4 * rows * found["columns"], nbytes) >= _MOST:
            raise CorruptFileError(f"{name} has numbers that no matrix has")
        for part in parts:
            part.check()
        return cls(folder, found["columns"], parts, found["meta"], found["attrs"])

    def write(self, *, overwrite: bool = False) -> None:
        """Write the manifest: all of it or nothing."""
        record = {**self._record(), "sha256": self.sha256}
        write_atomic(self.path / MANIFEST, [to_json(record, "meta"), b"\n"], overwrite)

    def _record(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "columns": self.columns,
            "meta": dict(self.meta),
            "attrs": dict(self.attrs),
            "parts": [part._entry() for part in self.parts],
        }

    @property
    def sha256(self) -> str:
        """The digest of the digests."""
        return hashlib.sha256(to_json(self._record(), "meta")).hexdigest()

    def load(self) -> RowParts:
        """The matrix, whose parts are opened when they are needed."""
        return RowParts(self.parts, meta=self.meta)

    def verify(self) -> str:
        """Read and decode all parts, one by one; the digest of the digests."""
        for part in in_parts(self.parts, what="parts"):
            part.open()
        return self.sha256

    def describe(self) -> dict[str, Any]:
        """What `lplr.inspect` returns."""
        files = [part.path for part in self.parts] + [str(self.path / MANIFEST)]
        values = {"columns": self.columns}
        root = {
            "encoding": RowParts.encoding[0],
            "version": RowParts.encoding[1],
            "meta": dict(self.meta),
            "values": values,
            "datasets": {},
        }
        return {
            "format_version": _VERSION,
            "file_nbytes": sum(map(os.path.getsize, files)),
            "sha256": self.sha256,
            "attrs": dict(self.attrs),
            "groups": {"/": root},
            "parts": [part._entry() for part in self.parts],
        }


def _text(path: Path) -> bytes:
    check_regular(path)
    try:
        with open(path, "rb") as file:
            # What is asked for takes memory, whether it is there or not.
            text = file.read(min(os.fstat(file.fileno()).st_size, _LARGEST) + 1)
    except FileNotFoundError as exc:
        raise MissingFileError(
            f"path {str(path)!r}: no such file; a matrix in parts has a manifest", str(path)
        ) from exc
    except OSError as exc:
        raise InputError(f"path {str(path)!r} cannot be read: {exc.strerror}") from exc
    if len(text) > _LARGEST:
        raise CorruptFileError(f"{str(path)!r} is too large for a manifest")
    return text


def _stored(folder: Path) -> int:
    """Bytes of all files of a folder."""
    with os.scandir(folder) as entries:
        found = 0
        for entry in entries:
            with suppress(FileNotFoundError):  # a temporary file of one who appends meanwhile
                found += entry.stat(follow_symlinks=False).st_size
        return found


def _members(text: bytes, name: str, stored: int) -> dict[str, Any]:
    found = from_json(text, name, stored)
    if found.get("format") != _FORMAT:
        raise CorruptFileError(f"{name} is not the manifest of a matrix in parts")
    version = found.get("version")
    if type(version) is int and version > _VERSION:
        raise CorruptFileError(
            f"{name} has version {version}; this package reads {_VERSION}: update lplr, unless the "
            "file is damaged"
        )
    _check_types(found, _MEMBERS, name)
    digest = found.pop("sha256")
    if hashlib.sha256(to_json(found, name)).hexdigest() != digest:
        raise CorruptFileError(f"{name} is damaged: its SHA-256 is not that of what it says")
    if version != _VERSION or found["columns"] < 1:
        raise CorruptFileError(f"{name} has a version or columns below 1")
    return {**found, "sha256": digest}


def _part(folder: Path, entry: Any, columns: int, name: str) -> PartFile:
    if not isinstance(entry, dict):
        raise CorruptFileError(f"{name}: an entry is no JSON object")
    _check_types(entry, _ENTRY, name)
    if part_number(entry["file"]) is None or not _DIGEST.fullmatch(entry["sha256"]):
        raise CorruptFileError(
            f"{name}: {entry['file']!r} is no name of a part, or its digest none"
        )
    if entry["rows"] < 1 or entry["nbytes"] < 0:
        raise CorruptFileError(f"{name}: {entry['file']!r} has no rows, or a negative size")
    path, shape = str(folder / entry["file"]), (entry["rows"], columns)
    return PartFile(path, shape, entry["nbytes"], entry["sha256"], entry["meta"])


def _check_types(found: dict[str, Any], kinds: Mapping[str, type], name: str) -> None:
    if found.keys() != kinds.keys() or any(type(found[key]) is not kinds[key] for key in kinds):
        raise CorruptFileError(f"{name} has other members than the format names")
