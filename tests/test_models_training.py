"""Adaptation: its gradient, its optimizer, where corrections start, and how they are coded."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from packed_models import FIXTURES

import lplr
from lplr.models.adaptation.coding import code_factors
from lplr.models.adaptation.gradient import Target, loss_and_gradient, mean_loss
from lplr.models.adaptation.optimizer import AdamW, rate_at
from lplr.models.adaptation.parameters import layout_of
from lplr.models.adaptation.presets import GROUPS
from lplr.models.adaptation.ranks import felt_ranks
from lplr.models.adaptation.start import balanced, best_correction, stored_factors
from lplr.models.adaptation.student import Student, factors_of
from lplr.models.adaptation.training import batch_rows


@pytest.mark.parametrize(
    ("name", "loss"),
    [("llama", "kl"), ("llama", "cross-entropy"), ("qwen2", "kl"), ("qwen3", "kl"), ("gpt2", "kl")],
)
def test_the_gradient_is_that_of_the_loss(name: str, loss: str) -> None:
    """Against differences of the loss in a random direction of each parameter."""
    original = lplr.models.open_network(FIXTURES / name)
    family = original.family
    rng = np.random.default_rng(1)
    ranks = {name: 2 for i in range(family.n_blocks) for name in family.linears(i)}
    layout = layout_of(family, GROUPS, ranks)
    theta = np.zeros(layout.size, np.float32)
    student = Student(family, original.tensors, layout, theta)
    for name, value in student.values.items():
        start = original.tensors.get(name, 1.2 if name.endswith(".scale") else 0.0)
        value[...] = start + 0.1 * rng.standard_normal(value.shape)
    target = Target(original if loss == "kl" else None)
    sequences = [rng.integers(0, family.vocabulary, length) for length in (9, 5)]
    known = target.states(sequences)
    found, gradient = loss_and_gradient(student, target, sequences)
    assert found == pytest.approx(mean_loss(student, target, sequences, known), rel=1e-6)
    base, step = theta.copy(), 1e-2
    for name, place in layout.places.items():
        direction = np.zeros_like(theta)
        direction[place] = rng.standard_normal(place.stop - place.start)
        direction /= np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            theta[:] = base + np.float32(sign * step) * direction
            losses.append(mean_loss(student, target, sequences, known))
        theta[:] = base
        slope = (losses[0] - losses[1]) / (2 * step)
        # Losses of about 5 in float32, some 1e-6 each, over a step of 2e-2; and its third order.
        assert gradient @ direction == pytest.approx(slope, rel=2e-2, abs=3e-4), name


def test_adamw_takes_the_steps_of_its_algorithm() -> None:
    """Written out for single numbers in float64."""
    theta = np.array([1.0, -2.0], np.float32)
    optimizer = AdamW(theta, np.zeros(2, np.float32), np.zeros(2, np.float32))
    x, m, v = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step, gradient in enumerate([(0.3, -0.1), (3.0, 4.0), (0.0, 0.2)], 1):
        norm = optimizer.update(np.array(gradient, np.float32), 0.01, np.float32(0.1))
        length = (gradient[0] ** 2 + gradient[1] ** 2) ** 0.5
        assert norm == pytest.approx(length, rel=1e-6)
        for i, g in enumerate(gradient):
            g /= max(1.0, length)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.95 * v[i] + 0.05 * g * g
            change = (m[i] / (1 - 0.9**step)) / ((v[i] / (1 - 0.95**step)) ** 0.5 + 1e-8)
            x[i] -= 0.01 * (change + 0.1 * x[i])
    assert optimizer.step == 3
    np.testing.assert_allclose(theta, x, rtol=1e-5)


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 100, 2.0) for step in range(100)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert rate_at(0, 1, 2.0) == 2.0


def test_every_sequence_is_seen_once_in_each_round() -> None:
    seen = np.concatenate([batch_rows(step, 4, 10, 0) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])


def _moment(rng: np.random.Generator, n: int, power: float) -> np.ndarray:
    X = rng.standard_normal((8 * n, n)) / np.arange(1, n + 1) ** power
    return X.T @ X / len(X)


def _loss_under(E: np.ndarray, H: np.ndarray, G: np.ndarray) -> float:
    return float(np.sum((G @ E @ H) * E))


def test_factors_are_coded_for_inputs_and_outputs() -> None:
    """Better than each factor by itself at the same bits, as feedback under weights is."""
    rng = np.random.default_rng(2)
    L, R = (rng.standard_normal(shape, np.float32) for shape in ((48, 4), (4, 40)))
    H, G, A = _moment(rng, 40, 1.0), _moment(rng, 48, 1.0), L @ R
    left = lplr.quantize(L, bits=4, granularity="column").to_dense()
    plain = left @ lplr.quantize(R, bits=4, granularity="row").to_dense() - A
    one, two = code_factors(L, R, H, 4), code_factors(L, R, H, 4, G)
    assert one is not None
    assert two is not None
    assert one.bits_per_entry == two.bits_per_entry
    for weight, best, other in ((np.eye(48), one, two), (G, two, one)):
        ours, theirs = (_loss_under(f.to_dense() - A, H, weight) for f in (best, other))
        assert ours < theirs
        assert ours < 0.5 * _loss_under(plain, H, weight)  # 0.3 here
    assert code_factors(0 * L, R, H, 4) is None
    doubled = code_factors(np.repeat(L, 2, axis=1), np.repeat(R, 2, axis=0), H, 4)
    assert doubled is not None
    assert doubled.rank == 4  # what is no component of its own is not stored


def test_a_correction_starts_at_the_error_that_counts() -> None:
    """The truncated SVD of ``G^(1/2) E H^(1/2)`` leaves the singular values after the rank."""
    rng = np.random.default_rng(3)
    E, H, G = rng.standard_normal((20, 16)), _moment(rng, 16, 0.7), _moment(rng, 20, 0.7)
    for moment in (None, G):
        weight = np.eye(20) if moment is None else lplr.regularize(G)[0]
        L, R = balanced(*best_correction(E, H, moment, 5))
        roots = [np.linalg.cholesky(M) for M in (weight, H)]
        s = np.linalg.svd(roots[0].T @ E @ roots[1], compute_uv=False)
        assert _loss_under(E - L @ R, H, weight) == pytest.approx(np.sum(s[5:] ** 2), rel=1e-8)
        np.testing.assert_allclose(np.linalg.norm(L, axis=0), np.linalg.norm(R, axis=1))


def test_stored_factors_start_balanced() -> None:
    W = np.random.default_rng(5).standard_normal((24, 20))
    packed = lplr.caldera(W, rank=3, rng=0)
    model = {"a.weight": packed, "b.weight": lplr.quantize(W, bits=2)}
    ((name, (L, R)),) = stored_factors(model, ("a", "b")).items()
    assert name == "a"
    np.testing.assert_allclose(np.linalg.norm(L, axis=0), np.linalg.norm(R, axis=1), rtol=1e-5)
    np.testing.assert_allclose(L @ R, np.matmul(*factors_of(packed)), atol=1e-5)


def test_ranks_go_where_components_are_felt_most_for_each_bit() -> None:
    """Against all ranks that cost no more."""
    rng = np.random.default_rng(6)
    shapes = {"a": (5, 9), "b": (30, 20), "c": (12, 12)}
    ranks = dict.fromkeys(shapes, 3)
    for _ in range(20):
        felt = {name: np.sort(rng.exponential(sum(shapes[name]), 9))[::-1] for name in shapes}
        found = felt_ranks(felt, shapes, ranks, 4)

        def cost(given: dict[str, int]) -> int:
            return sum(k * (4 * sum(shapes[name]) + 32) for name, k in given.items())

        def taken(given: dict[str, int], felt: dict[str, np.ndarray] = felt) -> float:
            return float(sum(felt[name][:k].sum() for name, k in given.items()))

        every = [
            dict(zip(shapes, k, strict=True)) for k in itertools.product(range(2, 10), repeat=3)
        ]
        best = max(taken(each) for each in every if cost(each) <= cost(ranks))
        left = cost(ranks) - cost(found)
        refused = [felt[name][k] for name, k in found.items() if k < 9]
        assert 0 <= left < max(cost({name: 1}) for name in shapes)
        assert taken(found) <= best * (1 + 1e-12)
        assert best <= taken(found) + max(refused)  # the bound of a greedy choice (Dantzig, 1957)
