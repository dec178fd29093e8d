"""Checkpoints in folders: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, InputError, MissingFileError, UnsafeFileError
from lplr.models.checkpoint import open_checkpoint
from lplr.models.checks import check_checkpoint, check_finite

DTYPES = {"<f4": "F32", "<f2": "F16", "|u1": "F8_E4M3"}


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


@pytest.mark.parametrize("name", ["loop.safetensors", "\0.safetensors", "\ud800.safetensors"])
def test_names_that_lead_to_no_file(folder: Path, name: str) -> None:
    (folder / "loop.safetensors").symlink_to("loop.safetensors")
    write_index(folder, a=name)
    with pytest.raises(UnsafeFileError, match="leads to no file"):
        open_checkpoint(folder)


def test_a_compressed_model_is_no_checkpoint(folder: Path) -> None:
    (folder / "model.json").write_text("{}")
    with pytest.raises(InputError, match="give the checkpoint that it was made from"):
        open_checkpoint(folder)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "it is a list, not an object"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("\xff", "is not valid JSON"),
        (" " * (1 << 26) + "{}", "more than any such file needs"),
    ],
)
def test_a_config_that_is_none(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CorruptFileError, match=message) as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)


def test_what_is_missing_is_said(folder: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no"):
        open_checkpoint(folder / "other")
    (folder / "config.json").rename(folder / "config.txt")
    with pytest.raises(MissingFileError, match="no file 'config.json'"):
        open_checkpoint(folder)
    with pytest.raises(InputError, match="must be a folder with config.json"):
        open_checkpoint(folder / "config.txt")
    (folder / "config.txt").rename(folder / "config.json")
    for path in folder.glob("m*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(MissingFileError, match="pytorch_model.bin may hold pickled code"):
        open_checkpoint(folder)
    (folder / "m.gguf").write_bytes(b"")
    with pytest.raises(MissingFileError, match=r"name the .gguf file itself: m.gguf"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"no file 'config.json' .*itself: m.gguf"):
        open_checkpoint(folder)


def test_a_shard_that_was_cut_or_altered(folder: Path) -> None:
    path = folder / "m-2.safetensors"
    data = path.read_bytes()
    for wrong in (data[:-1], data[:20], b"", data + b"0", data.replace(b"[1, 1]", b"[1, 2]")):
        path.write_bytes(wrong)
        with pytest.raises(CorruptFileError, match="m-2.safetensors"):
            open_checkpoint(folder)


def test_a_tensor_in_two_files(folder: Path) -> None:
    save(folder / "m-2.safetensors", TWO | {"b": ONE["b"]})
    with pytest.raises(CorruptFileError, match="'b' is in m-1.safetensors and in m-2.safetensors"):
        open_checkpoint(folder)


def test_the_cache_of_hugging_face_is_made_of_links(folder: Path) -> None:
    snapshot, blobs = folder / "snapshots" / "0123abcd", folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in [*folder.glob("*.json"), *folder.glob("*.safetensors")]:
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    np.testing.assert_array_equal(open_checkpoint(snapshot)["c"], TWO["c"])


# --- floats of 8 bits ------------------------------------------------------------------------

CODES = np.random.default_rng(0).integers(0, 0x7F, (130, 200), np.uint8)  # no NaN among them
BLOCKS = np.array([[0.5, 2], [3, -1]], np.float32)


def e4m3(code: int) -> float:
    exponent, mantissa = code >> 3 & 15, code & 7
    return 2.0**-6 * mantissa / 8 if exponent == 0 else 2.0 ** (exponent - 7) * (1 + mantissa / 8)


@pytest.mark.parametrize(
    ("end", "scale", "size"),
    [
        ("_scale", np.array(0.25, np.float32), (130, 200)),
        ("_scale", np.array([0.25], np.float32), (130, 200)),
        ("_scale", np.linspace(1, 2, 130, dtype=np.float32)[:, None], (1, 200)),
        ("_scale_inv", BLOCKS, (128, 128)),
        ("_scale_inv", np.ones((65, 3), np.float32) * 3, (2, 70)),
    ],
)
def test_float8_with_scales(
    tmp_path: Path, end: str, scale: np.ndarray, size: tuple[int, int]
) -> None:
    config: dict[str, Any] = {"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}
    if size == (2, 70):
        config["quantization_config"]["weight_block_size"] = [2, 70]
    (tmp_path / "config.json").write_text(json.dumps(config))
    save(
        tmp_path / "model.safetensors",
        {"w.weight": CODES, f"w.weight{end}": scale, "w.input_scale": np.ones((), np.float32)},
    )
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint) == ["w.weight"]
    assert checkpoint.info("w.weight").nbytes == CODES.size + scale.nbytes
    table = np.array([e4m3(code) for code in range(0x7F)])
    scales = scale.reshape(scale.shape if scale.ndim == 2 else (1, 1))
    expected = [
        [table[CODES[i, j]] * scales[i // size[0], j // size[1]] for j in range(200)]
        for i in range(130)
    ]
    # Codes and scales are float32, and so is their product.
    np.testing.assert_allclose(checkpoint["w.weight"], expected, rtol=2**-24)


@pytest.mark.parametrize(
    ("arrays", "method", "message"),
    [
        ({"w.weight": CODES}, "fp8", "'w.weight' is F8_E4M3, and its scale is not there"),
        (
            {"w.weight": CODES, "w.weight_scale": BLOCKS[:1]},
            "fp8",
            r"shape \(1, 2\), which is none",
        ),
        ({"w.weight": ONE["a"], "w.weight_scale": BLOCKS}, "fp8", "floats of 8 bits only"),
        ({"w.qweight": CODES}, "gptq", "quantized by 'gptq', which is not read"),
    ],
)
def test_scales_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, np.ndarray], method: str, message: str
) -> None:
    config = {"model_type": "llama", "quantization_config": {"quant_method": method}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save(tmp_path / "model.safetensors", arrays)
    with pytest.raises(InputError, match=message):
        open_checkpoint(tmp_path)


# --- before the work -------------------------------------------------------------------------


def test_names_and_shapes_are_compared(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    expected = {"a": (2, 3), "b": (2,), "c": (1, 1)}
    check_checkpoint(checkpoint, expected)
    check_checkpoint(checkpoint, {"a": (2, 3)}, ignored=lambda name: name in "bc")
    wrong = {"a": (3, 2), "b": (2,)} | {f"d{i}": (1,) for i in range(5)}
    with pytest.raises(InputError) as error:
        check_checkpoint(checkpoint, wrong)
    assert str(error.value) == (
        f"{folder} does not fit its config.json: 5 tensors missing ('d0', 'd1', 'd2', ...); "
        "1 tensor surplus ('c'); 1 tensor of another shape ('a' is (2, 3), not (3, 2))"
    )


def test_a_head_that_is_not_the_embedding(folder: Path) -> None:
    save(folder / "m-1.safetensors", {"a": ONE["a"], "b": ONE["a"] + 1})
    checkpoint, shapes = open_checkpoint(folder), {"a": (2, 3), "b": (2, 3), "c": (1, 1)}
    check_checkpoint(checkpoint, shapes, tied=("a", "a"))
    check_checkpoint(checkpoint, shapes, tied=("gone", "a"))
    with pytest.raises(InputError, match="ties 'b' to 'a', and they differ"):
        check_checkpoint(checkpoint, shapes, tied=("b", "a"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_entry_that_is_not_finite(folder: Path, value: float) -> None:
    check_finite(open_checkpoint(folder))
    A = ONE["a"].copy()
    A[1, 1:] = value
    save(folder / "m-1.safetensors", ONE | {"a": A})
    checkpoint = open_checkpoint(folder)
    check_finite(checkpoint, ["b"])
    with pytest.raises(InputError, match=rf"'a' has the value {value} at \(1, 1\)"):
        check_finite(checkpoint)
