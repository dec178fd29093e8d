"""Models for other programs: what they read is what the compressed model computes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import refused, report
from packed_models import FIXTURES, compressed, outputs
from tiny_models import tiny_checkpoint

import lplr
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
