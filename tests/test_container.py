"""The file format: what goes in comes out, and equal objects give equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed_objects import assert_same, low_rank, quantized

import lplr
from lplr.exceptions import InputError
from lplr.matrices.quantized import Quantized
from lplr.storage import header
from lplr.storage.container import inspect, load, save, verify
from lplr.storage.header import FORMAT_VERSION, MAGIC


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
        "import sys; from tests.packed_objects import low_rank;"
        "from lplr.storage.container import save;"
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


def test_a_file_beyond_the_memory_is_refused(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path / "x.h5", quantized(3, 4, 2))
    monkeypatch.setattr(header, "LOADING", 0)
    monkeypatch.setattr(header, "available_memory", lambda: 100)
    with pytest.raises(InputError, match="more than are available"):
        load(tmp_path / "x.h5")
