"""The table of contents of a file: groups to JSON text and one run of bytes, and back."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.memory import LOADING, json_nbytes
from lplr.storage.encoding import Group
from lplr.storage.hdf5 import DTYPES, MAX_DEPTH, is_name
from lplr.storage.text import check_needed, from_json, to_json

__all__ = ["Objects", "from_contents", "to_contents"]

Objects = Group | dict[str, Group]  # one object, or many by name in their order

# Text that repeats itself is compressed a thousandfold, and who reads it needs that much memory for
# a small file. So there is a largest ratio of the text to all that is stored for it; what exceeds
# it, which is no list of matrices, is not made smaller by zlib.
_LARGEST_RATIO = 64

# Bytes that a list among the values of a group takes, at most, when the group is decoded, beside
# its text (measured): a stack lists its blocks, two lists each, and makes a matrix of each.
_LISTED = 320


def to_contents(objects: Objects, attrs: Mapping[str, Any]) -> tuple[bytes, list[memoryview]]:
    """The compressed table of contents, and the bytes of all arrays in its order."""
    arrays: list[memoryview] = []
    table: dict[str, Any] = {"attrs": attrs} if attrs else {}
    if isinstance(objects, Group):
        table["object"] = _describe(objects, arrays)
    else:
        table["objects"] = [[name, _describe(group, arrays)] for name, group in objects.items()]
    text = to_json(table, "obj")
    small = zlib.compress(text, 9)
    nbytes = sum(map(len, arrays))
    if len(text) > _LARGEST_RATIO * (len(small) + nbytes):
        small = zlib.compress(text, 0)
    needed = json_nbytes(text) + _listed(objects)
    if needed > LOADING + len(small) + nbytes:
        raise InputError(
            f"attrs: together with what is said of each object they take {needed} bytes of memory "
            "to read, more than the file would have and 64 MB; store numbers as arrays"
        )
    return small, arrays


def _listed(objects: Objects) -> int:
    """Bytes that decoding takes for what the values of all groups list."""
    if not isinstance(objects, Group):
        return sum(map(_listed, objects.values()))
    nbytes = 0
    pending: list[Any] = [objects.values]
    while pending:
        found = pending.pop()
        if not isinstance(found, dict):
            nbytes += _LISTED
        elif found.get("kind") == "U" and isinstance(found.get("items"), list):
            # Texts of a model, of which NumPy makes an array as wide as the longest.
            widths = [len(text) for text in found["items"] if isinstance(text, str)]
            nbytes += 4 * len(widths) * max(widths, default=0)
        inside = found.values() if isinstance(found, dict) else found
        pending += [value for value in inside if isinstance(value, (dict, list, tuple))]
    return nbytes + _listed(objects.groups)


def _describe(group: Group, arrays: list[memoryview]) -> dict[str, Any]:
    table: dict[str, Any] = {"encoding": group.encoding, "version": group.version}
    if group.meta:
        table["meta"] = group.meta
    if group.values:
        table["values"] = group.values
    for name, array in sorted(group.arrays.items()):
        dtype = array.dtype.newbyteorder("<")
        table.setdefault("arrays", {})[name] = [array.dtype.str[1:], list(array.shape)]
        arrays.append(np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data)
    for name, child in sorted(group.groups.items()):
        table.setdefault("groups", {})[name] = _describe(child, arrays)
    return table


def from_contents(
    small: np.ndarray, data: np.ndarray, whole: memoryview
) -> tuple[dict[str, Any], Objects]:
    """The caller's attributes and the objects; their arrays are views of the ``whole`` file.

    Of which the data may be moved by some bytes, over what has been read.
    """
    stored = small.size + data.size
    text = _inflate(small, stored)
    table = from_json(text, "its table of contents", stored)
    _only(table, {"attrs": dict, "object": dict, "objects": list})
    if ("object" in table) == ("objects" in table):
        raise CorruptFileError("its contents name no object, or one and many")
    reader = _Reader(_aligned(data, whole))
    if "object" in table:
        objects: Objects = reader.group(table["object"], 0)
    else:
        objects = dict(reader.named(table["objects"]))
        if len(objects) < len(table["objects"]):
            raise CorruptFileError("its contents use one name twice")
    if reader.position < data.size:
        raise CorruptFileError("it stores more data than its contents name")
    needed = json_nbytes(text) + _listed(objects)
    check_needed(needed, "what its contents list", max(stored, len(text)))
    return table.get("attrs", {}), objects


class _Reader:
    """One pass over the contents, which claim the data piece by piece and all of it."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.position = 0

    def named(self, entries: list[Any]) -> Iterator[tuple[str, Group]]:
        for entry in entries:
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
                raise CorruptFileError("an entry of its contents is not a name and an object")
            if any("\ud800" <= letter <= "\udfff" for letter in entry[0]):  # halves of letters
                raise CorruptFileError(f"the name {entry[0]!r} in its contents is not Unicode")
            yield entry[0], self.group(entry[1], 0)

    def group(self, found: Any, depth: int) -> Group:
        if depth > MAX_DEPTH:
            raise CorruptFileError(f"groups are nested deeper than {MAX_DEPTH}")
        kinds = {"encoding": str, "version": int}
        table = _only(found, kinds | dict.fromkeys(("meta", "values", "arrays", "groups"), dict))
        if not kinds.keys() <= table.keys() or table["version"] < 1:
            raise CorruptFileError("a group does not say how it is encoded")
        members = {kind: table.get(kind, {}) for kind in ("values", "arrays", "groups")}
        for name in (name for member in members.values() for name in member):
            if not is_name(name):
                raise CorruptFileError(f"{name!r} is not a name that the format allows")
        arrays = {name: self.array(name, a) for name, a in sorted(members["arrays"].items())}
        groups = {name: self.group(g, depth + 1) for name, g in sorted(members["groups"].items())}
        return Group(
            table["encoding"],
            table["version"],
            table.get("meta", {}),
            members["values"],
            arrays,
            groups,
        )

    def array(self, name: str, found: Any) -> np.ndarray:
        if not (isinstance(found, list) and len(found) == 2 and found[0] in DTYPES):
            raise CorruptFileError(f"array {name} has no type that the format allows")
        dtype, shape = np.dtype(f"<{found[0]}"), found[1]
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise CorruptFileError(f"array {name} has no shape")
        count = math.prod(shape)  # of Python integers: a declared shape must not wrap
        start, self.position = self.position, self.position + count * dtype.itemsize
        if self.position > self.data.size:
            raise CorruptFileError(f"array {name} declares more bytes than the file stores")
        try:
            flat = self.data[start : self.position].view(dtype)
            return flat.reshape(shape)
        except ValueError as exc:  # too many dimensions, or zero of too many entries
            raise CorruptFileError(f"array {name} has no possible shape: {exc}") from exc


def _aligned(data: np.ndarray, whole: memoryview) -> np.ndarray:
    """The data where numbers of 8 bytes may begin, so that most arrays need no copy."""
    if not data.size:  # it lies nowhere
        return data
    address = data.ctypes.data
    start = address - np.frombuffer(whole, np.uint8).ctypes.data
    to = start - address % 8
    if to < start:
        whole[to : to + data.size] = whole[start : start + data.size]
    return np.frombuffer(whole, np.uint8, data.size, to)


def _only(table: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The table, if it is one, has no other keys, and values of these types."""
    if not isinstance(table, dict):
        raise CorruptFileError("its contents are not a JSON object where one belongs")
    for key, value in table.items():
        if type(value) is not kinds.get(key):
            raise CorruptFileError(f"its contents have a wrong {key!r}")
    return table


def _inflate(small: np.ndarray, stored: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(small.data, max(1, _LARGEST_RATIO * stored))
    except zlib.error as exc:
        raise CorruptFileError(f"its contents are not what zlib compresses: {exc}") from exc
    if not inflate.eof or inflate.unused_data:
        raise CorruptFileError("its contents are cut off, followed by more, or far too large")
    return text
