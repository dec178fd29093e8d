"""The commands on a file of many matrices: the list, one of them, all of them dense again."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import refused, report

import lplr
from lplr.cli.main import main
from lplr.inputs import read_member
from lplr.storage.atomic import write_atomic

ORIGINALS = {
    name: np.random.default_rng(i).standard_normal((9, 7)).astype(np.float32)
    for i, name in enumerate(("layers.0.up", "layers.0.down", "a/b", "one\ntwo"))
}
BIAS = np.arange(5, dtype=np.int16)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, lplr.PackedMatrix]:
    monkeypatch.chdir(tmp_path)
    matrices = {name: lplr.quantize(A, bits=3) for name, A in ORIGINALS.items()}
    lplr.save("many.h5", {**matrices, "bias": BIAS}, attrs={"model": "toy"})
    lplr.save("one.h5", matrices["a/b"])
    np.savez("originals.npz", **ORIGINALS, bias=BIAS)
    return matrices


def test_info(packed: dict[str, lplr.PackedMatrix], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "many.h5"]) == 0
    text = capsys.readouterr().out
    assert "\n'one\\ntwo'   " in text  # a name cannot make lines of its own
    assert "model  toy" in text
    document = report(capsys, "info", "many.h5")
    assert list(document["objects"]) == [*packed, "bias"]
    assert document["stored_nbytes"] == sum(f.nbytes for f in packed.values()) + BIAS.nbytes
    one = report(capsys, "info", "many.h5", "--name", "a/b")
    assert one["groups"] == document["objects"]["a/b"]["groups"]
    assert (one["name"], one["shape"], one["groups"]["/"]["encoding"]) == (
        "a/b", [9, 7], "quantized",
    )  # fmt: skip
    assert main(["info", "many.h5", "--name", "a/b"]) == 0
    assert "lplr.quantize(A, bits=3" in capsys.readouterr().out
    assert "'layers.0.up'" in refused(capsys, "info", "many.h5", "--name", "layers.1.up")
    assert "without a name" in refused(capsys, "info", "one.h5", "--name", "a/b")
    lplr.save("none.h5", {})
    assert main(["info", "none.h5"]) == main(["verify", "none.h5"]) == 0


def test_verify(packed: dict[str, lplr.PackedMatrix], capsys: pytest.CaptureFixture[str]) -> None:
    document = report(capsys, "verify", "many.h5", "--against", "originals.npz")
    *matrices, bias = document["matrices"]
    for found, (name, f) in zip(matrices, packed.items(), strict=True):
        assert found["name"] == name
        assert found["relative_error"] == f.relative_error(ORIGINALS[name])
    assert bias["identical"]
    assert main(["verify", "many.h5", "--against", "originals.npz"]) == 0
    assert f"{matrices[0]['relative_error']:.6f}" in capsys.readouterr().out
    for original in ("originals.npz:a/b", "originals.npz"):
        one = report(capsys, "verify", "many.h5", "--name", "a/b", "--against", original)
        assert one["relative_error"] == matrices[2]["relative_error"]
    for original, error in ((BIAS, "none"), (BIAS + 1, "some")):
        np.save("bias.npy", original)
        assert main(["verify", "many.h5", "--name", "bias", "--against", "bias.npy"]) == 0
        assert f"error    {error} " in capsys.readouterr().out
    np.savez("fewer.npz", **{"a/b": ORIGINALS["a/b"]})
    assert "--name" in refused(capsys, "verify", "many.h5", "--against", "fewer.npz")


def test_decompress(
    packed: dict[str, lplr.PackedMatrix], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {name: f.to_dense() for name, f in packed.items()} | {"bias": BIAS}
    for output in ("out.npz", "out.safetensors"):
        document = report(capsys, "decompress", "many.h5", "-o", output)
        assert [found["name"] for found in document["matrices"]] == list(expected)
        assert document["file_nbytes"] == os.path.getsize(output)
        for name, array in expected.items():
            read = read_member(output, name).array
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)
    with np.load("out.npz") as loaded:  # not only this package can read it
        np.testing.assert_array_equal(loaded["layers.0.up"], expected["layers.0.up"])
    assert zipfile.ZipFile("out.npz").testzip() is None
    assert main(["decompress", "many.h5", "--name", "a/b", "-o", "b.npy"]) == 0
    np.testing.assert_array_equal(np.load("b.npy"), expected["a/b"])
    capsys.readouterr()
    assert "--name" in refused(capsys, "decompress", "many.h5", "-o", "all.npy")
    assert ".npy" in refused(capsys, "decompress", "many.h5", "--name", "a/b", "-o", "b.npz")
    assert ".npy" in refused(capsys, "decompress", "one.h5", "-o", "b.safetensors")


def test_a_model_is_what_it_keeps_of_the_data(
    packed: dict[str, lplr.PackedMatrix], capsys: pytest.CaptureFixture[str]
) -> None:
    A = ORIGINALS["a/b"]
    transformer = lplr.LPLR(n_components=2, random_state=0).fit(A)
    classifier = lplr.KNeighborsClassifier(random_state=0).fit(A, ["u", "v", "w"] * 3)
    np.save("a.npy", A)
    for model, kept in ((transformer, transformer.factors_), (classifier, classifier.rows_)):
        lplr.save("model.h5", model, overwrite=True)
        document = report(capsys, "info", "model.h5")
        assert (document["type"], document["shape"]) == (type(model).__name__, [9, 7])
        assert document["stored_nbytes"] == kept.nbytes
        found = report(capsys, "verify", "model.h5", "--against", "a.npy")
        assert found["relative_error"] == kept.relative_error(A)
        assert main(["decompress", "model.h5", "-o", "back.npy", "--overwrite"]) == 0
        np.testing.assert_array_equal(np.load("back.npy"), kept.to_dense())
        capsys.readouterr()


@pytest.mark.parametrize("name", ["", "../up", "/etc/x", "a\0b", "C:\\x", "x" * 70_000])
def test_names_that_a_zip_file_cannot_have(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    f = lplr.quantize(ORIGINALS["a/b"], bits=3)
    lplr.save("odd.h5", {name: f})
    assert "--name" in refused(capsys, "decompress", "odd.h5", "-o", "out.npz")
    assert main(["decompress", "odd.h5", "-o", "out.safetensors"]) == 0
    np.testing.assert_array_equal(read_member("out.safetensors", name).array, f.to_dense())
    lplr.save("odd.h5", {"__metadata__": f}, overwrite=True)
    capsys.readouterr()
    assert "--name" in refused(
        capsys, "decompress", "odd.h5", "-o", "out.safetensors", "--overwrite"
    )
    assert sorted(os.listdir()) == ["odd.h5", "out.safetensors"]


def test_a_matrix_is_decoded_when_it_is_written(tmp_path: Path) -> None:
    """An interrupt in the middle leaves nothing."""

    def pieces():
        yield b"first"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x", pieces())
    assert os.listdir(tmp_path) == []


def test_records_cannot_give_orders_to_a_terminal(
    packed: dict[str, lplr.PackedMatrix], capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;title\x07\x9b2J\r\u202e\n"
    meta = {evil: evil, "call": {"function": evil, "arguments": {evil: 1}}, "list": [evil]}
    f = replace(packed["a/b"], meta=meta)
    lplr.save("evil.h5", f, attrs={evil: {evil: evil}})
    lplr.save("folder", f, attrs={evil: evil}, parts=True)
    for file in ("evil.h5", "folder"):
        assert main(["info", file]) == 0
        assert all(c.isprintable() or c == "\n" for c in capsys.readouterr().out)


def test_records_that_are_not_ours(
    packed: dict[str, lplr.PackedMatrix], capsys: pytest.CaptureFixture[str]
) -> None:
    lplr.save("one.h5", packed, attrs={"relative_error": {"a/b": "small"}}, overwrite=True)
    assert main(["info", "one.h5"]) == 0
    assert "a/b small" in capsys.readouterr().out
    deep: list[Any] = []
    for _ in range(400):
        deep = [{"a": deep}]
    lplr.save("deep.h5", packed["a/b"], attrs={"deep": deep})
    assert "nested too deep" in refused(capsys, "info", "deep.h5", "--json")
