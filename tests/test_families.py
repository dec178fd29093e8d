"""Networks of each family against what transformers computes (fixtures/make_models.py)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.models.block import Context, KeyValues
from lplr.models.checkpoint import open_checkpoint
from lplr.models.families import family_of
from lplr.models.network import Network

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
