"""Networks of each family against what transformers computes (fixtures/make_models.py)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import minilm, smollm2

import lplr
from lplr.models.block import Context, KeyValues
from lplr.models.checkpoint import open_checkpoint
from lplr.models.families import family_of
from lplr.models.network import Network
from lplr.storage.safetensors import safetensors

FOLDER = Path(__file__).parent / "fixtures" / "models"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))
DECODERS = [name for name in NAMES if name != "bert"]


def config_of(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "config.json").read_text())


@functools.cache
def network(name: str) -> Network:
    """A network whose folder has no tensors takes those of the family's plain one."""
    return Network(family_of(config_of(name)), dict(open_checkpoint(FOLDER / name.split("-")[0])))


@functools.cache
def reference(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(FOLDER / name / "outputs.npz"))


def relative(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_agrees_with_transformers(name: str) -> None:
    found, expected = network(name), reference(name)
    what = "logits" if found.family.causal else "hidden"
    kept = expected["mask"][:, ::8]
    mine = getattr(found, what)(expected["ids"], expected["mask"])[:, ::8]
    assert np.std(expected[what][kept]) > 0.5  # the outputs say something
    assert relative(mine[kept], expected[what][kept]) < 1e-5  # measured: 3e-7 to 1e-6


@pytest.mark.parametrize("name", DECODERS)
def test_step_by_step_with_a_cache_equals_all_at_once(name: str) -> None:
    found, ids = network(name), reference(name)["ids"][:1, :40]
    caches = [KeyValues() for _ in range(found.family.n_blocks)]
    blocks = [found.block(i) for i in range(found.family.n_blocks)]
    logits = []
    for start, stop in [(0, 11), *((i, i + 1) for i in range(11, 30)), (30, 40)]:
        h = found.embed(ids[:, start:stop], Context(start))
        for block, cache in zip(blocks, caches, strict=True):
            h = block(h, Context(start, cache=cache))
        logits.append(found.head(h))
    assert relative(np.concatenate(logits, axis=1), found.logits(ids)) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_threads_and_company_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, given = network(name), reference(name)
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    two = found.hidden(given["ids"], given["mask"])
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    alone = [found.hidden(given["ids"][i : i + 1], given["mask"][i : i + 1]) for i in range(2)]
    np.testing.assert_array_equal(two, np.concatenate(alone))


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str) -> None:
    found, ids = network(name), reference(name)["ids"][:1]
    mask = np.arange(96) < 50
    padded, short = found.hidden(ids, mask[None]), found.hidden(ids[:, :50])
    assert relative(padded[:, :50], short) < 1e-6
    other = found.hidden(np.where(mask, ids, 5), mask[None])
    np.testing.assert_array_equal(other[:, :50], padded[:, :50])


@pytest.mark.parametrize("name", DECODERS)
def test_blocks_one_by_one_equal_all_at_once(name: str) -> None:
    found, ids = network(name), reference(name)["ids"]
    h = found.embed(ids)
    for i in range(found.family.n_blocks):
        h = found.block(i)(h)
    assert relative(found.head(h), found.logits(ids)) < 1e-6


