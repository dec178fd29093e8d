"""Generation against networks that see everything anew, and draws against their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lplr
from lplr.exceptions import InputError
from lplr.models.block import Context, KeyValues
from lplr.models.families import family_of
from lplr.models.families.base import Family
from lplr.models.generation import _logits, draw, generate
from lplr.models.network import Network

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 50}
FAMILIES: dict[str, Family] = {
    kind: family_of({"model_type": kind, **SIZES, "num_attention_heads": 4, **more})
    for kind, more in {
        "llama": {"num_key_value_heads": 2, "tie_word_embeddings": True},
        "mistral": {"num_key_value_heads": 1, "sliding_window": 5},
        "qwen2": {},
        "qwen3": {"head_dim": 8},
    }.items()
}
FAMILIES["gpt2"] = family_of(
    {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 50}
    | {"n_positions": 20}
)


def tiny(family: Family) -> Network:
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in family.tensors().items()
    }
    return Network(family, tensors)


def logits_of_all(network: Network, ids: list[int]) -> np.ndarray:
    """Logits after the last token, without a cache."""
    h = network.embed(np.array([ids]), Context())
    for i in range(network.family.n_blocks):
        h = network.block(i)(h)
    return network.head(h)[0, -1]


@pytest.mark.parametrize("kind", FAMILIES)
def test_generation_is_that_of_a_network_without_cache(kind: str) -> None:
    network = tiny(FAMILIES[kind])
    ids = [7, 3, 49, 0, 7, 12]
    for token in generate(network, ids, max_tokens=12):
        logits = logits_of_all(network, ids)
        # The order of the sums differs: a token as good as the best one would be right, too.
        assert logits[token] >= logits.max() - 1e-5 * np.abs(logits).max()
        ids = [*ids, token]
    assert len(ids) == 18


def test_packed_layers_say_what_decoded_ones_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few tokens at once, then one."""
    family, tensors = FAMILIES["llama"], dict(tiny(FAMILIES["llama"]).tensors)
    for name in (name for i in range(family.n_blocks) for name in family.linears(i)):
        tensors[f"{name}.weight"] = lplr.caldera(tensors[f"{name}.weight"], rank=2, rng=0)
    network = Network(family, tensors)
    blocks = [network.block(i) for i in range(family.n_blocks)]
    found = []
    for threads in "13":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        caches = [KeyValues() for _ in blocks]
        _logits(network, blocks, caches, np.array([7, 3, 49]), 0)
        found.append(_logits(network, blocks, caches, np.array([12]), 3))
    assert found[0].tobytes() == found[1].tobytes()
    decoded = Network(family, {name: np.asarray(tensor) for name, tensor in tensors.items()})
    expected = logits_of_all(decoded, [7, 3, 49, 12])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_token_to_stop_at_is_the_last_one() -> None:
    network = tiny(FAMILIES["llama"])
    tokens = list(generate(network, [5], max_tokens=10))
    assert len(tokens) == 10
    first = tokens.index(tokens[4])
    assert list(generate(network, [5], max_tokens=10, stop=[tokens[4]])) == tokens[: first + 1]


def test_draws_repeat_with_a_seed() -> None:
    network = tiny(FAMILIES["llama"])

    def drawn(seed: int, **options: Any) -> list[int]:
        return list(generate(network, [5], max_tokens=20, rng=seed, **options))

    assert drawn(1, top_p=0.9) == drawn(1, top_p=0.9) != drawn(2, top_p=0.9)
    assert drawn(1, temperature=2.0) != drawn(1, temperature=0.5)
    # The least set with a probability that the best token has alone; and no draw at all.
    assert drawn(1, top_p=1e-9) == drawn(2, top_p=0.9, temperature=0) == drawn(3)


def nucleus(logits: np.ndarray, temperature: float, top_p: float) -> dict[int, float]:
    """Probabilities of the tokens that may be drawn, from the definition."""
    weights = [float(np.exp(np.float64(x) / temperature)) for x in logits]
    p = [w / sum(weights) for w in weights]
    chosen: list[int] = []
    for token in sorted(range(len(p)), key=lambda i: -p[i]):
        if sum(p[i] for i in chosen) >= top_p:
            break
        chosen.append(token)
    mass = sum(p[i] for i in chosen)
    return {i: p[i] / mass for i in chosen}


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.7), (0.5, 0.95), (1.7, 1.0)])
def test_draws_have_the_probabilities_of_the_nucleus(temperature: float, top_p: float) -> None:
    rng, n = np.random.default_rng(0), 20000
    logits = np.random.default_rng(1).standard_normal(12).astype(np.float32)
    expected = nucleus(logits, temperature, top_p)
    drawn = [draw(logits, temperature, top_p, rng) for _ in range(n)]
    assert set(drawn) == set(expected)
    for token, p in expected.items():
        # Five standard deviations of a binomial share: 6e-7 of fair draws are outside.
        assert abs(drawn.count(token) / n - p) <= 5 * np.sqrt(p * (1 - p) / n)


def test_learned_positions_end_it() -> None:
    network = tiny(FAMILIES["gpt2"])
    assert len(list(generate(network, [1] * 15, max_tokens=10))) == 5
    with pytest.raises(InputError, match="20 positions"):
        generate(network, [1] * 20)


@pytest.mark.parametrize(
    ("ids", "options", "said"),
    [
        ([], {}, "at least one token"),
        ([[1, 2]], {}, "shape"),
        ([1.5], {}, "whole numbers"),
        ([3, 50], {}, "has 50; the vocabulary of the network is 0 to 49"),
        ([-1], {}, "has -1"),
        ([1], {"max_tokens": 0}, "max_tokens"),
        ([1], {"temperature": -1}, "temperature"),
        ([1], {"temperature": float("nan")}, "temperature"),
        ([1], {"top_p": 0}, "top_p"),
        ([1], {"top_p": 1.5}, "top_p"),
        ([1], {"rng": "x"}, "rng"),
    ],
)
def test_what_cannot_go_on_is_refused_at_the_call(
    ids: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        generate(tiny(FAMILIES["llama"]), ids, **options)
