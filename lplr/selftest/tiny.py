"""Tiny random networks on disk, and what is compared of compressed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lplr.models.families import family_of
from lplr.storage.safetensors import safetensors

__all__ = ["CONFIG", "TOKENS", "content", "tiny_checkpoint"]

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "tie_word_embeddings": True,
}
TOKENS = np.random.default_rng(1).integers(0, 100, (8, 16))


def tiny_checkpoint(folder: Path, change: Any = None, **config: Any) -> Path:
    """A folder in the form of Hugging Face; ``change`` may alter its tensors."""
    said = CONFIG | config
    rng = np.random.default_rng(0)
    tensors = {
        name: (1 + 0.1 * rng.standard_normal(shape)).astype(np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
        for name, shape in family_of(said).tensors().items()
    }
    if change is not None:
        change(tensors)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(said))
    kinds = {name: ("F32", tensor.shape) for name, tensor in tensors.items()}
    pieces = safetensors(kinds, lambda name: tensors[name].astype("<f4"))
    (folder / "model.safetensors").write_bytes(b"".join(pieces))
    return folder


def content(folder: Path) -> dict[str, Any]:
    """Every file of a compressed model; of its manifest all but times, and what depends on them."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = json.loads(found["model.json"])["model"]
    for layer in manifest["layers"]:
        assert layer.pop("seconds") > 0
    return found | {"model.json": manifest}
