"""lplr model generate: what it writes while it runs, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.cli.main import main
from lplr.models.families import family_of
from lplr.models.writers import export_folder

CONFIG = {
    "model_type": "llama",
    **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 50},
    **{"num_attention_heads": 4, "max_position_embeddings": 20, "rms_norm_eps": 1e-6},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer of single bytes, some of which are parts of characters."""
    tokenizers = pytest.importorskip("tokenizers")
    pieces = ["<end>", *(f"<0x{byte:02X}>" for byte in (0xC3, 0xA9, *range(97, 122)))]
    model = tokenizers.models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True
    )
    tokenizer = tokenizers.Tokenizer(model)
    decoders = tokenizers.decoders
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    path = tmp_path_factory.mktemp("model") / "tiny"
    shapes, rng = family_of(CONFIG).tensors(), np.random.default_rng(3)
    tensors: dict[str, Any] = {
        name: (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)
        for name, shape in shapes.items()
    }
    tensors["lm_head.weight"][len(pieces) :] = 0  # rows without a token are never the best
    files = {
        "tokenizer.json": tokenizer.to_str().encode(),
        "generation_config.json": json.dumps({"eos_token_id": [0]}).encode(),
    }
    export_folder(str(path), CONFIG, shapes, tensors.__getitem__, files)
    return path


def expected(folder: Path, ids: list[int], n: int) -> list[int]:
    network = lplr.models.open_network(folder)
    return list(lplr.models.generate(network, ids, max_tokens=n, stop=[0]))


def test_ids_and_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = expected(folder, [3, 4], 6)
    assert main(["model", "generate", str(folder), "--ids", "3", "4", "--max-tokens", "6"]) == 0
    found = capsys.readouterr()
    assert found.out == "".join(f"{token} " for token in tokens) + "\n"
    assert found.err.startswith("2 tokens read in ")
    assert "tokens/s" in found.err
    options = ["--prompt", "ab", "--max-tokens", "6"]
    assert main(["model", "generate", str(folder), *options]) == 0
    tokenizer = lplr.models.open_tokenizer(lplr.models.open_network(folder).tensors)
    assert capsys.readouterr().out == tokenizer.decode(tokens, special_tokens=False) + "\n"


def test_interrupted_it_keeps_what_was_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(*args: Any, **options: Any) -> Iterator[int]:
        yield from [3, 1]  # the second is half a character
        raise KeyboardInterrupt

    monkeypatch.setattr("lplr.models.generation.generate", some)
    assert main(["model", "generate", str(folder), "--prompt", "ab"]) == 130
    found = capsys.readouterr()
    assert found.out == "a\n"
    assert found.err.endswith("tokens/s\nlplr: interrupted\n")


def test_a_generation_config_that_is_none(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text("[]")
    assert main(["model", "generate", str(tmp_path / "model"), "--ids", "3"]) == 2
    assert "error: generation_config.json: is not valid JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "a" * 20], "the prompt has 20 tokens; the model takes 20"),
        (["--ids", "50"], "0 to 49"),
        (["--prompt", "a", "--top-p", "2"], "--top-p"),
        (["--prompt", "a", "--max-tokens", "0"], "--max-tokens"),
        (["--prompt", "a", "--ids", "1"], "not allowed with"),
        ([], "--prompt"),
    ],
)
def test_refusals(
    folder: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "generate", str(folder), *options]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert said in found.err
