"""A compressed model on disk: what is written comes back, packed, and any damage is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.exceptions import CorruptFileError, MissingFileError, UnsafeFileError
from lplr.models.checkpoint import open_checkpoint
from lplr.models.families import family_of
from lplr.models.store import finish, write_layer, write_rest
from lplr.storage.safetensors import as_bytes, safetensors

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
IDS = np.arange(24).reshape(2, 12) * 5 % 120


def tiny_checkpoint(folder: Path, dtype: str = "BF16", **config: Any) -> Path:
    """A folder in the form of Hugging Face with random tensors."""
    said = CONFIG | config
    rng = np.random.default_rng(0)
    shapes = family_of(said).tensors()
    values = {
        name: 1 + 0.1 * rng.standard_normal(shape)
        if len(shape) == 1
        else rng.standard_normal(shape) / shape[1] ** 0.5
        for name, shape in shapes.items()
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "tokenizer_config.json").write_text("{}")
    kinds = {name: (dtype, shape) for name, shape in shapes.items()}
    pieces = safetensors(kinds, lambda name: as_bytes(values[name], dtype))
    (folder / "model.safetensors").write_bytes(b"".join(pieces))
    return folder


def compressed(source: Path, folder: Path, bits: float = 8, embedding_bits: Any = None) -> Path:
    """The folder of a model whose layers are rounded one by one."""
    checkpoint = open_checkpoint(source)
    family = family_of(checkpoint.config)
    write_rest(folder, checkpoint, family, embedding_bits)
    names = [name for i in range(family.n_blocks) for name in family.linears(i)]
    for i, name in enumerate(names):
        W = checkpoint[f"{name}.weight"]
        packed = lplr.quantize(W.T if family.transposed else W, bits=bits, granularity="row")
        write_layer(folder, i, name, packed, {"relative_error": 0.25})
    finish(folder, {"method": "quantize"}, {names[0]: {"seconds": 1.5}})
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "source")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return compressed(source, tmp_path / "small")


def test_what_was_written_comes_back_packed(source: Path, folder: Path) -> None:
    network, original = lplr.models.load(folder), lplr.models.open_network(source)
    name = "model.layers.1.mlp.up_proj.weight"
    assert isinstance(network.tensors[name], lplr.Quantized)
    assert network.tensors.keys() == original.tensors.keys() == network.family.tensors().keys()
    kept = [name for name, f in network.tensors.items() if not isinstance(f, lplr.Quantized)]
    assert len(kept) == 2 + 2 * 2
    for name in kept:
        assert np.array_equal(network.tensors[name], original.tensors[name])
    # 8 bits by rows: the step is 1/255 of a range of about five standard deviations.
    change = (
        np.abs(network.logits(IDS) - original.logits(IDS)).max()
        / np.abs(original.logits(IDS)).max()
    )
    assert 0 < change < 0.05
    manifest = network.tensors.manifest
    entry = manifest["layers"][0]
    assert entry["seconds"] == 1.5
    assert entry["relative_error"] == 0.25
    assert entry["bits_per_entry"] == 8 + 64 / 32
    assert manifest["totals"]["whole"]["weights"] == sum(t.size for t in original.tensors.values())


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_embeddings_give_the_rows_that_were_asked_for(
    source: Path, tmp_path: Path, bits: int
) -> None:
    network = lplr.models.load(compressed(source, tmp_path / "small", embedding_bits=bits))
    E = network.tensors["model.embed_tokens.weight"]
    assert np.array_equal(network.embed(IDS), E.to_dense()[IDS])
    h = np.random.default_rng(0).standard_normal((2, 3, 32)).astype(np.float32)
    normed = network.head(h)
    assert normed.shape == (2, 3, 120)
    original = lplr.models.open_network(source).head(h)
    # Rounding to a uniform grid: range over levels, times 1/sqrt(12), against unit variance.
    error = np.linalg.norm(normed - original) / np.linalg.norm(original)
    assert error < 5 / 2**bits


def test_any_flipped_byte_is_found(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lplr.models.load(folder).tensors.verify()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 4 + 14
    for path in files:
        data = path.read_bytes()
        for place in rng.integers(len(data), size=6 if path.suffix == ".h5" else 40):
            damaged = bytearray(data)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            with pytest.raises(CorruptFileError, match=path.name.replace(".", r"\.")):
                lplr.models.load(folder).tensors.verify()
        path.write_bytes(data)


def test_a_folder_that_is_not_as_described_is_refused(folder: Path, tmp_path: Path) -> None:
    layer = folder / "layers" / "00003.h5"
    data = layer.read_bytes()
    layer.unlink()
    with pytest.raises(CorruptFileError, match="00003.h5: is missing"):
        lplr.models.load(folder)
    layer.write_bytes(data[:-1])
    with pytest.raises(CorruptFileError, match="00003.h5: has"):
        lplr.models.load(folder)
    layer.unlink()
    (tmp_path / "elsewhere.h5").write_bytes(data)
    layer.symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(UnsafeFileError, match="layers/00003.h5"):
        lplr.models.load(folder)
    layer.unlink()
    layer.write_bytes(data)
    (folder / "layers" / "notes.txt").write_text("mine")
    with pytest.raises(CorruptFileError, match="notes.txt: does not belong"):
        lplr.models.load(folder)
    (folder / "layers" / "notes.txt").unlink()
    (folder / f".lplr-{'0' * 32}.tmp").write_text("left by a kill")
    lplr.models.load(folder).tensors.verify()
    (folder / "model.json").unlink()
    with pytest.raises(MissingFileError, match="not finished"):
        lplr.models.load(folder)
