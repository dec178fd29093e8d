"""The file format: what goes in comes out, and equal objects give equal bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lplr
from lplr.exceptions import CorruptFileError, InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.quantizers.packing import pack
from lplr.storage import encoding, header
from lplr.storage.container import inspect, load, save, verify
from lplr.storage.header import FORMAT_VERSION, MAGIC


def quantized(n: int, d: int, bits: int = 3, seed: int = 0, **fields: object) -> Quantized:
    rng = np.random.default_rng(seed)
    codes = pack(rng.integers(0, 2**bits, (n, d)), bits)
    scale = rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
    return Quantized((n, d), "uniform", bits, codes, scale, **fields)


def low_rank(**fields: object) -> LowRank:
    meta = {"rng": 7, "note": 'layer "up/0" ünïcode', "history": [1.0, 0.5]}
    return LowRank(quantized(9, 4), quantized(4, 7, seed=1), meta=meta, **fields)


def assert_same(a: PackedMatrix, b: PackedMatrix) -> None:
    """Equal class, encoding, metadata and state, down to the bits of every array."""
    assert type(a) is type(b)
    assert dict(a.meta) == dict(b.meta)
    x, y = a._state(), b._state()
    assert x.keys() == y.keys()
    for key, value in x.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == y[key].dtype
            assert value.shape == y[key].shape
            assert value.tobytes() == y[key].tobytes()
        elif isinstance(value, PackedMatrix):
            assert_same(value, y[key])
        else:
            assert (type(value), value) == (type(y[key]), y[key])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 20), d=st.integers(1, 20), bits=st.integers(1, 8), offset=st.booleans())
def test_round_trip(tmp_path: Path, n: int, d: int, bits: int, offset: bool) -> None:
    extra = {"offset": np.full((1, 1), -0.25, np.float32)} if offset else {}
    obj = quantized(n, d, bits, **extra)
    save(tmp_path / "x.h5", obj, overwrite=True)
    assert_same(load(tmp_path / "x.h5"), obj)


def test_round_trip_of_nested_objects_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    obj = low_rank(shift=-0.125)
    save(path, obj)
    back = load(path)
    assert_same(back, obj)
    np.testing.assert_array_equal(back.to_dense(), obj.to_dense())
    assert not back.left.codes.flags.owndata  # the bytes of the file, not a copy
    assert back.left.scale.flags.aligned


def test_header_and_payload_are_what_the_specification_says(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    save(path, low_rank())
    data = path.read_bytes()
    assert data[:8] == MAGIC == bytes.fromhex("934c504c520d0a1a")
    assert int.from_bytes(data[8:12], "little") == FORMAT_VERSION == 2
    assert int.from_bytes(data[12:20], "little") == len(data) - 512
    assert data[20:52] == hashlib.sha256(data[512:]).digest()
    assert not any(data[52:512])
    assert data[512:520] == b"\x89HDF\r\n\x1a\n"


def test_plain_h5py_opens_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    obj = low_rank()
    save(path, obj, attrs={"layer": "0/up"})
    with h5py.File(path, "r") as file:
        assert file.userblock_size == 512
        assert dict(file.attrs) == {"encoding-type": b"json+zlib", "encoding-version": 1}
        assert sorted(file) == ["contents", "data"]
        assert file["data"].id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        contents, data = json.loads(zlib.decompress(file["contents"][:])), file["data"][:]
    assert contents["attrs"] == {"layer": "0/up"}
    assert contents["object"]["meta"] == dict(obj.meta)
    left = contents["object"]["groups"]["left"]
    assert left["arrays"] == {"codes": ["u1", [14]], "scale": ["f4", [9, 1]]}
    np.testing.assert_array_equal(data[:14], obj.left.codes)
    np.testing.assert_array_equal(data[14:50].view("<f4"), obj.left.scale[:, 0])


def test_same_object_same_bytes_in_any_process(tmp_path: Path) -> None:
    here, there = tmp_path / "here.h5", tmp_path / "there.h5"
    save(here, low_rank(), attrs={"b": 1, "a": 2})
    code = (
        "import sys; from tests.test_container import *;"
        "save(sys.argv[1], low_rank(), attrs={'a': 2, 'b': 1})"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code, str(there)], check=True, cwd=root)
    assert here.read_bytes() == there.read_bytes()
    again = tmp_path / "again.h5"
    save(again, load(here), attrs=inspect(here)["attrs"])
    assert again.read_bytes() == here.read_bytes()


NAMES = ["model.layers.0.q_proj.weight", "a/b", "..", "/", "", "one\ntwo", "ünï\0😀", "x" * 100_000]


def test_many_objects_under_any_names(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    objects = {name: quantized(3, 4, seed=i) for i, name in enumerate(NAMES)}
    objects["nested"] = low_rank(shift=1.0)
    save(path, objects, attrs={"n": 9})
    back = load(path)
    assert list(back) == list(objects)  # in their order
    for name, obj in objects.items():
        assert_same(back[name], obj)
        alone = load(path, name=name)
        assert_same(alone, obj)
        assert all(part.codes.flags.owndata for part in alone.parts().values())
    info = inspect(path)
    assert json.loads(json.dumps(info)) == info
    assert (list(info["objects"]), info["attrs"]) == (list(objects), {"n": 9})
    assert list(info["objects"]["nested"]) == ["/", "/left", "/right"]
    assert info["sha256"] == verify(path)
    again = tmp_path / "y.h5"
    save(again, back, attrs={"n": 9})
    assert again.read_bytes() == path.read_bytes()
    save(again, {}, overwrite=True)
    assert load(again) == {}


def test_arrays_beside_packed_matrices(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    arrays = {
        "bias": np.arange(3, dtype=">f4"),
        "kernel": np.asfortranarray(np.random.default_rng(0).standard_normal((2, 3, 4))),
        "mask": np.array([True, False]),
        "count": np.array(7),
        "none": np.empty((0, 5), np.int16),
    }
    save(path, {"w": low_rank(), **arrays})
    back = load(path)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype.newbyteorder("="), array.shape)
        np.testing.assert_array_equal(back[name], array)
    again = tmp_path / "again.h5"
    save(again, back)
    assert again.read_bytes() == path.read_bytes()
    assert inspect(path)["objects"]["bias"]["/"]["encoding"] == "array"
    for wrong in (np.array(["text"]), np.array([1j])):
        with pytest.raises(InputError, match=r"obj\['bias'\]: the format does not hold"):
            save(tmp_path / "y.h5", {"bias": wrong})


def test_names_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    for name in (3, None, b"x", ("a", "b"), "\ud800"):
        with pytest.raises(InputError, match="obj"):
            save(path, {"ok": low_rank(), name: low_rank()})
    with pytest.raises(InputError, match=r"obj\['b'\]"):
        save(path, {"a": low_rank(), "b": "text"})
    assert os.listdir(tmp_path) == []
    save(path, {"layer.0": low_rank(), "layer.1": low_rank()})
    with pytest.raises(InputError, match=r"'layer.2' is not in .*'layer.[01]'"):
        load(path, name="layer.2")
    save(path, low_rank(), overwrite=True)
    with pytest.raises(InputError, match="without a name"):
        load(path, name="layer.0")


def test_a_small_header_for_each_of_many(tmp_path: Path) -> None:
    """500 bytes, records and all; in a file each, it was ten times as much."""
    rng = np.random.default_rng(0)
    layers = {
        f"model.layers.{i}.mlp.weight": lplr.compress(
            rng.standard_normal((64, 64)) * np.arange(1, 65) ** -1.0,
            bits_per_entry=1 + i % 3,
            effort="fast",
            rng=i,
        )
        for i in range(12)
    }
    path = tmp_path / "x.h5"
    save(path, layers)
    rest = path.stat().st_size - sum(layer.nbytes for layer in layers.values())
    assert rest < 500 * len(layers)


def test_progress_and_an_end_in_the_middle(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.h5"
    monkeypatch.setattr(header, "_PART", 1 << 12)
    q = Quantized(
        (64, 1024), "uniform", 8, np.zeros(1 << 16, np.uint8), np.ones((1, 1), np.float32)
    )
    calls = (lambda **o: save(path, q, **o), lambda **o: load(path, **o))
    for call in (*calls, lambda **o: verify(path, **o), lambda **o: inspect(path, **o)):
        heard: list[tuple[float, str]] = []
        call(progress=lambda *said, heard=heard: heard.append(said))
        shares = [share for share, _ in heard]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0.0, 1.0)
        assert len(shares) > 8

    def stop(share: float, what: str) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        save(path, low_rank(), overwrite=True, progress=stop)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["x.h5"], before)


def test_inspect_and_verify(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    save(path, low_rank(), attrs={"n": [1, None, "é"]})
    info = inspect(path)
    assert json.loads(json.dumps(info)) == info
    assert info["file_nbytes"] == path.stat().st_size
    assert info["sha256"] == verify(path) == hashlib.sha256(path.read_bytes()[512:]).hexdigest()
    assert info["attrs"] == {"n": [1, None, "é"]}
    assert list(info["groups"]) == ["/", "/left", "/right"]
    root, left = info["groups"]["/"], info["groups"]["/left"]
    assert (root["encoding"], root["version"], root["meta"]["rng"]) == ("low-rank", 1, 7)
    assert (left["values"]["bits"], left["values"]["quantizer"]) == (3, "uniform")
    assert left["datasets"]["codes"] == {"dtype": "uint8", "shape": [14], "nbytes": 14}


def test_metadata_larger_than_an_object_header(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    big = {"text": "x" * 300_000}
    save(path, quantized(2, 2, meta=big), attrs=big)
    assert dict(load(path).meta) == inspect(path)["attrs"] == big


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
