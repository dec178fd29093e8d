"""Files of format version 1, which is read for ever: one packed matrix, a group of HDF5 each part.

The root group and every group in it is one object. It carries the attributes ``encoding-type`` and
``encoding-version``, and may carry ``meta``, a JSON object about how it was made. Its scalars are
attributes, its arrays datasets and its packed matrices groups. The root group may carry ``attrs``,
a JSON object of the caller. No group has more than 64 attributes, or members. Text attributes are
of fixed length, null-padded, in UTF-8.
"""

from __future__ import annotations

from typing import Any

from lplr.exceptions import CorruptFileError
from lplr.memory import json_nbytes
from lplr.storage.encoding import Group
from lplr.storage.hdf5 import Node
from lplr.storage.text import check_needed, from_json

__all__ = ["from_tree"]

_RESERVED = ("encoding-type", "encoding-version", "meta", "attrs")


def from_tree(root: Node, stored: int) -> tuple[dict[str, Any], Group]:
    """The caller's attributes and the object of a file of ``stored`` bytes."""
    check_needed(_needed(root), "its metadata", stored)
    return _json(root, "attrs"), _group(root)


def _needed(node: Node) -> int:
    """Bytes that all JSON texts of a group take."""
    texts = (node.attributes.get(key) for key in _RESERVED[2:])
    own = sum(json_nbytes(text) for text in texts if isinstance(text, bytes))
    return own + sum(map(_needed, node.groups.values()))


def _group(node: Node) -> Group:
    kind, version = (node.attributes.get(k) for k in _RESERVED[:2])
    if not isinstance(kind, bytes) or type(version) is not int or version < 1:
        raise CorruptFileError("a group does not say how it is encoded")
    if kind == b"table":
        raise CorruptFileError("it is a table of results of lplr 0.1, which is no longer read")
    try:
        values = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in node.attributes.items()
            if key not in _RESERVED
        }
    except UnicodeDecodeError as exc:
        raise CorruptFileError(f"a string attribute is not UTF-8: {exc}") from exc
    children = {key: _group(child) for key, child in node.groups.items()}
    encoding = kind.decode("ascii", "backslashreplace")
    return Group(encoding, version, _json(node, "meta"), values, node.arrays, children)


def _json(node: Node, key: str) -> dict[str, Any]:
    text = node.attributes.get(key, b"{}")
    if not isinstance(text, bytes):
        raise CorruptFileError(f"{key} is not text")
    return from_json(text, key)
