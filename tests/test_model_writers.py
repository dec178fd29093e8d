"""Models for other programs: what their own readers find in the files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, ExistingFileError, InputError, StorageError
from lplr.models.checkpoint import open_checkpoint
from lplr.models.families import family_of
from lplr.models.writers import export_folder, export_gguf

MODELS = Path(__file__).parent / "fixtures" / "models"
rng = np.random.default_rng(0)
TENSORS = {
    f"model.layers.{i}.w": rng.standard_normal((5, 7 * i + 1)).astype(np.float32) for i in range(4)
} | {"model.norm.weight": rng.standard_normal(6).astype(np.float32)}
SHAPES = {name: A.shape for name, A in TENSORS.items()}
CONFIG = {"model_type": "llama", "torch_dtype": "bfloat16", "quantization_config": {"bits": 8}}


def nearest(A: np.ndarray, dtype: str) -> np.ndarray:
    """Rounded to so many bits after the leading one, ties to even; no entry is subnormal."""
    bits = {"float16": 10, "bfloat16": 7, "float32": 23}[dtype]
    mantissa, exponent = np.frexp(A.astype(np.float64))
    return np.ldexp(np.round(np.ldexp(mantissa, bits + 1)), exponent - bits - 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shard_bytes", [10**9, 100])
def test_a_folder(tmp_path: Path, dtype: str, shard_bytes: int) -> None:
    out = tmp_path / "new" / "model"
    files = {"tokenizer.json": b"{}", "1_Pooling/config.json": b"[]"}
    read = TENSORS.__getitem__
    export_folder(out, CONFIG, SHAPES, read, files, dtype=dtype, shard_bytes=shard_bytes)
    again = open_checkpoint(out)
    assert again.config == {"model_type": "llama", "torch_dtype": dtype}
    assert again.tokenizer_files() == files
    assert list(again) == list(TENSORS)
    for name, A in TENSORS.items():
        np.testing.assert_array_equal(again[name], nearest(A, dtype))
    sizes = [path.stat().st_size for path in out.glob("*.safetensors")]
    assert len(sizes) == (1 if shard_bytes == 10**9 else 4 + (dtype == "float32"))


def test_the_library_of_safetensors_reads_it(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    export_folder(tmp_path / "m", CONFIG, SHAPES, TENSORS.__getitem__, {}, shard_bytes=100)
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    found = {}
    for name in set(index["weight_map"].values()):
        shard = library.load_file(tmp_path / "m" / name)
        assert all(index["weight_map"][tensor] == name for tensor in shard)
        found |= shard
    assert found.keys() == TENSORS.keys()
    assert sum(A.nbytes for A in found.values()) == index["metadata"]["total_size"]
    for name, A in TENSORS.items():
        np.testing.assert_array_equal(found[name], A.astype(np.float16))


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (70000, "float16", "'model.norm.weight': .*F16 holds no number as large as 7e"),
        (3.4e38, "bfloat16", "'model.norm.weight': .*BF16 holds no number"),
        (np.nan, "float32", "'model.norm.weight': .*not finite"),
    ],
)
def test_entries_that_no_number_stands_for(
    tmp_path: Path, value: float, dtype: str, message: str
) -> None:
    tensors = TENSORS | {"model.norm.weight": np.full(6, value, np.float32)}
    with pytest.raises(InputError, match=message):
        export_folder(tmp_path / "m", CONFIG, SHAPES, tensors.__getitem__, {}, dtype=dtype)
    # What there is of the folder is no model, and no file is left half written.
    assert not list((tmp_path / "m").iterdir())


def test_arguments(tmp_path: Path) -> None:
    read = TENSORS.__getitem__
    with pytest.raises(InputError, match="dtype must be one of float16, bfloat16, float32"):
        export_folder(tmp_path / "m", CONFIG, SHAPES, read, {}, dtype="int8")
    with pytest.raises(InputError, match="shard_bytes must be positive"):
        export_folder(tmp_path / "m", CONFIG, SHAPES, read, {}, shard_bytes=0)
    with pytest.raises(InputError, match=r"'model.norm.weight' has the shape \(6,\), not \(7,\)"):
        export_folder(tmp_path / "n", CONFIG, SHAPES | {"model.norm.weight": (7,)}, read, {})
    with pytest.raises(ExistingFileError, match="name another folder"):
        export_folder(tmp_path, CONFIG, SHAPES, read, {})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot make the folder"):
        export_folder(tmp_path / "file" / "m", CONFIG, SHAPES, read, {})
    with pytest.raises(InputError, match="ends in .gguf"):
        export_gguf(tmp_path / "m.bin", CONFIG, SHAPES, read, {})


def test_a_gguf_file_needs_a_place_for_everything(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    config = json.loads((MODELS / "llama" / "config.json").read_text())
    tokenizer = {"tokenizer.json": b'{"model": {"type": "Unigram", "vocab": {}}}'}
    out, read = tmp_path / "m.gguf", TENSORS.__getitem__
    with pytest.raises(InputError, match="'model.layers.0.w' has no place"):
        export_gguf(out, config, SHAPES, read, tokenizer)
    with pytest.raises(InputError, match="no tokenizer.json"):
        export_gguf(out, config, {}, read, {})
    with pytest.raises(InputError, match="the kind 'Unigram' has no name in GGUF"):
        export_gguf(out, config, {}, read, tokenizer)
    with pytest.raises(CorruptFileError, match="tokenizer.json is not valid"):
        export_gguf(out, config, {}, read, {"tokenizer.json": b"{"})
    config["rope_parameters"] = {"rope_type": "yarn", "factor": 2.0}
    with pytest.raises(InputError, match="rope_scaling of type 'yarn' "):
        export_gguf(out, config, {}, read, tokenizer)
    assert not out.exists()


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("model", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_transformers_predicts_the_same(tmp_path: Path, model: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    checkpoint = open_checkpoint(MODELS / model)
    shapes = family_of(checkpoint.config).tensors()
    out = tmp_path / "m"
    export_folder(out, checkpoint.config, shapes, checkpoint.__getitem__, {}, dtype="float32")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before, after = (
            transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)(ids).logits
            for path in (MODELS / model, out)
        )
    assert torch.equal(before, after)