def test_tensors_outside_of_blocks_are_read_once() -> None:
    """Converting an embedding for each token that is generated would take most of the time."""

    class Counted(dict[str, np.ndarray]):
        def __getitem__(self, name: str) -> np.ndarray:
            read.append(name)
            return super().__getitem__(name)

    read: list[str] = []
    found = Network(network("gpt2").family, Counted(network("gpt2").tensors))
    for _ in range(2):
        found.head(found.embed(np.array([[1, 2]])))
    assert len(read) == len(set(read)) == 4  # tokens, positions, gain and bias of the last norm


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_embeddings_agree_with_transformers(pooling: str) -> None:
    expected = reference("bert")
    family = family_of({**config_of("bert"), "pooling": pooling, "normalize": pooling == "mean"})
    found = Network(family, network("bert").tensors)
    assert relative(found.embeddings(expected["ids"], expected["mask"]), expected[pooling]) < 1e-5
    without_mask = found.embeddings(expected["ids"])
    assert relative(without_mask[0], expected[pooling][0]) < 1e-5


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "bert"])
def test_any_weight_may_be_packed(name: str) -> None:
    """As good as the same network with its decoded weights, together and one by one."""
    family, tensors = network(name).family, dict(network(name).tensors)
    tables = [key for key, shape in family.tensors().items() if shape == (96, family.width)]
    layers = [f"{key}.weight" for i in range(family.n_blocks) for key in family.linears(i)]
    packed, dense = dict(tensors), dict(tensors)
    for key in tables + layers:
        turned = family.transposed and key in layers
        packed[key] = lplr.quantize(tensors[key].T if turned else tensors[key], bits=4)
        dense[key] = packed[key].to_dense().T if turned else packed[key].to_dense()
    ids = reference(name)["ids"][:, :20]
    expected = Network(family, dense).hidden(ids)
    found = Network(family, packed)
    assert relative(found.hidden(ids), expected) < 1e-6
    h = found.embed(ids)
    for i in range(family.n_blocks):
        h = found.block(i)(h)  # products on packed codes
    assert relative(h, expected) < 1e-5
    if family.causal:
        assert relative(found.head(h), Network(family, dense).head(h)) < 1e-5
    assert relative(expected, network(name).hidden(ids)) > 1e-2  # 4 bits are not 16


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("llama-linear", {"type": "linear", "factor": 4}),
        ("llama-llama3", {"rope_type": "llama3"}),
    ],
)
def test_both_ways_to_write_the_scaling_of_positions(name: str, old: dict[str, Any]) -> None:
    """Those of transformers before version 5, where theta stood beside."""
    config = config_of(name)
    new = config.pop("rope_parameters")
    config |= {"rope_theta": new.pop("rope_theta"), "rope_scaling": {**new, **old}}
    found = Network(family_of(config), network(name).tensors)
    ids = reference(name)["ids"]
    np.testing.assert_array_equal(found.hidden(ids), network(name).hidden(ids))


@pytest.mark.parametrize(
    ("name", "theirs", "surplus"),
    [
        ("bert", lambda key: "bert." + key, "bert.pooler.dense.weight"),
        (
            "bert",
            lambda key: key.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"),
            "embeddings.position_ids",
        ),
        ("gpt2", lambda key: key.removeprefix("transformer."), "h.0.attn.bias"),
        ("llama", lambda key: key.removeprefix("model."), "layers.0.self_attn.rotary_emb.inv_freq"),
    ],
)
def test_other_names_of_tensors(name: str, theirs: Any, surplus: str, tmp_path: Path) -> None:
    tensors = {theirs(key): tensor for key, tensor in network(name).tensors.items()}
    assert tensors.keys() != network(name).tensors.keys()
    tensors[surplus] = np.zeros((1, 3), np.float32)
    (tmp_path / "config.json").write_text(json.dumps(config_of(name)))
    shapes = {key: ("F32", tensor.shape) for key, tensor in tensors.items()}
    pieces = safetensors(shapes, lambda key: np.ascontiguousarray(tensors[key]).tobytes())
    (tmp_path / "model.safetensors").write_bytes(b"".join(pieces))
    checkpoint, family = open_checkpoint(tmp_path), family_of(config_of(name))
    found = {key for key in checkpoint if not family.ignored(key)}
    assert found == family.tensors().keys()
    assert len(checkpoint) == len(found) + 1


# --- real networks ---------------------------------------------------------------------------


def test_minilm_agrees_with_transformers() -> None:
    checkpoint = minilm()
    found = Network(family_of(checkpoint.config), checkpoint)
    expected = dict(np.load(FOLDER / "minilm.npz"))
    given = expected["ids"], expected["mask"]
    assert relative(found.hidden(*given)[:, 0], expected["hidden"]) < 1e-4
    assert relative(found.embeddings(*given), expected["embeddings"]) < 1e-4


def test_smollm2_agrees_with_transformers() -> None:
    checkpoint = smollm2()
    expected = dict(np.load(FOLDER / "smollm2.npz"))
    found = Network(family_of(checkpoint.config), checkpoint)
    h = found.hidden(expected["ids"])[:, 7::8]
    assert relative(found.head(h)[..., ::64], expected["logits"]) < 1e-4
