"""Tables of contents, of files of version 2, that are nonsense, under a digest that is right."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lplr.exceptions import CorruptFileError, UnsafeFileError
from lplr.selftest.forge import forge_contents, small
from lplr.selftest.hostile_file import Hostile, Maker

__all__ = ["TABLES", "data", "table"]


def data() -> bytes:
    """The data of a file of two matrices."""
    return 2 * (small().codes.tobytes() + small().scale.tobytes())


def table() -> dict[str, Any]:
    """The contents of a file of two matrices."""
    group = {
        "encoding": "quantized",
        "version": 1,
        "meta": {"x": 1.5},
        "values": {"rows": 3, "columns": 4, "quantizer": "uniform", "bits": 2, "axis": 0},
        "arrays": {"codes": ["u1", [3]], "scale": ["f4", [1, 1]]},
    }
    return {"attrs": {"n": 1}, "objects": [["a/b", group], ["c", copy.deepcopy(group)]]}


def _with(*place: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """An edit of one member of the contents, by the keys that lead there."""

    def edit(found: Any) -> None:
        for key in place[:-1]:
            found = found[key]
        found[place[-1]] = to

    return edit


def _without(*place: Any) -> Callable[[dict[str, Any]], None]:
    def edit(found: Any) -> None:
        for key in place[:-1]:
            found = found[key]
        del found[place[-1]]

    return edit


_GROUP = ("objects", 0, 1)


def _nested(depth: int) -> dict[str, Any]:
    group: dict[str, Any] = {"encoding": "quantized", "version": 1}
    for _ in range(depth):
        group = {"encoding": "quantized", "version": 1, "groups": {"a": group}}
    return group


EDITS = {
    "one and many": _with("object", to=_nested(0)),
    "neither": _without("objects"),
    "another member": _with("more", to=1),
    "attributes that are a list": _with("attrs", to=[]),
    "objects that are no list": _with("objects", to={}),
    "an object without a name": _with("objects", 0, to=[{}]),
    "a name that is a number": _with("objects", 0, 0, to=1),
    "a name of half a letter": _with("objects", 0, 0, to="\ud800"),
    "a name twice": _with("objects", 0, 0, to="c"),
    "a group that is a list": _with(*_GROUP, to=[]),
    "a group with another member": _with(*_GROUP, "more", to=1),
    "no encoding": _without(*_GROUP, "encoding"),
    "unknown encoding": _with(*_GROUP, "encoding", to="no"),
    "encoding that is a list": _with(*_GROUP, "encoding", to=["quantized"]),
    "no version": _without(*_GROUP, "version"),
    "version zero": _with(*_GROUP, "version", to=0),
    "version that is true": _with(*_GROUP, "version", to=True),
    "later version": _with(*_GROUP, "version", to=99),
    "metadata that is a list": _with(*_GROUP, "meta", to=[]),
    "values that are null": _with(*_GROUP, "values", to=None),
    "a name that is not allowed": _with(*_GROUP, "values", "a/b", to=1),
    "a name of two members": _with(*_GROUP, "values", "codes", to=1),
    "a value that belongs elsewhere": _with(*_GROUP, "values", "meta", to={}),
    "a missing value": _without(*_GROUP, "values", "bits"),
    "a value of a wrong type": _with(*_GROUP, "values", "rows", to=[3]),
    "a value that is a list": _with(*_GROUP, "values", "quantizer", to=["uniform"]),
    "rows that are text": _with(*_GROUP, "values", "rows", to="3"),
    "rows of a fraction": _with(*_GROUP, "values", "rows", to=3.7),
    "an axis that is true": _with(*_GROUP, "values", "axis", to=True),
    "rows that wrap": _with(*_GROUP, "values", "rows", to=2**64 + 3),
    "huge rows": _with(*_GROUP, "values", "rows", to=2**62),
    "an array of an unknown type": _with(*_GROUP, "arrays", "codes", 0, to="O"),
    "an array of a wrong type": _with(*_GROUP, "arrays", "scale", 0, to="i4"),
    "an array without a shape": _with(*_GROUP, "arrays", "codes", to=["u1"]),
    "a shape that is a number": _with(*_GROUP, "arrays", "codes", 1, to=3),
    "a negative shape": _with(*_GROUP, "arrays", "codes", 1, to=[-1, -3]),
    "a shape of halves": _with(*_GROUP, "arrays", "codes", 1, to=[1.5, 2]),
    "a shape that wraps": _with(*_GROUP, "arrays", "codes", 1, to=[2**32, 2**32]),
    "a huge shape": _with(*_GROUP, "arrays", "codes", 1, to=[2**62]),
    "nothing of a huge shape": _with(*_GROUP, "arrays", "more", to=["u1", [0, 2**62, 2**62]]),
    "too many dimensions": _with(*_GROUP, "arrays", "codes", 1, to=[3, *[1] * 99]),
    "less data than is stored": _with(*_GROUP, "arrays", "codes", 1, to=[2]),
    "more data than is stored": _with(*_GROUP, "arrays", "codes", 1, to=[4]),
    "deep groups": _with(*_GROUP, to=_nested(17)),
    "NaN": _with("attrs", "n", to=float("nan")),
}


TEXTS = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "an infinity": b'{"attrs":{"x":1e999},"objects":[]}',
    "a member twice": b'{"attrs":{},"attrs":{},"objects":[]}',
    "too deep": b"[" * 100_000,
    "very deep groups": b'{"object":' + b'{"groups":{"a":' * 900 + b"{}" + b"}}" * 900 + b"}",
    "a number of too many digits": b'{"attrs":{"x":' + b"1" * 5000 + b'},"objects":[]}',
    "a text that grows a thousandfold": b'{"objects":[]}'.ljust(1_000_000),
}


STREAMS = {
    "no stream": lambda good: b"",
    "no stream of zlib": lambda good: b"x",
    "a stream that is cut": lambda good: good[:-1],
    "a stream and a byte": lambda good: good + b"\0",
    "two streams": lambda good: good + good,
}
# What takes far more memory than its text, and its text far more than the file.
SWOLLEN = {
    "empty lists": lambda: b"[" + b"[]," * 3_000_000 + b"1]",
    "empty objects": lambda: b"[" + b"{}," * 3_000_000 + b"1]",
    "lists in lists": lambda: b"[" + b"[[[1]]]," * 2_000_000 + b"1]",
    "numbers": lambda: b"[" + b"0.5," * 4_000_000 + b"1]",
    "texts": lambda: b"[" + b'"ab",' * 3_000_000 + b"1]",
    "a text of wide letters": lambda: (
        b'"' + b"a" * 12_000_000 + "\N{GRINNING FACE}".encode() + b'"'
    ),
    "names": lambda: b"{" + b",".join(b'"%x":1' % i for i in range(1_000_000)) + b"}",
}


_ONE = np.ones(1, np.float32).tobytes()


def _quantized(shape: tuple[int, int], quantizer: str, bits: int, nbytes: int) -> dict[str, Any]:
    """A matrix with one scale."""
    n, d = shape
    values = {"rows": n, "columns": d, "quantizer": quantizer, "bits": bits, "axis": 0}
    arrays = {"codes": ["u1", [nbytes]], "scale": ["f4", [1, 1]]}
    return {"encoding": "quantized", "version": 1, "values": values, "arrays": arrays}


def _stacked(blocks: list[Any], scales: int) -> dict[str, Any]:
    """Matrices of zeros, one column wide, above each other."""
    values = {"axis": 0, "across": 1, "blocks": blocks}
    arrays = {"codes": ["u1", [0]], "scale": ["f4", [scales]]}
    return {"encoding": "stacked", "version": 3, "values": values, "arrays": arrays}


def _zeros(rows: int) -> list[Any]:
    """What a stack says of a block of zeros."""
    return ["zero", 0, rows, 0, [1, 1], 0]


def _in_stacks(depth: int) -> Any:
    block: Any = _zeros(1)
    for i in range(depth):
        block = {"axis": i % 2, "across": 1, "blocks": [block]}
    return block


def _classifier(classes: list[str]) -> dict[str, Any]:
    """A fitted one of one row, which is of the first class."""
    texts = {"kind": "U", "items": classes}
    return {
        "encoding": "k-neighbors-classifier",
        "version": 1,
        "values": {"params": {}, "n_features_in": 1, "classes": texts},
        "arrays": {"labels": ["u1", [1]]},
        "groups": {"rows": _quantized((1, 1), "uniform", 8, 1)},
    }


# Few bytes that stand for much, or for nothing; the data are codes and scales.
LARGE = {
    "more zeros than are counted": (_quantized((2**40, 2**40), "zero", 0, 0), _ONE),
    "zeros of a size without end": (_quantized((10**400, 1), "zero", 0, 0), _ONE),
    "a stack whose rows wrap": (_stacked(4 * [_zeros(2**62)], 4), 4 * _ONE),
    "too many blocks": (_stacked(110_000 * [_zeros(1)], 110_000), 110_000 * _ONE),
    "stacks in stacks": (_stacked([_in_stacks(400)], 1000), 1000 * _ONE),
    "texts of the width of one": (_classifier(["b" * 5000, *5000 * ["a"]]), b"\0\0" + _ONE),
    "16 bits that are no number": (_quantized((1, 1), "uniform", 16, 2), b"\xff\x7f" + _ONE),
}


def _other_type(file: h5py.File) -> None:
    del file["data"]
    file["data"] = np.zeros(14, np.int8)


def _other_shape(file: h5py.File) -> None:
    del file["data"]
    file["data"] = np.zeros((2, 7), np.uint8)


EVIL: dict[str, Callable[[h5py.File], object]] = {
    "another group": lambda file: file.create_group("more"),
    "another dataset": lambda file: file.create_dataset("more", data=np.zeros(1, np.uint8)),
    "no data": lambda file: file.pop("data"),
    "no contents": lambda file: file.pop("contents"),
    "another attribute": lambda file: file.attrs.create("more", 1, dtype="<i8"),
    "another version": lambda file: file.attrs.create("encoding-version", 2, dtype="<i8"),
    "another encoding": lambda file: file.attrs.create("encoding-type", np.bytes_("zip")),
    "data of another type": _other_type,
    "data of another shape": _other_shape,
}


def _edited(edit: Callable[[dict[str, Any]], None]) -> Maker:
    def make(folder: Path) -> Path:
        found = table()
        edit(found)
        return forge_contents(folder, found, data())

    return make


def _swollen(text: Callable[[], bytes]) -> Maker:
    """The text as an attribute, with as much data as keeps it under the ratio of the format."""

    def make(folder: Path) -> Path:
        said = text()
        size = len(said) // 60
        group = {"encoding": "array", "version": 1, "arrays": {"data": ["u1", [size]]}}
        objects = json.dumps([["a", group]]).encode()
        contents = b'{"attrs":{"x":' + said + b'},"objects":' + objects + b"}"
        return forge_contents(folder, zlib.compress(contents), bytes(size))

    return make


def _compressed(text: bytes) -> Maker:
    return lambda folder: forge_contents(folder, zlib.compress(text, 9), b"")


def _streamed(change: Callable[[bytes], bytes]) -> Maker:
    good = zlib.compress(json.dumps(table()).encode())
    return lambda folder: forge_contents(folder, change(good), data())


def _alone(group: dict[str, Any], data: bytes) -> Maker:
    return lambda folder: forge_contents(folder, {"object": group}, data)


def _evil(evil: Callable[[h5py.File], object]) -> Maker:
    return lambda folder: forge_contents(folder, table(), data(), evil)


_SLOW = ["too many blocks", *(f"swollen: {k}" for k in SWOLLEN if k != "empty lists")]
_MAKERS = {
    **{name: _edited(edit) for name, edit in EDITS.items()},
    **{name: _compressed(text) for name, text in TEXTS.items()},
    **{name: _streamed(change) for name, change in STREAMS.items()},
    **{f"swollen: {name}": _swollen(text) for name, text in SWOLLEN.items()},
    **{name: _evil(evil) for name, evil in EVIL.items()},
    **{name: _alone(*found) for name, found in LARGE.items()},
}
TABLES = {
    name: Hostile(make, "packed", CorruptFileError, slow=name in _SLOW)
    for name, make in _MAKERS.items()
} | {
    "an external link": Hostile(
        _evil(lambda file: file.__setitem__("more", h5py.ExternalLink("x.h5", "/"))),
        "packed",
        UnsafeFileError,
    )
}
