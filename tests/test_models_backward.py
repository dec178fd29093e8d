"""The way back through networks: central differences in float64, and what torch finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_families import FOLDER, NAMES, network, reference

import lplr
from lplr.models import losses, ops, ops_backward
from lplr.models.block import Block, Context, Linear

RNG = np.random.default_rng(3)
STEP = 1e-5


def slope(of: Callable[[float], Any]) -> Any:
    """The derivative at 0, to the fourth order in ``STEP``."""
    near, far = ((of(k * STEP) - of(-k * STEP)) / (2 * k * STEP) for k in (1, 2))
    return (4 * near - far) / 3


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def check(loss: Callable[[], float], x: np.ndarray, gradient: Any) -> None:
    """The gradient by the array x, which loss reads, along a random direction."""
    direction, before = normal(*x.shape), x.copy()
    gradient = np.asarray(gradient)
    assert gradient.shape == x.shape
    assert gradient.dtype == np.float64

    def moved(step: float) -> float:
        x[...] = before + step * direction
        return loss()

    expected = slope(moved)
    x[...] = before
    # Rounding of losses of size 100 leaves 1e-9; the gradient by biases of keys is zero.
    tolerance = 1e-8 + 1e-7 * np.linalg.norm(gradient * direction)
    assert abs(np.vdot(gradient, direction) - expected) < tolerance


def test_norms() -> None:
    x, gain, bias, weight = normal(2, 3, 20), normal(20), normal(20), normal(2, 3, 20)

    def rms() -> float:
        return float(np.vdot(weight, ops.rms_norm(x, gain, 1e-2)))

    def layer() -> float:
        return float(np.vdot(weight, ops.layer_norm(x, gain, bias, 1e-2)))

    for array, gradient in zip(
        (x, gain), ops_backward.rms_norm_back(x, gain, 1e-2, weight), strict=True
    ):
        check(rms, array, gradient)
    for array, gradient in zip(
        (x, gain, bias), ops_backward.layer_norm_back(x, gain, 1e-2, weight), strict=True
    ):
        check(layer, array, gradient)


@pytest.mark.parametrize("name", ops.ACTIVATIONS)
def test_activations(name: str) -> None:
    """Entry by entry, in more than one piece, and where the gate is 0 or 1."""
    x = np.concatenate([np.linspace(-8, 8, 40_001) + 1e-4, [-100, 100]])
    of = ops.ACTIVATIONS[name]
    found = ops_backward.activation_back(name, x, np.ones_like(x))
    gate, up = ops_backward.gated_back(name, x, x + 3, x - 2)
    np.testing.assert_allclose(gate, found * (x + 3) * (x - 2), rtol=1e-12)
    np.testing.assert_allclose(up, of(x) * (x - 2), rtol=1e-12)
    near = np.abs(np.abs(x) - ops.FAR) > 2 * STEP  # where the gate has a corner
    expected = slope(lambda step: of(x + step))
    np.testing.assert_allclose(found[near], expected[near], rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "window", "masked"),
    [
        (5, 5, True, None, False),
        (70, 70, True, None, True),
        (140, 140, True, 9, False),
        (70, 80, True, 70, True),
        (66, 66, False, None, True),
    ],
)
def test_attention(queries: int, keys: int, causal: bool, window: int | None, masked: bool) -> None:
    """Two key heads, each for two query heads; the first keys may be hidden from all queries."""
    q, k, v = normal(2, 4, queries, 4), normal(2, 2, keys, 4), normal(2, 2, keys, 4)
    mask = RNG.random((2, keys)) < 0.7 if masked else None
    if mask is not None:
        mask[0, :2] = False
    weight = normal(2, queries, 16)
    options: dict[str, Any] = {"scale": 0.5, "causal": causal, "window": window, "mask": mask}

    def loss() -> float:
        return float(np.vdot(weight, ops.attention(q, k, v, **options)))

    found = ops_backward.attention_back(q, k, v, weight, **options)
    for array, gradient in zip((q, k, v), found, strict=True):
        check(loss, array, gradient)


def double(name: str) -> tuple[Block, dict[str, np.ndarray]]:
    """The second block in float64, and its tensors by their names in it."""
    family = network(name).family
    at = family.prefix(1)
    tensors = {
        key: np.array(value, np.float64)
        for key, value in network(name).tensors.items()
        if key.startswith(at)
    }
    block = family.block(tensors, 1)
    return block, {key.removeprefix(at): value for key, value in tensors.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_block(name: str) -> None:
    """By its input, all weights, biases, norms; with padding, scales and corrections."""
    block, tensors = double(name)
    linears = dict(block.linears)
    first = next(iter(linears))
    n, d = linears[first].weight.shape
    L, R = normal(n, 2), normal(2, d) / d**0.5
    linears[first] = replace(linears[first], correction=(L, R), scale=0.75)
    block = Block(block.stages, linears)
    h, weight = normal(2, 20, 32), normal(2, 20, 32)
    mask = np.ones((2, 20), bool)
    mask[1, 15:] = False
    weight[~mask] = 0
    context = Context(mask=mask)

    def loss() -> float:
        return float(np.vdot(weight, block(h, context)))

    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    before = weight.copy()
    dh, gains = block.backward(h, weight, context, lambda name, *found: seen.update({name: found}))
    np.testing.assert_array_equal(weight, before)
    np.testing.assert_array_equal(dh[~mask], 0)
    check(loss, h, dh)
    assert seen.keys() == linears.keys()
    named = {f"{key}.scale" for key in linears}
    assert gains.keys() == named | {key for key in tensors if "orm" in key or "ln_" in key}
    for key in gains.keys() - named:
        check(loss, tensors[key], gains[key])
    for key, (u, dy) in seen.items():
        u, dy = u.reshape(-1, u.shape[-1]), dy.reshape(-1, dy.shape[-1])
        scale = linears[key].scale
        check(loss, linears[key].weight, scale * dy.T @ u)
        if linears[key].bias is not None:
            check(loss, linears[key].bias, dy.sum(axis=0))
        if key == first:
            check(loss, L, dy.T @ (u @ R.T))
            check(loss, R, (dy @ L).T @ u)
        found = np.vdot(dy, u @ linears[key].weight.T)
        assert abs(gains[f"{key}.scale"] - found) < 1e-10 * np.linalg.norm(dy) * np.linalg.norm(u)


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_the_head(name: str) -> None:
    """Through the last norm, in slices of tokens, some of which are not whole."""
    family = network(name).family
    tensors = {
        key: np.array(value, np.float64)
        for key, value in network(name).tensors.items()
        if not key.startswith(family.prefix(0)[:-2])
    }
    h, original = normal(300, 32), normal(300, 32)
    targets = RNG.integers(0, 96, 300)

    def entropy(logits: np.ndarray, part: slice) -> tuple[float, np.ndarray]:
        return losses.cross_entropy(logits, targets[part])

    fixed = {key: value.copy() for key, value in tensors.items()}

    def divergence(logits: np.ndarray, part: slice) -> tuple[float, np.ndarray]:
        return losses.kl_divergence(logits, family.head(fixed, original[part]))

    for loss in (entropy, divergence):

        def total(loss: Any = loss) -> float:
            return float(loss(family.head(tensors, h[None])[0], slice(0, 300))[0])

        found, dh, gains = family.head_back(tensors, h, loss)
        np.testing.assert_allclose(found, total(), rtol=1e-12)
        check(total, h, dh)
        assert {key for key in tensors if "norm" in key or "ln_f" in key} == gains.keys()
        for key, gain in gains.items():
            check(total, tensors[key], gain)


def test_the_head_of_an_encoder_is_the_loss_alone() -> None:
    h = normal(5, 32)
    found = network("bert").family.head_back({}, h, lambda x, part: (float(x.sum()), x))
    assert found[0] == h.sum()
    np.testing.assert_array_equal(found[1], h)


def test_losses() -> None:
    """Against plain sums; the draw of a token against the sum of probabilities one by one."""
    y, z = 3 * normal(7, 1000), 3 * normal(7, 1000)
    q, p = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (y, z))
    uniform, targets = RNG.random(7), np.arange(7)
    loss, gradient = losses.kl_divergence(y.copy(), z.copy())
    np.testing.assert_allclose(loss, np.sum(p * np.log(p / q)), rtol=1e-12)
    np.testing.assert_allclose(gradient, q - p, atol=1e-15)
    loss, gradient = losses.cross_entropy(y.copy(), targets)
    np.testing.assert_allclose(loss, -np.log(q[targets, targets]).sum(), rtol=1e-12)
    np.testing.assert_allclose(gradient, q - np.eye(7, 1000), atol=1e-15)
    loss, gradient, drawn = losses.sampled_loss(y.copy(), uniform)
    expected = [next(i for i in range(1000) if q[t, : i + 1].sum() > uniform[t]) for t in range(7)]
    np.testing.assert_array_equal(drawn, expected)
    again = losses.cross_entropy(y.copy(), drawn)
    np.testing.assert_allclose(loss, again[0], rtol=1e-12)
    np.testing.assert_array_equal(gradient, again[1])


def test_a_network_against_itself_has_no_gradient() -> None:
    y = normal(5, 700).astype(np.float32)
    loss, gradient = losses.kl_divergence(y.copy(), y.copy())
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


def test_tokens_are_drawn_as_likely_as_they_are() -> None:
    """Uniform numbers on a grid draw each token as often as its share says, but for its ends."""
    logits = np.tile(normal(300).astype(np.float32), (1000, 1))
    q = np.exp(logits[0].astype(float))
    drawn = losses.sampled_loss(logits, (np.arange(1000) + 0.5) / 1000)[2]
    assert np.max(np.abs(np.bincount(drawn, minlength=300) - 1000 * q / q.sum())) < 1 + 1e-3


# --- whole networks ---------------------------------------------------------------------------


def gradients(name: str) -> dict[str, np.ndarray]:
    """What fixtures/make_models.py keeps of torch's gradients, found here in float32."""
    net, given = network(name), reference(name)
    ids, mask, family = given["ids"], given["mask"], net.family
    context = Context(mask=mask)
    states = [net.embed(ids)]
    for i in range(family.n_blocks):
        states.append(net.block(i)(states[-1], context))
    dh = np.zeros_like(states[-1])
    if family.causal:
        asked, rows = mask[:, 1:], states[-1][:, :-1][mask[:, 1:]]
        targets = ids[:, 1:][asked]
        loss, back, gains = family.head_back(
            net.tensors, rows, lambda y, part: losses.cross_entropy(y, targets[part])
        )
        dh[:, :-1][asked] = back
        found = {key: gain[::3] for key, gain in gains.items()}
    else:
        dh[mask, ::2] = states[-1][mask, ::2]
        loss, found = float(np.sum(dh.astype(float) ** 2)) / 2, {}

    def see(key: str, u: np.ndarray, dy: np.ndarray) -> None:
        u, dy = u.reshape(-1, u.shape[-1]), dy.reshape(-1, dy.shape[-1])
        dW = u.T @ dy if family.transposed else dy.T @ u
        kept[f"{key}.weight"] = dW[::5, ::3]
        kept[f"{key}.bias"] = dy.sum(axis=0)[::3]

    for i in reversed(range(family.n_blocks)):
        kept: dict[str, np.ndarray] = {}
        dh, gains = net.block(i).backward(states[i], dh, context, see)
        kept |= {key: gain[::3] for key, gain in gains.items() if gain.ndim}
        found |= {family.prefix(i) + key: value for key, value in kept.items()}
        found[f"states.{i}"] = dh[:, ::8]
    return found | {"loss": np.float64(loss)}


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_torch(name: str) -> None:
    expected = dict(np.load(FOLDER / name / "gradients.npz"))
    found = gradients(name)
    assert found.keys() >= expected.keys()
    for key, value in expected.items():
        # Measured: up to 4e-6 of the norm; the gradient by biases of keys of an encoder is zero.
        assert np.linalg.norm(found[key] - value) < 2e-5 * (1 + np.linalg.norm(value)), key


def test_packed_weights_go_back_as_they_are_decoded() -> None:
    W = lplr.quantize(normal(12, 20).astype(np.float32), bits=4)
    x, dy = normal(1, 30, 20).astype(np.float32), normal(1, 30, 12).astype(np.float32)
    packed = Linear(W, scale=0.5)
    found, expected = packed.back(x, dy), packed.decoded().back(x, dy)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert packed.decoded().scale == 0.5
