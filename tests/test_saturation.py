"""Ranges that are made for a failure probability, and how often they fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from spectra import dithered

from lplr.theory import bounds


def test_sketch_range_solves_the_union_bound() -> None:
    rng = np.random.default_rng(0)
    for norms in (np.ones(7), rng.exponential(size=50), np.r_[1.0, np.zeros(9)], [3.0]):
        for m, delta in ((1, 0.5), (20, 1e-3), (3, 1e-12), (2, 0.999)):
            t = bounds.sketch_range(norms, m, delta)
            scale = np.asarray(norms)[np.asarray(norms) > 0] / np.sqrt(m)
            assert 2 * m * norm.sf(t / scale).sum() == pytest.approx(delta, rel=1e-6)
    assert bounds.sketch_range(np.zeros(3), 4, 0.1) == 0


def test_sketch_range_is_exceeded_as_often_as_it_says() -> None:
    # The union bound counts entries; where they are nearly independent and delta is small, it is
    # close to the truth: P = 1 - (1 - delta/N)^N = 0.0952 for delta = 0.1.
    rng = np.random.default_rng(1)
    n, d, m, delta, trials = 30, 400, 4, 0.1, 3000
    A = rng.standard_normal((n, d))  # rows of 400 entries are nearly orthogonal
    t = bounds.sketch_range(np.linalg.norm(A, axis=1), m, delta)
    failed = sum(
        bounds.saturated_entries(A @ (rng.standard_normal((d, m)) / np.sqrt(m)), t) > 0
        for _ in range(trials)
    )
    assert binomtest(failed, trials, delta, alternative="greater").pvalue > 1e-6
    # Nor is the range too large: it is not exceeded 6 % of the time only.
    assert binomtest(failed, trials, 0.06).pvalue < 1e-6


def test_solution_range_is_not_exceeded() -> None:
    rng = np.random.default_rng(2)
    n, d, m = 40, 60, 6
    for step in (0.0, 1e-4, 1e-2):
        A = rng.standard_normal((n, d))
        sigma = np.linalg.svd(A, compute_uv=False)
        longest = np.linalg.norm(A, axis=0).max()
        t = bounds.solution_range(sigma, (n, d), m, step, 1e-3, column_norm=longest)
        assert t < bounds.solution_range(sigma, (n, d), m, step, 1e-3)  # sigma_1 in its place
        largest = 0.0
        for _ in range(300):
            L = dithered(A @ (rng.standard_normal((d, m)) / np.sqrt(m)), step, rng)
            largest = max(largest, np.abs(np.linalg.lstsq(L, A, rcond=None)[0]).max())
        assert t / 50 < largest <= t
    # A coarse quantizer or too few singular values: no promise.
    assert bounds.solution_range(sigma, (n, d), m, 10.0, 1e-3) == np.inf
    assert bounds.solution_range([1.0, 1.0], (n, d), 3, 0.0, 1e-3) == np.inf


def test_smallest_singular_value_behind_it() -> None:
    # A = I of size k, one step of the proof: 1/range is exceeded by sigma_min(S) but for delta.
    rng = np.random.default_rng(3)
    for k, m in ((5, 5), (8, 5), (20, 5)):
        S = rng.standard_normal((20000, k, m)) / np.sqrt(m)
        least = np.linalg.svd(S, compute_uv=False)[:, -1]
        t = bounds.solution_range(np.ones(k), (k, k), m, 0.0, 0.05)
        failed = int((least < 1 / t).sum())
        assert binomtest(failed, 20000, 0.05, alternative="greater").pvalue > 1e-6
        assert failed > 0 or k > 5  # a square Gaussian matrix comes close to the bound


@pytest.mark.parametrize("rounding", ["nearest", "dithered"])
def test_ldlq_range(rounding: str) -> None:
    rng = np.random.default_rng(4)
    n, d, bits = 40, 12, 6
    X = rng.standard_normal((80, d)) @ rng.standard_normal((d, d))
    H = X.T @ X + 20 * np.eye(d)
    W = np.ones((n, d))  # and any matrix of signs
    delta = None if rounding == "nearest" else 1e-3
    reach = bounds.ldlq_range(W, H, bits, delta)
    assert 1 < reach < np.inf
    step = bounds.uniform_step(bits, reach)
    C = np.linalg.cholesky(H)
    L = C / np.diagonal(C)
    largest = 0.0
    for _ in range(50):
        W, E = rng.choice([-1.0, 1.0], (n, d)), np.zeros((n, d))
        for k in range(d - 1, -1, -1):
            y = W[:, k] + E[:, k + 1 :] @ L[k + 1 :, k]
            largest = max(largest, np.abs(y).max())
            u = 0.5 if rounding == "nearest" else rng.random(n)
            # The grid of 2^bits points from -reach to reach: half-integers times the step.
            E[:, k] = W[:, k] - step * (np.floor(y / step - 0.5 + u) + 0.5)
    assert 1 < largest <= reach  # feedback does enlarge what is rounded
    assert bounds.ldlq_range(W, H, 1, delta) > reach
    assert bounds.ldlq_range(W, np.eye(d), 1, delta) == 1  # nothing fed back


def test_ldlq_range_may_not_exist() -> None:
    # The last of two columns feeds back 5 times its error; a bit has a step of twice the range.
    L = np.array([[1.0, 0.0], [5.0, 1.0]])
    assert bounds.ldlq_range([[1.0, 1.0]], L @ L.T, 1) == np.inf
    # With 4 bits: worst 5 step/2, step = 2 range/15, so range = 1 + range/3.
    assert bounds.ldlq_range([[1.0, 1.0]], L @ L.T, 4) == pytest.approx(1.5)
    # Dithered: the smaller of 5 step and 5 step sqrt(log(2*2/delta)/2).
    spread = 5 * np.sqrt(np.log(4 / 0.9) / 2)
    found = bounds.ldlq_range([[1.0, 1.0]], L @ L.T, 5, 0.9)
    assert found == pytest.approx(1 / (1 - 2 * spread / 31))
    found = bounds.ldlq_range([[1.0, 1.0]], L @ L.T, 5, 1e-9)
    assert found == pytest.approx(1 / (1 - 10 / 31))


def test_pilot_range_fails_with_the_stated_probability() -> None:
    # For a continuous distribution it is exactly r/(N+1), here 2/40, whatever the distribution.
    rng = np.random.default_rng(5)
    draws = rng.standard_cauchy((8000, 40)) ** 2
    failed = sum(row[-1] > bounds.pilot_range(row[:-1], 0.06) for row in draws)
    assert binomtest(failed, len(draws), 2 / 40).pvalue > 1e-6
    assert binomtest(failed, len(draws), 3 / 40).pvalue < 1e-6
    assert bounds.pilot_range([3.0, 1.0, 2.0], 0.25) == 3
    assert bounds.pilot_range([3.0, 1.0, 2.0], 0.5) == 2
    # 1/(N+1) in floating point must not lose a rank.
    for N in range(1, 200, 3):
        assert bounds.pilot_range(np.arange(1.0, N + 1), 1 / (N + 1)) == N


def test_saturated_entries() -> None:
    assert bounds.saturated_entries([[1.0, -1.0]], 1.0) == 0  # the ends are points of the grid
    assert bounds.saturated_entries([[1.0, -1.5], [2.0, 0.0]], 1.0) == 2
