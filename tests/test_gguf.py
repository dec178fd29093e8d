"""GGUF files as checkpoints: types, names, rows, metadata; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import smollm2

from lplr.exceptions import CorruptFileError, InputError
from lplr.models.base import TensorInfo
from lplr.models.checkpoint import open_checkpoint
from lplr.models.families import family_of
from lplr.models.gguf_file import GGUFFile
from lplr.models.writers import export_gguf

gguf = pytest.importorskip("gguf")

MODELS = Path(__file__).parent / "fixtures" / "models"
METADATA = {
    "block_count": 1,
    "context_length": 64,
    "embedding_length": 64,
    "feed_forward_length": 32,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}


def writer(path: Path, architecture: str = "llama", **metadata: int) -> Any:
    """A file of the package itself, which a test goes on with."""
    found = gguf.GGUFWriter(path, architecture)
    for key, value in (METADATA | metadata).items():
        found.add_uint32(f"{architecture}.{key}", value)
    found.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    found.add_tensor("token_embd.weight", np.ones((3, 64), np.float32))
    return found


def finish(found: Any) -> None:
    found.write_header_to_file()
    found.write_kv_data_to_file()
    found.write_tensors_to_file()
    found.close()


def metadata_of(path: Path) -> dict[str, Any]:
    return GGUFFile(path).metadata


# --- types -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", gguf.GGMLQuantizationType, ids=lambda dtype: dtype.name)
def test_a_tensor_of_each_type(tmp_path: Path, dtype: Any) -> None:
    """Any bytes are codes; the scales among them may be no numbers, in both alike."""
    entries, size = gguf.GGML_QUANT_SIZES[dtype]
    raw = np.random.default_rng(0).integers(0, 256, (5, 512 // entries * size), np.uint8)
    found = writer(tmp_path / "m.gguf")
    found.add_tensor("w.weight", raw, raw_shape=raw.shape, raw_dtype=dtype)
    finish(found)
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    assert checkpoint.info("w.weight") == TensorInfo(dtype.name, (5, 512), raw.nbytes)
    with np.errstate(all="ignore"):
        try:
            expected = gguf.dequantize(raw, dtype).reshape(5, 512)
        except NotImplementedError:
            with pytest.raises(InputError, match=f"'w.weight' has the type {dtype.name}, which"):
                checkpoint["w.weight"]
        else:
            np.testing.assert_array_equal(checkpoint["w.weight"], expected)


def test_a_large_tensor_is_converted_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lplr.models.gguf_file._ENTRIES_AT_ONCE", 128)
    A = np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)
    found = writer(tmp_path / "m.gguf")
    codes = gguf.quantize(A, gguf.GGMLQuantizationType.Q8_0)
    found.add_tensor("w.weight", codes, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    finish(found)
    expected = gguf.dequantize(codes, gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "m.gguf")["w.weight"], expected)


def test_an_unknown_type_is_named_with_its_tensor(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    found = writer(path)
    found.add_tensor("blk.0.attn_q.weight", np.ones((64, 64), np.float16))
    finish(found)
    data = bytearray(path.read_bytes())
    at = data.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 16
    assert data[at] == gguf.GGMLQuantizationType.F16
    data[at] = 213
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"'blk.0.attn_q.weight' has the type 213"):
        open_checkpoint(path)
    data[at] = gguf.GGMLQuantizationType.I16  # of the same size, and no weight
    path.write_bytes(data)
    with pytest.raises(InputError, match="'blk.0.attn_q.weight' has the type I16"):
        open_checkpoint(path)["model.layers.0.self_attn.q_proj.weight"]


# --- names, rows and metadata ----------------------------------------------------------------


def test_query_and_key_of_llama_are_unpermuted(tmp_path: Path) -> None:
    q = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    for architecture in ("llama", "qwen2"):
        found = writer(tmp_path / f"{architecture}.gguf", architecture)
        found.add_tensor("blk.0.attn_q.weight", q)
        finish(found)
    name = "model.layers.0.self_attn.q_proj.weight"
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "qwen2.gguf")[name], q)
    ours = open_checkpoint(tmp_path / "llama.gguf")[name]
    for head in range(4):
        for half in range(2):
            for pair in range(8):
                i = 16 * head + 8 * half + pair
                np.testing.assert_array_equal(ours[i], q[16 * head + 2 * pair + half])


def tokenizer(size: int) -> dict[str, bytes]:
    """A tokenizer.json of single bytes."""
    tokens = sorted({chr(33 + i) for i in range(size - 2)} | {"<s>", "</s>"})[:size]
    added = [
        {"id": tokens.index(t), "content": t, "special": True, "single_word": False,
         "lstrip": False, "rstrip": False, "normalized": False}
        for t in ("<s>", "</s>")
    ]  # fmt: skip
    model = {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": []}
    split = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    whole = {
        "version": "1.0", "added_tokens": added, "model": model, "normalizer": None,
        "pre_tokenizer": split, "post_processor": None, "decoder": {"type": "ByteLevel"},
    }  # fmt: skip
    return {"tokenizer.json": json.dumps(whole).encode()}


@pytest.mark.parametrize(
    "model", ["llama", "llama-linear", "llama-llama3", "mistral", "qwen2", "qwen3", "bert", "gpt2"]
)
def test_what_is_written_is_read_again(tmp_path: Path, model: str) -> None:
    folder = MODELS / model
    weights = folder if (folder / "model.safetensors").exists() else MODELS / "llama"
    checkpoint = open_checkpoint(weights)
    config = checkpoint.config | json.loads((folder / "config.json").read_text())
    if model == "qwen2":
        with pytest.raises(InputError, match=r"windows \[8\] cannot be written"):
            export_gguf(tmp_path / "m.gguf", config, {}, {}.__getitem__, tokenizer(96))
        config |= {"layer_types": None, "use_sliding_window": False}
    family = family_of(config)
    shapes = family.tensors()
    path = tmp_path / "m.gguf"
    export_gguf(path, config, shapes, checkpoint.__getitem__, tokenizer(config["vocab_size"]))
    again = open_checkpoint(path)
    for name, shape in shapes.items():
        assert again.info(name).shape == shape
        A = checkpoint[name]
        if again.info(name).dtype == "F16":
            A = A.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(again[name], A)
    # The network is the same: its shapes, and every number that its config gives.
    ours, theirs = vars(family), vars(family_of(again.config))
    rotary = ours.pop("rotary", None), theirs.pop("rotary", None)
    assert ours.keys() == theirs.keys()
    for key in ours.keys() - {"_names"}:
        assert ours[key] == pytest.approx(theirs[key]), key
    if rotary[0] is not None:
        # The factors are written in float32.
        np.testing.assert_allclose(rotary[0].frequencies, rotary[1].frequencies, rtol=1e-5)
    # And the reader of llama.cpp's own package finds every tensor.
    found = gguf.GGUFReader(path).tensors
    assert len(found) == len(again) + (model == "llama-llama3")


def test_factors_of_llama3(tmp_path: Path) -> None:
    """As llama.cpp writes them for Llama 3.2, from the formula of its converter."""
    theta, width, factor = 500000.0, 64, 32.0
    factors = []
    for i in range(width // 2):
        length = 2 * np.pi * theta ** (2 * i / width)
        if length < 8192 / 4:
            factors.append(1.0)
        elif length > 8192 / 1:
            factors.append(factor)
        else:
            smooth = (8192 / length - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    found = writer(tmp_path / "m.gguf", embedding_length=256)
    found.add_float32("llama.rope.freq_base", theta)
    found.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    finish(found)
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    assert "rope_freqs.weight" not in checkpoint
    assert checkpoint.config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    found = writer(tmp_path / "other.gguf", embedding_length=256)
    found.add_tensor("rope_freqs.weight", np.linspace(1, 9, 32, dtype=np.float32))
    finish(found)
    with pytest.raises(InputError, match="not those of Llama 3"):
        open_checkpoint(tmp_path / "other.gguf")


# --- what is refused -------------------------------------------------------------------------


def test_an_unknown_architecture(tmp_path: Path) -> None:
    finish(writer(tmp_path / "m.gguf", "mamba"))
    with pytest.raises(InputError, match="'mamba' is not known; .*llama, qwen2, qwen3"):
        open_checkpoint(tmp_path / "m.gguf")


def test_metadata_that_is_missing_or_of_a_wrong_type(tmp_path: Path) -> None:
    found = writer(tmp_path / "m.gguf")
    found.add_string("llama.rope.freq_base", "large")
    finish(found)
    with pytest.raises(CorruptFileError, match=r"llama.rope.freq_base = 'large'"):
        open_checkpoint(tmp_path / "m.gguf")
    found = writer(tmp_path / "n.gguf", **{"attention.head_count": 5})
    found.add_tensor("blk.0.attn_q.weight", np.ones((64, 64), np.float32))
    finish(found)
    with pytest.raises(CorruptFileError, match="not made of 5 heads"):
        open_checkpoint(tmp_path / "n.gguf")


def test_tensors_of_smollm2() -> None:
    """Two tensors, of which one is permuted: sums that transformers' reader gave as well."""
    checkpoint = smollm2()
    family = family_of(checkpoint.config)
    assert {name: checkpoint.info(name).shape for name in checkpoint} == family.tensors()
    weights = np.arange(192)[:, None] + np.arange(576)
    k = checkpoint["model.layers.7.self_attn.k_proj.weight"].astype(np.float64)
    down = checkpoint["model.layers.7.mlp.down_proj.weight"].astype(np.float64)
    assert [(weights * k).sum(), down.sum()] == pytest.approx(
        [-8118.7497482299805, -198.9853515625]
    )
