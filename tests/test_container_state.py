"""What the states of packed matrices may be, and files that hold no such state."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_objects import assert_same, quantized

from lplr.exceptions import CorruptFileError, InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.quantized import Quantized
from lplr.storage import encoding
from lplr.storage.container import inspect, load, save, verify
from lplr.storage.header import MAGIC


class Odd(PackedMatrix):
    """An artefact whose state is whatever the test says."""

    encoding = ("odd", 1)
    shape = (1, 1)

    def __init__(self, **state: object) -> None:
        self.state = state
        self.meta = state.pop("meta", {})

    def _state(self) -> dict[str, object]:
        return self.state


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> type[Odd]:
    monkeypatch.setitem(encoding.ENCODINGS, "odd", (__name__, "Odd"))
    return Odd


def test_every_kind_of_member(tmp_path: Path, odd: type[Odd]) -> None:
    arrays = {
        f"{kind}{size}": np.arange(6).reshape(2, 3).astype(f"{order}{kind}{size}")
        for kind, sizes in {"u": (1, 2, 4, 8), "i": (1, 2, 4, 8), "f": (2, 4, 8)}.items()
        for size in sizes
        for order in "<"
    }
    scalars = {
        "empty": "",
        "text": "a/b\n ü",
        "yes": True,
        "no": False,
        "low": -(2**63),
        "high": 2**63 - 1,
        "x": 0.1,
        "tiny": 5e-324,
    }
    special = {"none": np.zeros((0, 3)), "zero_d": np.array(2.5)}
    obj = odd(**arrays, **scalars, **special, child=odd(child=odd(a=1)))
    save(tmp_path / "x.h5", obj)
    assert_same(load(tmp_path / "x.h5"), obj)
    # Other layouts and byte orders are stored as the same values.
    turned = {k: np.asfortranarray(v.astype(v.dtype.newbyteorder(">"))) for k, v in arrays.items()}
    save(tmp_path / "y.h5", odd(**turned, **scalars, **special, child=odd(child=odd(a=1))))
    assert (tmp_path / "y.h5").read_bytes() == (tmp_path / "x.h5").read_bytes()


@pytest.mark.parametrize(
    "state",
    [
        {"x": 1j},
        {"x": float("inf")},
        {"x": np.array(["a"], object)},
        {"x": np.array(["a"])},
        {"x": np.zeros(2, bool)},
        {"x": np.zeros(2, complex)},
        {"a/b": 1},
        {"": 1},
        {"meta": {1, 2}},
        {"meta": {"x": float("nan")}},
        {"meta": {"x": object()}},
    ],
)
def test_state_that_the_format_does_not_hold(
    tmp_path: Path, odd: type[Odd], state: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="obj"):
        save(tmp_path / "x.h5", odd(**state))
    assert os.listdir(tmp_path) == []


def test_nesting_is_bounded(tmp_path: Path, odd: type[Odd]) -> None:
    obj = odd()
    for _ in range(16):
        obj = odd(child=obj)
    save(tmp_path / "x.h5", obj)
    assert_same(load(tmp_path / "x.h5"), obj)
    with pytest.raises(InputError, match="deep"):
        save(tmp_path / "y.h5", odd(child=obj))


@pytest.mark.parametrize("obj", [None, 3, "x", np.eye(2), Quantized])
def test_not_an_artefact(tmp_path: Path, obj: object) -> None:
    with pytest.raises(InputError, match="obj"):
        save(tmp_path / "x.h5", obj)


@pytest.mark.parametrize("attrs", [[1], "x", {"x": np.eye(2)}, {"x": float("inf")}])
def test_attrs_that_are_not_json(tmp_path: Path, attrs: object) -> None:
    with pytest.raises(InputError, match="attrs"):
        save(tmp_path / "x.h5", quantized(2, 2), attrs=attrs)


def test_encodings_of_the_future_are_refused(
    tmp_path: Path, odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    monkeypatch.setattr(odd, "encoding", ("odd", 2))
    save(path, odd())
    monkeypatch.setattr(odd, "encoding", ("odd", 1))
    with pytest.raises(CorruptFileError, match=r"version 2.*update"):
        load(path)
    monkeypatch.delitem(encoding.ENCODINGS, "odd")
    with pytest.raises(CorruptFileError, match=r"unknown.*update"):
        load(path)


def test_state_that_the_class_refuses_is_a_corrupt_file(
    tmp_path: Path, odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    q = quantized(3, 3)
    good = q._state()
    for bad in ({"bits": 9}, {"rows": 4}, {"scale": np.float64(1)}, {"quantizer": 5}, {"more": 1}):
        monkeypatch.setattr(odd, "encoding", ("quantized", 1))
        save(tmp_path / "x.h5", odd(**{**good, **bad}), overwrite=True)
        with pytest.raises(CorruptFileError):
            load(tmp_path / "x.h5")


def test_places_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is an InputError; where Python has an exception of its own, it is that one as well."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret.h5").touch()
    stat = os.stat

    def refuse(path: object, **options: Any) -> os.stat_result:  # to root all is readable
        if path == tmp_path / "secret.h5":
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    for name, python, code in (
        ("", IsADirectoryError, errno.EISDIR),
        ("missing.h5", FileNotFoundError, errno.ENOENT),
        ("secret.h5", PermissionError, errno.EACCES),
        ("pipe", InputError, None),
    ):
        for read in (load, inspect, verify):
            with pytest.raises(python, match="path") as caught:
                read(tmp_path / name)
            assert isinstance(caught.value, InputError)
            assert getattr(caught.value, "errno", None) == code
            assert getattr(caught.value, "filename", None) == (
                str(tmp_path / name) if code else None
            )


@pytest.mark.parametrize("content", [b"", b"x", b"\x89HDF\r\n\x1a\n" + bytes(2000), MAGIC])
def test_files_of_other_kinds(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError):
        load(path)
