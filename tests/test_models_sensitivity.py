"""Each part of a network compressed alone, against `compare` of networks put together by name."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from networks import llama, nudged

from lplr.exceptions import InputError
from lplr.models.calibration import States
from lplr.models.evaluation import forward
from lplr.models.evaluation.estimate import Estimate
from lplr.models.evaluation.scores import compare
from lplr.models.evaluation.sensitivity import Sensitivity, sensitivity
from lplr.models.families import family_of
from lplr.models.network import Network

ORIGINAL = llama()
COMPRESSED = nudged(ORIGINAL, 0.1)
IDS = np.random.default_rng(5).integers(0, 150, (3, 12))
IDS[1, 7:] = -1

# As in the tests of `compare`: logits of size 10 have float32 errors of about 1e-6 each.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def kl_of(names: list[str]) -> Estimate:
    """Of the original with these tensors of the compressed network."""
    tensors = ChainMap({name: COMPRESSED.tensors[name] for name in names}, ORIGINAL.tensors)
    found = compare(ORIGINAL, Network(ORIGINAL.family, tensors), IDS).kl
    assert found is not None
    return found


@pytest.fixture(scope="module")
def found() -> Sensitivity:
    return sensitivity(ORIGINAL, COMPRESSED, IDS)


def same(found: Estimate, expected: Estimate) -> None:
    both = [(each.value, each.standard_error) for each in (found, expected)]
    np.testing.assert_allclose(*both, **CLOSE)


def test_a_part_alone_is_the_original_with_the_tensors_of_that_part(found: Sensitivity) -> None:
    family = ORIGINAL.family
    names = list(family.tensors())
    same(found.whole, kl_of(names))
    for i, alone in enumerate(found.blocks):
        same(alone, kl_of([name for name in names if name.startswith(family.prefix(i))]))
    for kind, alone in found.kinds.items():
        same(alone, kl_of([name for name in names if name.endswith(f"{kind}.weight")]))
    inside = tuple(family.prefix(i) for i in range(family.n_blocks))
    same(found.outside, kl_of([name for name in names if not name.startswith(inside)]))
    assert len(found.blocks) == len(found.errors) == family.n_blocks
    assert min(each.value for each in found.numbers.values()) > 1e-4  # every part does differ
    assert (found.windows, found.length, found.tokens) == (3, 12, 28)


def test_errors_are_those_of_hidden_states(found: Sensitivity) -> None:
    mask = IDS >= 0
    h, g = (network.embed(np.maximum(IDS, 0)) for network in (ORIGINAL, COMPRESSED))
    for i, error in enumerate(found.errors):
        h, g = ORIGINAL.block(i)(h), COMPRESSED.block(i)(g)
        np.testing.assert_allclose(error, States(h, g, mask).relative_error(), rtol=1e-5)


def test_the_same_in_pieces_and_in_threads(
    found: Sensitivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    assert sensitivity(ORIGINAL, COMPRESSED, IDS) == found
    monkeypatch.setattr(forward, "_TOKENS", 12)
    monkeypatch.setattr(forward, "_STATES", 1)  # one sequence at a time
    shares: list[float] = []
    pieces = sensitivity(ORIGINAL, COMPRESSED, IDS, progress=lambda share, _: shares.append(share))
    for name, each in pieces.numbers.items():
        same(each, found.numbers[name])
    np.testing.assert_allclose(pieces.errors, found.errors, rtol=1e-6)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_network_that_is_the_original_has_none() -> None:
    found = sensitivity(ORIGINAL, ORIGINAL, IDS)
    assert {each.value for each in found.numbers.values()} == {0.0}
    assert set(found.errors) == {0.0}


def other(**config: Any) -> Network:
    said: Mapping[str, Any] = {
        "model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16,
        "vocab_size": 150, **config,
    }  # fmt: skip
    family = family_of(said)
    rng = np.random.default_rng(0)
    return Network(
        family, {n: rng.standard_normal(s, np.float32) for n, s in family.tensors().items()}
    )


def test_layers_that_lie_transposed() -> None:
    original = other()
    name = f"{original.family.prefix(1)}mlp.c_proj.weight"
    changed = ChainMap({name: 1.1 * original.tensors[name]}, original.tensors)
    found = sensitivity(original, Network(original.family, changed), IDS)
    assert found.blocks[0].value == 0 < found.blocks[1].value
    assert found.blocks[1] == found.kinds["mlp.c_proj"] == found.whole
    assert sum(each.value > 0 for each in found.kinds.values()) == 1


def test_what_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(InputError, match="tensors of other names or shapes than the original"):
        sensitivity(other(), other(n_layer=3), IDS)
    with pytest.raises(InputError, match="one tokenizer"):
        sensitivity(other(), other(vocab_size=160), IDS)
