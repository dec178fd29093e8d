"""Calibration: walks through blocks, second moments, and targets behind compressed layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.models import calibration
from lplr.models.block import Context
from lplr.models.calibration import States, compress_block, first_states, second_moments
from lplr.models.correction import Moments, corrected
from lplr.models.families import family_of
from lplr.models.network import Network
from lplr.models.walk import Walk

Layers = Sequence[tuple[str, np.ndarray, np.ndarray]]
LLAMA = {
    "model_type": "llama",
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}
BERT = {
    "model_type": "bert",
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}


def network(config: dict[str, Any]) -> Network:
    family = family_of(config)
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in family.tensors().items():
        norm = len(shape) == 1 and name.endswith("weight")
        noise = rng.standard_normal(shape) / np.sqrt(shape[-1])
        tensors[name] = (1 + noise if norm else 2 * noise).astype(np.float32)
    return Network(family, tensors)


def tokens(sequences: int, length: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 60, (sequences, length))


@pytest.mark.parametrize("config", [LLAMA, BERT])
def test_a_walk_ends_where_the_block_does(config: dict[str, Any]) -> None:
    net, ids = network(config), tokens(5, 20)
    mask = np.arange(20) < np.array([16, 9, 16, 4, 12])[:, None]
    h = net.embed(ids)
    expected = net.block(0)(h, Context(mask=mask))
    walk = Walk((net.block(0),), (h,), mask)
    for stage in net.block(0).stages:
        walk.inputs(stage, None)
    walk.finish()
    # What a stage leaves is kept in 16 bits.
    assert np.abs(h - expected)[mask].max() < 1e-3 * np.abs(expected).max()


def test_second_moments_are_those_of_the_inputs() -> None:
    net, ids = network(LLAMA), tokens(3, 16)
    mask = np.arange(16) < np.array([14, 10, 14])[:, None]
    found = {name: (H, n) for names, H, n in second_moments(net, ids, mask) for name in names}
    assert set(found) == {name for i in range(2) for name in net.family.linears(i)}
    block = net.block(0)
    h, x = net.embed(ids), None
    for stage in block.stages:
        seen = stage.inputs(h, x)[mask].astype(np.float64)
        for name in stage.linears:
            H, n = found[f"model.layers.0.{name}"]
            assert n == mask.sum()
            np.testing.assert_allclose(H, seen.T @ seen / n, rtol=1e-3, atol=1e-3 * H.max())
        h, x = block.step(stage, h, x, Context(mask=mask))


def test_the_target_is_half_way_to_the_least_squares_solution() -> None:
    rng = np.random.default_rng(0)
    W, gap = rng.standard_normal((2, 5, 8)).astype(np.float32)
    x = rng.standard_normal((2000, 8)).astype(np.float32)
    z = (x + 0.3 * x[:, ::-1]).astype(np.float32)
    missing = (x - z) @ W.T + z @ gap.T
    fit, held_out = (Moments.of(z[p], missing[p]) for p in (slice(0, 1500), slice(1500, None)))
    target, record = corrected(W, fit, held_out)
    best = np.linalg.lstsq(z, x @ W.T + z @ gap.T, rcond=None)[0].T
    # The ridge pulls the solution towards W.
    np.testing.assert_allclose(target, (W + best) / 2, atol=0.1 * np.abs(best - W).max())
    assert record["correction"] == 0.5
    step = target - W  # the change of the error, which a record has relative to that of W z
    error = np.square(missing[1500:] - z[1500:] @ step.T).sum() - np.square(missing[1500:]).sum()
    change = error / np.square(z[1500:] @ W.T).sum()
    np.testing.assert_allclose(record["held_out_change"], change, rtol=0.05)  # 0.02: other tokens


def test_a_step_that_fails_on_held_out_tokens_is_not_taken() -> None:
    rng = np.random.default_rng(0)
    W, z = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((40, 8))
    missing = rng.standard_normal((40, 5))  # which z says nothing of
    target, record = corrected(
        W, Moments.of(z[:10], missing[:10]), Moments.of(z[10:], missing[10:])
    )
    assert record["correction"] == 0
    assert record["held_out_change"] >= 0
    np.testing.assert_array_equal(target, W)


class _Noisy:
    """A packed layer that is off by a little."""

    def __init__(self, W: np.ndarray) -> None:
        self.W = (W + 0.1 * np.random.default_rng(0).standard_normal(W.shape)).astype(np.float32)

    def to_dense(self) -> np.ndarray:
        return self.W


def run(net: Network, states: States, done: dict[str, Any]) -> dict[str, Any]:
    kept = dict(done)
    compress_block(
        net,
        0,
        states,
        lambda layers: (_Noisy(W) for _, W, _ in layers),
        done,
        lambda name, packed, record: kept.update({name: packed}),
    )
    return kept


def test_layers_that_are_done_change_nothing() -> None:
    net, ids = network(LLAMA), tokens(300, 16)
    states, again = first_states(net, ids), first_states(net, ids)
    kept = run(net, states, {})
    some = {name: kept[name] for name in list(kept)[:4]}
    repeated = run(net, again, some)
    for name in kept:
        np.testing.assert_array_equal(kept[name].W, repeated[name].W)
    np.testing.assert_array_equal(states.compressed, again.compressed)
    np.testing.assert_array_equal(states.original, again.original)


def test_correction_brings_hidden_states_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    net, ids = network(LLAMA), tokens(600, 16)
    errors = []
    for with_correction in (True, False):
        if not with_correction:
            monkeypatch.setattr(calibration, "corrected", lambda W, fit, held_out: (W, {}))
        states = first_states(net, ids)
        run(net, states, {})
        errors.append(states.relative_error())
    assert errors[0] < errors[1]


def test_the_bytes_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    net, ids = network(LLAMA), tokens(700, 16)
    found = []
    for threads in "12":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        states = first_states(net, ids)
        kept = run(net, states, {})
        found.append([states.compressed.tobytes(), *(f.W.tobytes() for f in kept.values())])
    assert found[0] == found[1]


def test_packed_layers_are_coded_under_the_moments_of_their_inputs() -> None:
    net, ids = network(LLAMA), tokens(64, 16)
    states = first_states(net, ids)
    errors = {}

    def code(layers: Layers) -> Iterator[Any]:
        for name, W, H in layers:
            f = lplr.compress(W, bits_per_entry=4, hessian=H, rng=0)
            errors[name] = f.relative_error(W, H)
            yield f

    compress_block(net, 0, states, code, {}, lambda *_: None)
    assert len(errors) == 7
    assert max(errors.values()) < 0.3


def test_without_the_prefix_layers_are_those_of_the_original_for_its_inputs() -> None:
    net, ids = network(LLAMA), tokens(300, 16)
    states = first_states(net, ids)
    seen = {}

    def code(layers: Layers) -> Iterator[Any]:
        for name, W, H in layers:
            seen[name] = W, H
            yield _Noisy(W)

    compress_block(net, 0, states, code, {}, lambda *_: None, prefix=False)
    expected = {name: H for names, H, _ in second_moments(net, ids) for name in names}
    for name, (W, H) in seen.items():
        np.testing.assert_array_equal(W, net.tensors[f"{name}.weight"])
        np.testing.assert_allclose(H, expected[name], rtol=1e-5, atol=1e-6 * H.max())
