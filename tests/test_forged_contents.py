"""Forged tables of contents, under a digest that is right: nonsense is refused."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, UnsafeFileError
from lplr.selftest.forge import forge_contents, small
from lplr.storage.container import inspect, load, save, verify

DATA = small().codes.tobytes() + small().scale.tobytes()


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


def test_a_forged_file_without_evil_loads(tmp_path: Path) -> None:
    path = forge_contents(tmp_path, table(), 2 * DATA)
    for found in (*load(path).values(), load(path, name="c")):
        np.testing.assert_array_equal(found.to_dense(), small().to_dense())


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


def _refused(path: Path, error: type[Exception] = CorruptFileError) -> None:
    for read in (load, verify):
        with pytest.raises(error) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EDITS)
def test_nonsense_is_corrupt(tmp_path: Path, name: str) -> None:
    found = table()
    EDITS[name](found)
    _refused(forge_contents(tmp_path, found, 2 * DATA))


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


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_no_contents(tmp_path: Path, name: str) -> None:
    _refused(forge_contents(tmp_path, zlib.compress(TEXTS[name], 9), b""))


def test_streams_that_zlib_did_not_make(tmp_path: Path) -> None:
    good = zlib.compress(json.dumps(table()).encode())
    for wrong in (b"", b"x", good[:-1], good + b"\0", good + good):
        _refused(forge_contents(tmp_path, wrong, 2 * DATA))


def _other_type(file: h5py.File) -> None:
    del file["data"]
    file["data"] = np.zeros(14, np.int8)


def _other_shape(file: h5py.File) -> None:
    del file["data"]
    file["data"] = np.zeros((2, 7), np.uint8)


@pytest.mark.parametrize(
    ("evil", "error"),
    [
        (lambda file: file.create_group("more"), CorruptFileError),
        (lambda file: file.create_dataset("more", data=np.zeros(1, np.uint8)), CorruptFileError),
        (lambda file: file.pop("data"), CorruptFileError),
        (lambda file: file.pop("contents"), CorruptFileError),
        (lambda file: file.attrs.create("more", 1, dtype="<i8"), CorruptFileError),
        (lambda file: file.attrs.create("encoding-version", 2, dtype="<i8"), CorruptFileError),
        (lambda file: file.attrs.create("encoding-type", np.bytes_("zip")), CorruptFileError),
        (_other_type, CorruptFileError),
        (_other_shape, CorruptFileError),
        (lambda file: file.__setitem__("more", h5py.ExternalLink("x.h5", "/")), UnsafeFileError),
    ],
)
def test_other_members_of_the_root_group(
    tmp_path: Path, evil: Callable[[h5py.File], object], error: type[Exception]
) -> None:
    _refused(forge_contents(tmp_path, table(), 2 * DATA, evil), error)


def test_text_that_repeats_itself(tmp_path: Path) -> None:
    """A list of many like objects is small; other text is not made so, or it would be a trap."""
    path = tmp_path / "x.h5"
    many = {f"layer.{i}": small() for i in range(1000)}
    save(path, many)
    assert path.stat().st_size < 30_000
    assert list(load(path)) == list(many)
    attrs = {"x": "x" * 1_000_000}
    save(path, small(), attrs=attrs, overwrite=True)
    assert path.stat().st_size > 1_000_000
    assert inspect(path)["attrs"] == attrs
