"""What networks compute between linear layers, against plain loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lplr.models import ops

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """To the rounding of a few float32 operations on entries of size 1."""
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)


def test_norms() -> None:
    x, gain, bias = normal(2, 3, 20), normal(20), normal(20)
    rms, layer = np.empty(x.shape), np.empty(x.shape)
    for at in np.ndindex(2, 3):
        row = x[at].astype(float)
        mean = sum(row) / 20
        power = sum(v * v for v in row) / 20
        variance = sum((v - mean) ** 2 for v in row) / 20
        for i in range(20):
            rms[at][i] = gain[i] * row[i] / math.sqrt(power + 1e-5)
            layer[at][i] = gain[i] * (row[i] - mean) / math.sqrt(variance + 1e-5) + bias[i]
    close(ops.rms_norm(x, gain, 1e-5), rms)
    close(ops.layer_norm(x, gain, bias, 1e-5), layer)


def silu(x: float) -> float:
    return x / (1 + math.exp(-x)) if x > -700 else 0.0


def gelu(x: float) -> float:
    return x * math.erfc(-x / math.sqrt(2)) / 2


def gelu_tanh(x: float) -> float:
    return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("silu", silu),
        ("gelu", gelu),
        ("gelu_new", gelu_tanh),
        ("gelu_pytorch_tanh", gelu_tanh),
        ("relu", lambda x: max(x, 0.0)),
    ],
)
def test_activations(name: str, plain: object) -> None:
    """Over all of their curved part, in more than one piece, and far out."""
    far = [0, 1e-30, 7, 50, 100, 1e4, 1e20, -7, -50, -100, -1e4, -1e20]
    x = np.concatenate([np.linspace(-8, 8, 70_000), far]).astype(np.float32).reshape(2, -1)
    before = x.copy()
    found = ops.ACTIVATIONS[name](x)
    np.testing.assert_array_equal(x, before)
    expected = np.array([plain(float(v)) for v in x.ravel()]).reshape(x.shape)  # type: ignore[operator]
    assert found.dtype == np.float32
    assert np.max(np.abs(found - expected) / np.maximum(1, np.abs(x))) < 2e-7


def test_rotation() -> None:
    """A pair of entries is a complex number, which turns."""
    x, angles = normal(2, 3, 5, 8), RNG.uniform(0, 6, (5, 4))
    turned = np.empty(x.shape)
    for s, h, t, i in np.ndindex(2, 3, 5, 4):
        z = complex(x[s, h, t, i], x[s, h, t, i + 4]) * complex(
            math.cos(angles[t, i]), math.sin(angles[t, i])
        )
        turned[s, h, t, i], turned[s, h, t, i + 4] = z.real, z.imag
    close(ops.rotate(x, *np.float32([np.cos(angles), np.sin(angles)])), turned)


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "window", "masked"),
    [
        (5, 5, True, None, False),
        (70, 70, True, None, False),  # two pieces
        (70, 80, True, 9, True),  # behind keys that a cache has kept, in a window
        (1, 40, True, None, False),
        (1, 40, True, 7, False),
        (66, 66, False, None, True),
    ],
)
def test_attention(queries: int, keys: int, causal: bool, window: int | None, masked: bool) -> None:
    """Two key heads, each for two query heads."""
    q, k, v = normal(2, 4, queries, 4), normal(2, 2, keys, 4), normal(2, 2, keys, 4)
    mask = RNG.random((2, keys)) < 0.7 if masked else np.ones((2, keys), bool)
    mask[1] = True
    expected = np.zeros((2, queries, 16))
    for s, head, t in np.ndindex(2, 4, queries):
        at = keys - queries + t
        seen = [
            j
            for j in range(keys)
            if mask[s, j] and not (causal and (j > at or (window and j <= at - window)))
        ]
        weights = [
            math.exp(0.5 * float(np.dot(q[s, head, t].astype(float), k[s, head // 2, j])))
            for j in seen
        ]
        for weight, j in zip(weights, seen, strict=True):
            expected[s, t, 4 * head : 4 * head + 4] += weight / sum(weights) * v[s, head // 2, j]
    options = {"mask": mask} if masked else {}
    close(
        ops.attention(q, k, v, scale=0.5, causal=causal, window=window, **options),  # type: ignore[arg-type]
        expected,
    )


def test_a_query_that_sees_no_key_gets_nothing() -> None:
    q, mask = normal(1, 1, 3, 4), np.array([[False, False, True]])
    found = ops.attention(q, q, q, scale=1.0, causal=True, mask=mask)
    np.testing.assert_array_equal(found[0, :2], 0)
    close(found[0, 2], q[0, 0, 2])


def test_attention_stands_large_weights() -> None:
    q = np.full((1, 1, 4, 4), 300, np.float32)
    found = ops.attention(q, q, np.ones_like(q), scale=1.0, causal=True)
    np.testing.assert_array_equal(found, 1)
