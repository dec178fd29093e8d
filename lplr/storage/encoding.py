"""Objects to groups and back: what a file says of each.

An object gives its state (numbers, text, other JSON, arrays, packed matrices) and is made again
from it. This module knows each class only by the name of its encoding. An array that lies beside
packed matrices, the bias of a layer for instance, is kept as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.storage.hdf5 import DTYPES, MAX_DEPTH, is_name
from lplr.storage.text import to_json

__all__ = ["ENCODINGS", "Group", "decode", "encode", "encode_array", "summarise"]

# encoding -> where its class lives; imported when a file asks for it.
ENCODINGS = {
    "quantized": ("lplr.matrices.quantized", "Quantized"),
    "stacked": ("lplr.matrices.stacked", "Stacked"),
    "low-rank": ("lplr.matrices.low_rank", "LowRank"),
    "q-plus-low-rank": ("lplr.matrices.q_plus_low_rank", "QPlusLowRank"),
    "row-parts": ("lplr.matrices.row_parts", "RowParts"),
    # Models lie above packed matrices, whose storage knows them by their public names.
    "lplr-model": ("lplr", "LPLR"),
    "k-neighbors-classifier": ("lplr", "KNeighborsClassifier"),
}


_ARRAY = "array"  # the encoding of an array that is kept as it is
_MOST = 1 << 61  # entries of a matrix: dense, its bytes are counted in 63 bits


@dataclass(frozen=True)
class Group:
    """An object as a file holds it: how it is encoded, how it was made, and its state by name."""

    encoding: str
    version: int
    meta: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)  # as JSON
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)


def encode(obj: Any, name: str, depth: int = 0) -> Group:
    """The group of an object; ``name`` is what errors call it."""
    kind, version = getattr(type(obj), "encoding", ("", 0))
    if kind not in ENCODINGS:
        raise InputError(
            f"{name} must be a packed matrix or a model of lplr, or a dict of such, "
            f"not {type(obj).__name__}"
        )
    if depth > MAX_DEPTH:
        raise InputError(f"{name} is nested deeper than {MAX_DEPTH}")
    to_json(obj.meta, f"{name}.meta")
    group = Group(kind, getattr(obj, "_version", version), dict(obj.meta))
    for key, value in obj._state().items():
        where = f"{name}.{key}"
        if not is_name(key):
            raise InputError(f"{where}: the format does not allow this name")
        if isinstance(value, np.ndarray):
            if value.dtype.newbyteorder("=").str[1:] not in DTYPES:
                raise InputError(f"{where}: the format does not hold arrays of {value.dtype}")
            group.arrays[key] = value
        elif hasattr(type(value), "encoding"):
            group.groups[key] = encode(value, where, depth + 1)
        else:
            group.values[key] = value.item() if isinstance(value, np.generic) else value
    to_json(group.values, f"the state of {name}")
    return group


def encode_array(array: np.ndarray, name: str) -> Group:
    """The group of an array of numbers or of truth values; ``name`` is what errors call it."""
    if array.dtype == bool:
        return Group(_ARRAY, 1, values={"bool": True}, arrays={"data": array.view(np.uint8)})
    if array.dtype.newbyteorder("=").str[1:] not in DTYPES:
        raise InputError(f"{name}: the format does not hold arrays of {array.dtype}")
    return Group(_ARRAY, 1, arrays={"data": array})


def _decode_array(group: Group, own: bool) -> np.ndarray:
    if group.version > 1:
        raise CorruptFileError("an array has a newer encoding than this package; update lplr")
    if group.arrays.keys() != {"data"} or group.groups or group.values not in ({}, {"bool": True}):
        raise CorruptFileError("an array has other members than its data")
    native = _native(group.arrays["data"], own)
    return native != 0 if group.values else native


def _native(array: np.ndarray, own: bool) -> np.ndarray:
    """An array as computations need it: itself if it is so, unless it shall be a copy."""
    if own or not (array.dtype.isnative and array.flags.aligned):
        return np.array(array, array.dtype.newbyteorder("="))
    return array


def decode(group: Group, *, own: bool) -> Any:
    """The object of a group; with ``own`` no array shares the bytes of the file.

    Without, all do that are aligned: bytes, which are the codes and so nearly everything, always.
    """
    if group.encoding == _ARRAY:
        return _decode_array(group, own)
    if group.encoding not in ENCODINGS:
        raise CorruptFileError(
            f"encoding {group.encoding!r} is unknown to this version; update lplr"
        )
    module, name = ENCODINGS[group.encoding]
    cls = getattr(import_module(module), name)
    if group.version > cls.encoding[1]:
        raise CorruptFileError(
            f"encoding {group.encoding!r} has version {group.version}; this package reads "
            f"{cls.encoding[1]}: update lplr"
        )
    names = [*group.values, *group.arrays, *group.groups]
    if len(set(names)) < len(names) or "meta" in names:
        raise CorruptFileError("a group uses one name twice")
    arrays = {key: _native(a, own) for key, a in group.arrays.items()}
    for array in arrays.values():  # packed matrices keep what nobody can write to
        array.setflags(write=False)
    try:
        children = {key: decode(child, own=own) for key, child in group.groups.items()}
        found = cls._from_state({**group.values, **arrays, **children, "meta": group.meta})
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
    ) as exc:  # fmt: skip
        # If members or their types are wrong, the class raises one of these.
        raise CorruptFileError(f"a group is not a valid {group.encoding!r}: {exc}") from exc
    if math.prod(getattr(found, "shape", ())) >= _MOST:  # few bytes may stand for many zeros
        raise CorruptFileError("a matrix has more entries than 64 bits can count")
    return found


def summarise(root: Group) -> dict[str, dict[str, Any]]:
    """What a group and each group in it holds, as JSON can express it, by its path from "/"."""
    found: dict[str, dict[str, Any]] = {}
    pending = [("/", root)]
    while pending:
        path, group = pending.pop(0)
        found[path] = {
            "encoding": group.encoding,
            "version": group.version,
            "meta": group.meta,
            "values": group.values,
            "datasets": {
                key: {"dtype": a.dtype.name, "shape": list(a.shape), "nbytes": a.nbytes}
                for key, a in group.arrays.items()
            },
        }
        pending += [(f"{path.rstrip('/')}/{key}", child) for key, child in group.groups.items()]
    return found
