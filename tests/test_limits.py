"""The rate-distortion limit against brute force, closed forms and its published values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lplr.exceptions import InputError
from lplr.theory import rate_distortion_limit

STEP = 1 / 64  # of the brute-force grid, in bits


def left_over(bits: np.ndarray) -> np.ndarray:
    return 1 - (1 - 4.0**-bits) ** 2


def brute_force(sigma: np.ndarray, steps: int) -> float:
    """Least relative error over all allocations of ``steps`` steps of `STEP` bits."""
    f = left_over(STEP * np.arange(steps + 1))
    best = np.full(steps + 1, np.inf)
    best[0] = 0.0
    for s in sigma:  # best[t]: least loss of the components so far with t steps
        best = np.array([(best[: t + 1] + s**2 * f[t::-1]).min() for t in range(steps + 1)])
    return float(np.sqrt(best.min() / np.square(sigma).sum()))


@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5),
    st.integers(0, 400),
)
@settings(max_examples=40)
def test_brute_force(sigma: list[float], steps: int) -> None:
    # A square matrix of side 2 k: bits_per_entry times k is the sum of b_k.
    k = len(sigma)
    found = rate_distortion_limit(sigma, (2 * k, 2 * k), steps * STEP / k)
    grid = brute_force(np.array(sigma), steps)
    # No grid allocation is better. Moving an allocation to the grid, its sum unchanged, shifts
    # each b by less than a step; all slopes are equal there, and |f''| < 2 ln(4)^2 = 3.9.
    assert found <= grid + 1e-12
    assert grid**2 <= found**2 + 0.5 * 3.9 * STEP**2


def test_one_component() -> None:
    # For shape (7, 1) 7/8 of the bits of an entry go to each coordinate, all of them to the one.
    for b in (0.0, 0.25, 0.5, 3.0):
        expected = np.sqrt(left_over(np.float64(b * 7 / 8)))
        assert rate_distortion_limit([2.0], (7, 1), b) == pytest.approx(expected, rel=1e-12)


def test_flat_spectrum_has_a_closed_form() -> None:
    # Of r equal components each gets B / r bits; the best r by trying all.
    n, b = 300, 0.7
    r = np.arange(1, n + 1)
    total = b * n / 2
    expected = np.sqrt(min((r * left_over(total / r) + n - r)[total / r >= 0.5]) / n)
    assert rate_distortion_limit(np.ones(n), (n, n), b) == pytest.approx(expected, rel=1e-9)


def test_published_values(fashion_10000: np.ndarray) -> None:
    power = 1 / np.arange(1, 1001)
    assert round(rate_distortion_limit(power, (1000, 1000), 1), 3) == 0.061
    assert round(rate_distortion_limit(power, (1000, 1000), 2), 3) == 0.040
    sigma = np.sqrt(np.linalg.eigvalsh(fashion_10000.T.astype(np.float64) @ fashion_10000).clip(0))
    assert round(rate_distortion_limit(sigma, (10000, 784), 1), 3) == 0.122
    assert round(rate_distortion_limit(sigma, (10000, 784), 2), 3) == 0.066


def test_falls_with_the_budget_and_ignores_order_and_scale() -> None:
    sigma = 1 / np.arange(1.0, 41)
    budgets = np.linspace(0, 12, 20)
    curve = np.array([rate_distortion_limit(sigma, (80, 50), b) for b in budgets])
    assert curve[0] == 1
    assert (np.diff(curve) < 0).all()
    shuffled = np.random.default_rng(0).permutation(sigma) * 1e-30
    again = [rate_distortion_limit(shuffled, (80, 50), b) for b in budgets]
    np.testing.assert_allclose(again, curve, rtol=1e-9)


def test_extremes() -> None:
    assert rate_distortion_limit([0.0, 0.0], (2, 2), 1) == 0
    assert rate_distortion_limit([3.0, 0.0], (2, 2), 2000) == 0  # below the least float64
    assert 0 < rate_distortion_limit([1e140, 1e-140], (2, 2), 1) < 1
    assert rate_distortion_limit(np.float32([1, 0.5]), (2, 3), 1) < 1


@pytest.mark.parametrize(
    ("singular_values", "shape", "bits", "named"),
    [
        ([1.0, 2.0], (1, 5), 1, "singular_values"),
        ([-1.0], (3, 5), 1, "singular_values"),
        ([2.0, np.nan, 1.0], (3, 5), 1, "singular_values"),
        ([1.0], (0, 5), 1, "shape"),
        ([1.0], (3, 5), -1, "bits_per_entry"),
        ([1.0], (3, 5), np.inf, "bits_per_entry"),
    ],
)
def test_refusals(singular_values: list[float], shape: object, bits: float, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}:"):
        rate_distortion_limit(singular_values, shape, bits)  # type: ignore[arg-type]
