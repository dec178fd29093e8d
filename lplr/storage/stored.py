"""What a verified file holds, of any format version, before and after it is decoded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.memory import LOADING
from lplr.storage.contents import Objects, from_contents, to_contents
from lplr.storage.encoding import Group, decode, summarise
from lplr.storage.hdf5 import Node, from_file, to_image
from lplr.storage.header import HEADER_NBYTES, digest_of, read_file, version_of, write_file
from lplr.storage.version1 import from_tree

__all__ = ["Stored", "read_stored", "write_stored"]

# The attributes of the root group.
_ROOT: dict[str, bytes | int] = {"encoding-type": b"json+zlib", "encoding-version": 1}


@dataclass(frozen=True)
class Stored:
    """The attributes of a file and its objects, whose arrays are views of its bytes."""

    path: str
    version: int
    nbytes: int
    sha256: str
    attrs: dict[str, Any]
    objects: Objects

    @property
    def names(self) -> list[str] | None:
        """Of the objects; None for a file of one without a name."""
        return None if isinstance(self.objects, Group) else list(self.objects)

    def group(self, name: str | None = None) -> Group:
        """The only object, or the one of that name; InputError if there is no such."""
        if isinstance(self.objects, Group):
            if name is not None:
                raise InputError(
                    f"name: {self.path!r} holds one matrix without a name; leave {name!r} out"
                )
            return self.objects
        if name not in self.objects:
            found = f"name: {name!r} is not in {self.path!r}" + _near(name, self.objects)
            raise InputError(found)
        return self.objects[name]

    def decode(self, name: str | None = None, *, own: bool = False) -> Any:
        """The object of a name, or what was saved; see `lplr.storage.encoding.decode`.

        A large one shares the bytes of the file all the same: a copy would take as many again.
        """
        try:
            if name is None and not isinstance(self.objects, Group):
                return {key: decode(group, own=own) for key, group in self.objects.items()}
            one = self.group(name)
            return decode(one, own=own and _nbytes(one) <= LOADING // 2)
        except CorruptFileError as exc:
            raise type(exc)(f"{self.path!r}: {exc}") from exc

    def describe(self) -> dict[str, Any]:
        """What `lplr.inspect` returns."""
        found: dict[str, Any]
        if isinstance(self.objects, Group):
            found = {"groups": summarise(self.objects)}
        else:
            found = {"objects": {name: summarise(group) for name, group in self.objects.items()}}
        return {
            "format_version": self.version,
            "file_nbytes": self.nbytes,
            "sha256": self.sha256,
            "attrs": self.attrs,
            **found,
        }


def read_stored(path: str | os.PathLike[str]) -> Stored:
    """Read and verify a file; errors as `lplr.load`."""
    data = read_file(path)
    version = version_of(data)
    objects: Objects
    try:
        root = from_file(data, HEADER_NBYTES)
        if version == 1:
            attrs, objects = from_tree(root, len(data))
        else:
            attrs, objects = from_contents(*_two_arrays(root), data)
    except CorruptFileError as exc:
        raise type(exc)(f"{str(path)!r}: {exc}") from exc
    return Stored(str(path), version, len(data), digest_of(data).hex(), attrs, objects)


def write_stored(
    path: str | os.PathLike[str], objects: Objects, attrs: Mapping[str, Any], overwrite: bool
) -> None:
    """Write objects to a file; errors as `lplr.save`."""
    contents, arrays = to_contents(objects, attrs)
    nbytes = sum(len(array) for array in arrays)
    before, after = to_image(_ROOT, contents, nbytes, HEADER_NBYTES)
    write_file(path, [before, *arrays, after], overwrite)


def _two_arrays(root: Node) -> tuple[np.ndarray, np.ndarray]:
    """The contents and the data of a file of version 2."""
    flat = all(a.dtype == np.uint8 and a.ndim == 1 for a in root.arrays.values())
    if root.attributes != _ROOT or root.groups or not flat:
        raise CorruptFileError("its root group is not one of contents and data")
    if root.arrays.keys() != {"contents", "data"}:
        raise CorruptFileError("it has no contents or no data, or more than both")
    return root.arrays["contents"], root.arrays["data"]


def _nbytes(group: Group) -> int:
    """Bytes of all arrays."""
    inside = sum(map(_nbytes, group.groups.values()))
    return sum(array.nbytes for array in group.arrays.values()) + inside


def _near(name: Any, objects: Mapping[str, Any]) -> str:
    """Names that one may have meant."""
    near = get_close_matches(str(name), objects, n=3) or list(objects)[:3]
    more = " and others" if len(near) < len(objects) else ""
    return f"; it has {', '.join(map(repr, near)) or 'nothing'}{more}"
