"""Packed matrices to trees and back: what the members of a group mean.

A packed matrix gives its state (numbers, strings, booleans, arrays, other packed matrices) and is
made again from it. This module knows each class only by the name of its encoding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.matrices.base import PackedMatrix
from lplr.storage.hdf5 import DTYPES, MAX_DEPTH, Node, Scalar, is_name

__all__ = ["decode", "encode", "from_json", "summarise", "to_json"]

_RESERVED = ("encoding-type", "encoding-version", "meta", "attrs")

# encoding-type -> where its class lives; imported when a file asks for it.
_ENCODINGS = {
    "quantized": ("lplr.matrices.quantized", "Quantized"),
    "stacked": ("lplr.matrices.stacked", "Stacked"),
    "low-rank": ("lplr.matrices.low_rank", "LowRank"),
    "q-plus-low-rank": ("lplr.matrices.q_plus_low_rank", "QPlusLowRank"),
}


def encode(obj: Any, name: str, depth: int = 0) -> Node:
    """The tree of a packed matrix; ``name`` is what errors call it."""
    if not isinstance(obj, PackedMatrix):
        raise InputError(f"{name} must be a packed matrix of lplr, not {type(obj).__name__}")
    if depth > MAX_DEPTH:
        raise InputError(f"{name} is nested deeper than {MAX_DEPTH}")
    kind, version = obj.encoding
    node = Node({"encoding-type": kind.encode(), "encoding-version": version})
    if obj.meta:
        node.attributes["meta"] = to_json(obj.meta, f"{name}.meta")
    for key, value in obj._state().items():
        where = f"{name}.{key}"
        if not is_name(key) or key in _RESERVED:
            raise InputError(f"{where}: the format does not allow this name")
        if isinstance(value, np.ndarray):
            if value.dtype.newbyteorder("=").str[1:] not in DTYPES:
                raise InputError(f"{where}: the format does not hold arrays of {value.dtype}")
            node.arrays[key] = value
        elif isinstance(value, PackedMatrix):
            node.groups[key] = encode(value, where, depth + 1)
        else:
            node.attributes[key] = _scalar(value, where)
    return node


def _scalar(value: Any, where: str) -> Scalar:
    if isinstance(value, str) and "\0" not in value:
        try:
            return value.encode()
        except UnicodeEncodeError as exc:
            raise InputError(f"{where} is not valid text: {exc}") from exc
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)) and -(2**63) <= int(value) < 2**63:
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    raise InputError(f"{where}: the format does not hold {value!r}")


def to_json(value: Any, where: str) -> bytes:
    """A mapping as JSON text, equal for equal mappings; InputError names ``where``."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a dict, not {type(value).__name__}")
    try:
        text = json.dumps(dict(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"{where} must hold what JSON can express, numbers finite: {exc}") from exc
    return text.encode("ascii")


def from_json(node: Node, key: str) -> dict[str, Any]:
    """The dict in the JSON attribute ``key`` of a group; empty if there is none."""
    text = node.attributes.get(key, b"{}")
    if not isinstance(text, bytes):
        raise CorruptFileError(f"{key} is not text")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise CorruptFileError(f"{key} is not valid JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise CorruptFileError(f"{key} is not a JSON object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _encoding(node: Node) -> tuple[str, int]:
    kind, version = (node.attributes.get(k) for k in _RESERVED[:2])
    if not isinstance(kind, bytes) or type(version) is not int or version < 1:
        raise CorruptFileError("a group does not say how it is encoded")
    return kind.decode("ascii", "backslashreplace"), version


def decode(node: Node) -> Any:
    """The packed matrix of a tree; arrays are copied, so that they do not hold the whole file."""
    kind, version = _encoding(node)
    if kind not in _ENCODINGS:
        raise CorruptFileError(f"encoding {kind!r} is unknown to this version; update lplr")
    module, name = _ENCODINGS[kind]
    cls = getattr(import_module(module), name)
    if version > cls.encoding[1]:
        raise CorruptFileError(
            f"encoding {kind!r} has version {version}; this package reads {cls.encoding[1]}: "
            "update lplr"
        )
    names = [*node.attributes, *node.arrays, *node.groups]
    if len(set(names)) < len(names):
        raise CorruptFileError("a group uses one name twice")
    try:
        state: dict[str, Any] = _values(node)
        state |= {key: np.array(a, a.dtype.newbyteorder("=")) for key, a in node.arrays.items()}
        state |= {key: decode(child) for key, child in node.groups.items()}
        return cls._from_state({**state, "meta": from_json(node, "meta")})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        # If members or their types are wrong, the class raises one of these.
        raise CorruptFileError(f"a group is not a valid {kind!r}: {exc}") from exc


def summarise(root: Node) -> dict[str, dict[str, Any]]:
    """What each group of a tree holds, as JSON can express it, by its path from "/"."""
    groups: dict[str, dict[str, Any]] = {}
    pending = [("/", root)]
    while pending:
        path, node = pending.pop(0)
        kind, version = _encoding(node)
        groups[path] = {
            "encoding": kind,
            "version": version,
            "meta": from_json(node, "meta"),
            "values": _values(node),
            "datasets": {
                key: {"dtype": a.dtype.name, "shape": list(a.shape), "nbytes": a.nbytes}
                for key, a in node.arrays.items()
            },
        }
        pending += [(f"{path.rstrip('/')}/{key}", child) for key, child in node.groups.items()]
    return groups


def _values(node: Node) -> dict[str, str | bool | int | float]:
    """The scalars of a group, text decoded, without what the format itself reserves."""
    try:
        return {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in node.attributes.items()
            if key not in _RESERVED
        }
    except UnicodeDecodeError as exc:
        raise CorruptFileError(f"a string attribute is not UTF-8: {exc}") from exc
