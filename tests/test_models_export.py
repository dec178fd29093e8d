"""Models for other programs: what they read is what the compressed model computes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import refused, report
from test_models_store import IDS, compressed, tiny_checkpoint

import lplr
from lplr.models.manifest import files_of


@pytest.mark.parametrize("embedding_bits", [None, 8])
def test_a_folder_has_the_values_of_the_packed_layers(
    tmp_path: Path, embedding_bits: int | None
) -> None:
    small = compressed(tiny_checkpoint(tmp_path / "source"), tmp_path / "small", 4, embedding_bits)
    lplr.models.export(small, tmp_path / "dense", dtype="float32")
    network, exported = lplr.models.load(small), lplr.models.open_network(tmp_path / "dense")
    for name, tensor in exported.tensors.items():
        assert np.array_equal(tensor, np.asarray(network.tensors[name]))
    assert (tmp_path / "dense" / "tokenizer_config.json").read_text() == "{}"
    # The same sums in another order: float32, and some 30 steps between input and logits.
    a, b = network.logits(IDS), exported.logits(IDS)
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_layers_of_gpt2_are_written_as_they_lay(tmp_path: Path) -> None:
    source = tiny_checkpoint(
        tmp_path / "source", model_type="gpt2", n_embd=32, n_layer=2, n_head=2, n_positions=32
    )
    small = compressed(source, tmp_path / "small", 8)
    lplr.models.export(small, tmp_path / "dense", dtype="float32")
    network, exported = lplr.models.load(small), lplr.models.open_network(tmp_path / "dense")
    name = "transformer.h.0.attn.c_attn.weight"
    assert exported.tensors[name].shape == (32, 96)
    assert np.array_equal(exported.tensors[name], network.tensors[name].to_dense().T)
    a, b = network.logits(IDS), exported.logits(IDS)
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_library_of_the_format_reads_a_folder(tmp_path: Path, dtype: str) -> None:
    safetensors = pytest.importorskip("safetensors")
    source = tiny_checkpoint(tmp_path / "source", dtype="F16" if dtype == "float16" else "BF16")
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
    source = tiny_checkpoint(tmp_path / "source")
    small = compressed(source, tmp_path / "small")
    layer = small / "layers" / "00009.h5"
    data = bytearray(layer.read_bytes())
    data[-9] ^= 1
    layer.write_bytes(data)
    before = files_of(tmp_path)
    said = refused(capsys, "model", "export", small, "-o", tmp_path / "dense")
    assert "00009.h5: is damaged" in said
    said = refused(capsys, "model", "export", source, "-o", small)
    assert "exists" in said
    said = refused(capsys, "model", "export", source, "-o", tmp_path / "no" / "dense")
    assert "does not exist" in said
    assert files_of(tmp_path) == before


def test_the_command_says_how_large_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    out = tmp_path / "dense"
    told = report(capsys, "model", "export", source, "-o", out, "--dtype", "float32")
    assert told["nbytes"] == sum(files_of(out).values())
    weights = sum(tensor.size for tensor in lplr.models.open_checkpoint(source).values())
    assert told["nbytes"] > 4 * weights
