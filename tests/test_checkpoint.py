"""Checkpoints in folders: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, InputError, MissingFileError, UnsafeFileError
from lplr.models.checkpoint import open_checkpoint

DTYPES = {"<f4": "F32", "<f2": "F16", "<i8": "I64"}


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The format of safetensors, written naively."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        header[name] = {
            "dtype": DTYPES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


ONE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.float16)}
TWO = {"c": np.array([[7.0]], np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in two files."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    save(tmp_path / "m-1.safetensors", ONE)
    save(tmp_path / "m-2.safetensors", TWO)
    write_index(tmp_path, a="m-1.safetensors", b="m-1.safetensors", c="m-2.safetensors")
    return tmp_path


def write_index(folder: Path, **where: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def test_a_folder_of_two_files(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config == {"model_type": "llama"}
    assert set(checkpoint) == {"a", "b", "c"}
    assert checkpoint.info("b").dtype == "F16"
    assert checkpoint.nbytes == 24 + 4 + 4
    for name, array in (ONE | TWO).items():
        assert checkpoint[name].dtype == np.float32
        np.testing.assert_array_equal(checkpoint[name], array)


def test_one_file_of_any_name(folder: Path) -> None:
    assert set(open_checkpoint(folder / "m-1.safetensors")) == {"a", "b"}
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match="2 .safetensors files"):
        open_checkpoint(folder)
    (folder / "m-2.safetensors").unlink()
    assert set(open_checkpoint(folder)) == {"a", "b"}


def test_the_digest_is_of_config_and_tensors(folder: Path) -> None:
    before = open_checkpoint(folder).digest()
    (folder / "tokenizer.json").write_text("{}")
    assert open_checkpoint(folder).digest() == before
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    assert open_checkpoint(folder).digest() != before


@pytest.mark.parametrize("name", ["../m.safetensors", "/etc/m.safetensors", "link.safetensors"])
def test_nothing_outside_the_folder_is_opened(folder: Path, name: str) -> None:
    inner = folder / "inner"
    inner.mkdir()
    for path in folder.glob("*.*"):
        path.rename(inner / path.name)
    save(folder / "m.safetensors", TWO)
    (inner / "link.safetensors").symlink_to(folder / "m.safetensors")
    write_index(inner, a="m-1.safetensors", b="m-1.safetensors", c=name)
    with pytest.raises(UnsafeFileError, match="out of the folder"):
        open_checkpoint(inner)


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ({"a": "m-1.safetensors", "c": "gone.safetensors"}, MissingFileError, "gone"),
        ({"a": "m-1.safetensors", "c": "m-2.safetensors"}, CorruptFileError, "'b' is in no file"),
        (
            {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"},
            CorruptFileError,
            "'a' is in m-2.safetensors, and it is in m-1.safetensors",
        ),
        ({"a": 3}, CorruptFileError, "3, no .safetensors file"),
        ({}, CorruptFileError, "no weight_map"),
    ],
)
def test_an_index_that_does_not_fit(
    folder: Path, where: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_index(folder, **where)
    with pytest.raises(error, match=message):
        open_checkpoint(folder)
