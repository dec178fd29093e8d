"""Models for other programs: what they read is what the compressed model computes with."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import refused, report
from packed_models import FIXTURES, IDS, compressed, in_bfloat16, outputs
from tiny_models import tiny_checkpoint

import lplr
from lplr.models.gguf_tokenizer import SPLITTERS
from lplr.models.manifest import files_of

BERT = {"model_type": "bert", "max_position_embeddings": 24}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("embedding_bits", [None, 8])
def test_a_folder_has_the_values_of_the_packed_layers(
    kind: str, embedding_bits: int | None, tmp_path: Path
) -> None:
    small = compressed(FIXTURES / kind, tmp_path / "small", 4, embedding_bits)
    lplr.models.export(small, tmp_path / "dense", dtype="float32")
    network, exported = lplr.models.load(small), lplr.models.open_network(tmp_path / "dense")
    for i in range(network.family.n_blocks):
        packed, dense = network.block(i).linears, exported.block(i).linears
        for name, linear in dense.items():
            assert np.array_equal(linear.weight, packed[name].weight.to_dense())
    # The same sums in another order: float32, and some 30 steps between input and output.
    a, b = outputs(network), outputs(exported)
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_the_pooler_of_an_encoder_goes_along(tmp_path: Path) -> None:
    pooler = {
        "pooler.dense.weight": np.eye(32, dtype=np.float32) / 3,
        "pooler.dense.bias": np.ones(32, np.float32),
    }
    source = tiny_checkpoint(tmp_path / "source", lambda found: found.update(pooler), **BERT)
    small = compressed(source, tmp_path / "small", 4)
    lplr.models.export(small, tmp_path / "dense", dtype="float32")
    for folder in (small, tmp_path / "dense"):
        found = lplr.models.open_network(folder).tensors
        assert all(np.array_equal(found[name], tensor) for name, tensor in pooler.items())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_library_of_the_format_reads_a_folder(tmp_path: Path, dtype: str) -> None:
    safetensors = pytest.importorskip("safetensors")
    source = tmp_path / "source"
    lplr.models.export(FIXTURES / "llama", source, dtype=dtype)
    lplr.models.export(source, tmp_path / "dense", dtype=dtype)  # a conversion, here to the same
    with safetensors.safe_open(tmp_path / "dense" / "model.safetensors", "np") as file:
        original = lplr.models.open_checkpoint(source)
        assert set(file.keys()) == set(original)
        if dtype == "float16":  # NumPy has no bfloat16
            for name in original:
                assert np.array_equal(file.get_tensor(name), original[name])
    again = lplr.models.open_checkpoint(tmp_path / "dense")
    assert all(np.array_equal(again[name], original[name]) for name in original)


def test_the_reader_of_llama_cpp_reads_a_file(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    source = in_bfloat16("llama", tmp_path / "source")
    model = {"type": "BPE", "vocab": {chr(33 + i): i for i in range(96)}, "merges": []}
    tokenizer = {"model": model, "pre_tokenizer": SPLITTERS["gpt-2"]}
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    small = compressed(source, tmp_path / "small", 4)
    lplr.models.export(small, tmp_path / "small.gguf")
    network = lplr.models.load(small)
    exported = lplr.models.open_network(tmp_path / "small.gguf")
    theirs = {
        tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "small.gguf").tensors
    }
    assert len(theirs) == len(network.tensors)
    for i in range(network.family.n_blocks):
        packed, dense = network.block(i).linears, exported.block(i).linears
        halves = {name: each.weight.to_dense().astype(np.float16) for name, each in packed.items()}
        for name, half in halves.items():
            assert np.array_equal(dense[name].weight, half)
        # Rows of queries and keys lie otherwise there, which is tested with the reader.
        assert np.array_equal(theirs[f"blk.{i}.attn_v.weight"], halves["self_attn.v_proj"])
        assert np.array_equal(theirs[f"blk.{i}.ffn_down.weight"], halves["mlp.down_proj"])
    # Entries are rounded by 2^-11 at most, and 15 layers follow each other: sqrt(15) 2^-11.
    a, b = outputs(network), outputs(exported)
    assert np.abs(a - b).max() < 1.9e-3 * np.abs(a).max()


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_transformers_predicts_as_the_packed_model(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    small = compressed(FIXTURES / kind, tmp_path / "small", 4)
    lplr.models.export(small, tmp_path / "dense", dtype="float32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "dense", dtype=torch.float32
    )
    with torch.no_grad():
        found = theirs(torch.tensor(IDS)).logits.numpy()
    ours = outputs(lplr.models.load(small))
    assert np.abs(found - ours).max() < 1e-4 * np.abs(ours).max()


def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = FIXTURES / "llama"
    small = compressed(source, tmp_path / "small")
    layer = small / "layers" / "00009.h5"
    data = bytearray(layer.read_bytes())
    data[-9] ^= 1
    layer.write_bytes(data)
    before = files_of(tmp_path)
    said = refused(capsys, "model", "export", small, "-o", tmp_path / "dense")
    assert said.startswith(f"{layer}: is damaged")  # not: cannot be written
    said = refused(capsys, "model", "export", source, "-o", small)
    assert "exists" in said
    said = refused(capsys, "model", "export", source, "-o", tmp_path / "no" / "dense")
    assert "does not exist" in said
    assert files_of(tmp_path) == before


def test_the_command_says_how_large_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = FIXTURES / "llama"
    out = tmp_path / "dense"
    told = report(capsys, "model", "export", source, "-o", out, "--dtype", "float32")
    assert told["nbytes"] == sum(files_of(out).values())
    weights = sum(tensor.size for tensor in lplr.models.open_checkpoint(source).values())
    assert told["nbytes"] > 4 * weights
