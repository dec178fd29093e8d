"""Bounds of quantizers, of LPLR and of the range finder: by hand, by quadrature, by simulation.

A mean of T independent trials is within 6 of its standard errors of the expectation but for one in
5e8; the seeds are fixed, so these never fail by chance once they have passed.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import chi2
from spectra import SPECTRA, dithered, mean_and_error, spectral

from lplr.quantizers import get_codebook
from lplr.quantizers.scalar import gaussian_mse
from lplr.theory import bounds

# --- quantizers ------------------------------------------------------------------------------


def test_step() -> None:
    # The points of the package's own codebook from -range to range are as far apart as that.
    levels = get_codebook("uniform", 3).levels
    scale = 2.5 / levels[-1]
    assert bounds.uniform_step(3, 2.5) == pytest.approx(np.diff(levels)[0] * scale, rel=1e-7)


def test_dithered_moments_are_those_of_the_packages_rounding() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3.4, 3.4, 40).astype(np.float32)
    book = get_codebook("uniform", 3)
    repeated = np.tile(x, 20000)[:, None]
    draws = book.decode(book.encode(repeated, rng=rng)).reshape(20000, 40)
    mean, variance = bounds.dithered_moments(x, 1.0)
    found, error = mean_and_error(np.asarray(draws, np.float64))
    assert (np.abs(found - mean) <= 6 * error).all()
    # The variance of a sample variance of a coin is at most step^4/16/T.
    assert np.abs(np.var(draws, axis=0) - variance).max() <= 6 * 0.25 / np.sqrt(20000)
    np.testing.assert_allclose(mean, x, rtol=0, atol=1e-12)
    assert variance.max() <= bounds.dithered_variance_bound(1.0)


@pytest.mark.parametrize(("bits", "reach"), [(1, 1.0), (2, 3.0), (5, 0.7)])
def test_dithered_moments_by_the_two_neighbours(bits: int, reach: float) -> None:
    """On the points from -R to R of the paper, on those points moved, and on one through 0."""
    step, rng = bounds.uniform_step(bits, reach), np.random.default_rng(0)
    paper = np.linspace(-reach, reach, 2**bits)
    for points, offset in ((paper, None), (paper + 0.3, 0.3 - reach), (step * np.arange(9), 0)):
        x = np.r_[points, rng.uniform(points[0], points[-1], 200)]
        low, high = (side(points, x) for side in (_below, _above))
        up = np.divide(x - low, high - low, out=np.zeros_like(x), where=high > low)
        expected = up * (high - x) ** 2 + (1 - up) * (low - x) ** 2
        _, variance = bounds.dithered_moments(x, step, offset=offset)
        # A point that rounding puts beside itself has a variance of a few units of step^2.
        np.testing.assert_allclose(variance, expected, rtol=1e-9, atol=1e-13 * step**2)
    # Half-way between two points of the paper's grid, and no chance on a grid through 0.
    assert bounds.dithered_moments(0.0, step)[1] == bounds.dithered_variance_bound(step)
    assert bounds.dithered_moments(0.0, step, offset=0)[1] == 0


def _below(points: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.array([points[points <= value].max() for value in x])


def _above(points: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.array([points[points >= value].min() for value in x])


def test_dithered_variance_bound_is_attained_half_way() -> None:
    x = np.linspace(-2, 2, 4001)[None] * 0.3
    _, variance = bounds.dithered_moments(x, 0.3)
    assert variance.max() == pytest.approx(bounds.dithered_variance_bound(0.3), rel=1e-9)


def test_nearest_error() -> None:
    x = np.linspace(-3, 3, 6001)
    worst = np.square(x - 0.7 * np.round(x / 0.7)).max()
    bound = bounds.nearest_error_bound(0.7)
    assert bound * 0.99 <= worst <= bound * (1 + 1e-12)
    # On N(0, 1) the gap to step^2/12 is of order exp(-2 pi^2/step^2): 3e-9 at 1, 0.1 at 3.
    for step, near in ((0.5, 1e-12), (1.0, 1e-7), (3.0, 0.2)):
        exact = gaussian_mse(step * np.arange(-100, 101.0))
        assert exact == pytest.approx(bounds.nearest_high_rate_error(step), abs=near)
    assert abs(exact - bounds.nearest_high_rate_error(3.0)) > 1e-3


# --- Gaussian matrices -----------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), [(1, 6), (3, 9), (5, 20)])
def test_mean_of_the_inverse_wishart_trace(k: int, m: int) -> None:
    # The constant of every bound here. A variance exists for m >= k + 4.
    rng = np.random.default_rng(1)
    V, _ = np.linalg.qr(rng.standard_normal((30, k)))
    G = V.T @ (rng.standard_normal((8000, 30, m)) / np.sqrt(m))
    found, error = mean_and_error(1 / np.linalg.eigvalsh(G @ G.transpose(0, 2, 1)) @ np.ones(k))
    assert abs(found - m * k / (m - k - 1)) <= 6 * error
    assert abs(found - m * k / (m - k + 1)) > 6 * error  # the test tells it from its neighbour


# --- LPLR ------------------------------------------------------------------------------------


def test_lplr_by_hand() -> None:
    arguments = ([3.0, 2.0, 1.0], (4, 3), 4)
    # k = 1: tail 5, k/(m-k-1) = 1/2; 7.5 + 4*4/2*1/4; size 14 + 4*4/4.
    assert bounds.lplr_bound(*arguments, (1, 2), k=1) == 7.5 + 2 + 3 * 18
    # k = 2: tail 1, factor 2; k = 0: tail 14.
    assert bounds.lplr_bound(*arguments, (1, 2), k=2) == 3 + 8 + 54
    assert bounds.lplr_bound(*arguments, (1, 2), k=0) == 14 + 54
    assert bounds.lplr_bound(*arguments, (1, 2)) == 9.5 + 54
    assert bounds.lplr_best_k(*arguments, 1) == 1
    # No quantizer: the range finder's, and exact for a matrix of rank 2 and four columns.
    assert bounds.lplr_bound([3.0, 2.0], (4, 3), 4, 0) == 0
    # tau = (5 + 4)/2 at k = 1, (1 + 4)/1 at k = 2; the first serves i = 1, the second i = 2.
    sharp = 9 * 4.5 / 13.5 + 4 * 5 / 9 + 1
    assert bounds.lplr_sharp_bound(*arguments, (1, 2)) == pytest.approx(sharp + 54, rel=1e-15)
    assert bounds.lplr_theorem_3_2(arguments[0], 4, 1, 0.25) == 7.75


def test_baselines_by_hand() -> None:
    # tail 5; 4/4*9; 2*3*4/4... see the formulas.
    assert bounds.direct_svd_bound([3.0, 2.0, 1.0], (4, 3), 1, (1, 2)) == 5 + 9 + 3 + 4 * 3 / 4
    assert bounds.lplr_svd_bound([3.0, 2.0, 1.0], (4, 3), 1, (1, 2)) == 6 + 3 * (9 + 1)
    assert bounds.naive_bound((4, 3), 2) == 12


@given(
    st.sampled_from(sorted(SPECTRA)),
    st.integers(2, 26),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([(100, 30), (30, 100), (30, 30)]),
)
@settings(max_examples=8)
def test_feedback_and_sharp_are_never_larger(
    name: str, m: int, step: float, step_right: float, shape: tuple[int, int]
) -> None:
    sigma, steps = SPECTRA[name], (step, step_right)
    slack = 1 + 1e-12  # sums in another order
    nested = bounds.lplr_nested_bound(sigma, shape, m, steps)
    assert bounds.feedback_lplr_bound(sigma, shape, m, steps) <= nested * slack
    sharp = bounds.lplr_sharp_bound(sigma, shape, m, steps)
    assert nested <= sharp * slack
    plain = [
        bounds.lplr_bound(sigma, shape, m, steps, k=k)
        for k in range(min(m - 2, np.count_nonzero(sigma)) + 1)
    ]
    assert sharp <= min(plain) * slack
    assert bounds.lplr_bound(sigma, shape, m, steps) == min(plain)
    pivots = bounds.pivot_bounds(sigma, shape, m, step)
    assert (np.diff(pivots) <= 1e-12).all()
    size = np.square(sigma).sum() + shape[0] * m * step**2 / 4
    assert pivots[0] * m == pytest.approx(size, rel=1e-12)


def test_feedback_by_hand() -> None:
    # No first quantizer, rank 1: all columns of L are parallel, so one pivot of 4/4 remains.
    found = bounds.feedback_lplr_bound([2.0, 0.0], (3, 2), 4, (0, 1))
    assert found == pytest.approx(2 / 4, rel=1e-12)
    # Quantized: 1 + n/4 and, for each t, 4 E 1/(1 + 4 X) with X a sum of t squares of N(0, 1/t)
    # over tau = n step^2/4 (m/t). The mean of 1/(1 + x chi2_t), by its density.
    expected = [1.75]
    for t in (1, 2, 3):
        x = 4 / t / (0.75 * 4 / t)
        mean = quad(lambda c, t=t, x=x: chi2.pdf(c, t) / (1 + x * c), 0, np.inf)[0]
        expected.append(mean + 0.75)
    found = bounds.pivot_bounds([2.0, 0.0], (3, 2), 4, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "m", "step"), [("inverse", 5, 0.01), ("square", 12, 0.0)])
def test_nested_integral(name: str, m: int, step: float) -> None:
    # The formula of its docstring by adaptive quadrature.
    n, square = 40, np.square(SPECTRA[name])
    total = 0.0
    for j in range(30):
        rho = np.r_[np.delete(square, j), np.zeros(m)]
        tails = [rho[i + 1 :].sum() for i in range(m)]
        tau = ((m - np.arange(m)) * rho[:m] + tails) / m + n * step**2 / 4

        def integrand(t: float, j: int = j, tau: np.ndarray = tau) -> float:
            return float(np.exp(-t) * np.prod((1 + 2 * t * square[j] / (m * tau)) ** -0.5))

        pieces = ((0, 1e-6), (1e-6, 1e-4), (1e-4, 1e-2), (1e-2, 1), (1, 60))
        total += square[j] * sum(quad(integrand, *piece)[0] for piece in pieces)
    found = bounds.lplr_nested_bound(SPECTRA[name], (n, 30), m, (step, 0))
    assert found == pytest.approx(total, rel=1e-7)


def test_monotone() -> None:
    sigma, shape = SPECTRA["inverse"], (50, 30)
    functions = (
        bounds.lplr_bound,
        bounds.lplr_sharp_bound,
        bounds.lplr_nested_bound,
        bounds.feedback_lplr_bound,
    )
    for function in functions:
        in_steps = [function(sigma, shape, 12, (s, s)) for s in (0, 0.01, 0.1, 1)]
        assert (np.diff(in_steps) > 0).all()
        in_m = [function(sigma, shape, m, 0) for m in (2, 3, 7, 12, 29)]
        assert (np.diff(in_m) <= 0).all()
        # Homogeneous: A, and with it the range and step of L, three times as large.
        scaled = function(3 * sigma, shape, 12, (0.3, 0.1))
        assert scaled == pytest.approx(9 * function(sigma, shape, 12, 0.1), rel=1e-12)
    finer = [bounds.lplr_bits(sigma, shape, 12, 4, e, 1.0) for e in (1, 0.1, 0.01, 0.001)]
    assert finer == sorted(finer)
    assert finer[0] < finer[-1]


@given(
    st.sampled_from(sorted(SPECTRA)),
    st.integers(0, 5),
    st.floats(1e-4, 10),
    st.floats(0.05, 5),
    st.floats(0.05, 5),
)
@settings(max_examples=30)
def test_bits_reach_epsilon_and_one_less_does_not(
    name: str, k: int, epsilon: float, left: float, right: float
) -> None:
    sigma, shape, m, ranges = SPECTRA[name], (80, 30), 9, (left, right)
    bits = bounds.lplr_bits(sigma, shape, m, k, epsilon, ranges)

    def reached(b: tuple[int, int], share: float = 1.0) -> bool:
        steps = tuple(bounds.uniform_step(*pair) for pair in zip(b, ranges, strict=True))
        bound = bounds.lplr_bound(sigma, shape, m, steps, k=k)
        target = bounds.lplr_theorem_3_2(sigma, m, k, share * epsilon)
        return bound <= target + 1e-9 * epsilon

    assert reached(bits)
    assert bits[1] == 1 or not reached((bits[0], bits[1] - 1))
    # The first term alone, R all but exact, is within half of epsilon, and not with a bit less.
    assert reached((bits[0], 50), 0.5 + 1e-6)
    assert bits[0] == 1 or not reached((bits[0] - 1, 50), 0.5 - 1e-6)


@pytest.mark.parametrize(("name", "steps"), [("inverse", (0.02, 0.3)), ("root", (0.1, 0.2))])
def test_lplr_simulated(name: str, steps: tuple[float, float]) -> None:
    # All three bounds and the pivots on one stream of trials: they hold, and are not idle.
    n, d, m, trials = 50, 40, 10, 400
    sigma, rng = SPECTRA[name], np.random.default_rng(2)
    A = spectral(sigma, n, d, rng)
    plain, fed, pivots = [], [], []
    for _ in range(trials):
        L = dithered(A @ (rng.standard_normal((d, m)) / np.sqrt(m)), steps[0], rng)
        W = np.linalg.lstsq(L, A, rcond=None)[0]
        plain.append(np.square(L @ dithered(W, steps[1], rng) - A).sum())
        C = np.linalg.cholesky(L.T @ L)
        D = np.diagonal(C)
        E = np.zeros_like(W)
        for j in range(m - 1, -1, -1):
            y = W[j] + C[j + 1 :, j] / D[j] @ E[j + 1 :]
            E[j] = W[j] - dithered(y, steps[1], rng)
        fed.append(np.square(L @ (W - E) - A).sum())
        pivots.append(D**2)
    mean, error = mean_and_error(plain)
    bound = bounds.lplr_bound(sigma, (n, d), m, steps)
    assert bound / 2.5 <= mean <= bound + 6 * error
    sharp = bounds.lplr_sharp_bound(sigma, (n, d), m, steps)
    assert sharp < 0.98 * bound
    assert mean <= sharp + 6 * error
    nested = bounds.lplr_nested_bound(sigma, (n, d), m, steps)
    assert nested < 0.98 * sharp
    assert nested / 2 <= mean <= nested + 6 * error
    mean, error = mean_and_error(fed)
    bound = bounds.feedback_lplr_bound(sigma, (n, d), m, steps)
    assert bound / 2.5 <= mean <= bound + 6 * error
    assert mean < mean_and_error(plain)[0]
    mean, error = mean_and_error(pivots)
    bound = bounds.pivot_bounds(sigma, (n, d), m, steps[0])
    assert (mean <= bound + 6 * error).all()
    assert (mean >= bound / 2).all()


def test_svd_methods_with_errors_of_largest_variance() -> None:
    # Errors of +-step/2 have the variance that the bounds allow, so direct-SVD's is an equality.
    n, d, m, steps, rng = 8, 6, 3, (0.4, 0.7), np.random.default_rng(3)
    sigma = np.array([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])
    A = spectral(sigma, n, d, rng)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    U, V = U[:, :m], s[:m, None] * Vt[:m]
    direct, solved = [], []
    for _ in range(1500):
        E = steps[0] / 2 * rng.choice([-1, 1], U.shape)
        F = steps[1] / 2 * rng.choice([-1, 1], V.shape)
        direct.append(np.square((U + E) @ (V + F) - A).sum())
        L = U * s[:m] + E
        solved.append(np.square(L @ (np.linalg.lstsq(L, A, rcond=None)[0] + F) - A).sum())
    mean, error = mean_and_error(direct)
    assert abs(mean - bounds.direct_svd_bound(sigma, (n, d), m, steps)) <= 6 * error
    mean, error = mean_and_error(solved)
    bound = bounds.lplr_svd_bound(sigma, (n, d), m, steps)
    assert 0.9 * bound <= mean <= bound + 6 * error


# --- range finder ----------------------------------------------------------------------------


def test_range_finder_by_hand() -> None:
    sigma = [4.0, 2.0, 1.0]
    # k = 1: tail 5, lead 1: 5 + 5/2; k = 2: 1 + 2.
    assert bounds.range_finder_bound(sigma, 4, k=1) == 7.5
    assert bounds.range_finder_bound(sigma, 4) == 3
    # One power iteration, k = 2: 1 + (1/256 + 1/16) * 1.
    assert bounds.range_finder_bound(sigma, 4, k=2, n_power_iter=1) == 1 + 17 / 256
    root = np.sqrt(2) + np.e * np.sqrt(4) / 2
    assert bounds.range_finder_spectral_bound(sigma, 4, k=2) == pytest.approx(1 + root)
    cube = bounds.range_finder_spectral_bound(sigma, 4, k=2, n_power_iter=1)
    assert cube == pytest.approx((1 + root) ** (1 / 3))
    # Never worse than leaving A alone; exact where the rank is k; no overflow.
    assert bounds.range_finder_spectral_bound([1.0, 1.0], 2) == 1
    assert bounds.range_finder_spectral_bound([2.0, 1.0, 0.0], 5, k=2) == 0
    assert bounds.range_finder_bound([1e30, 1e-30], 4, n_power_iter=30) < 1e-60


@pytest.mark.parametrize(
    ("name", "q"), [("root", 0), ("inverse", 0), ("inverse", 1), ("exponential", 2)]
)
def test_range_finder_simulated(name: str, q: int) -> None:
    sigma, m, rng = SPECTRA[name], 8, np.random.default_rng(4)
    squared, norms = [], []
    for _ in range(300):
        # U = V = I: only the spectrum matters to a Gaussian sketch.
        Q, _ = np.linalg.qr(sigma[:, None] ** (2 * q + 1) * rng.standard_normal((30, m)))
        left = np.diag(sigma) - Q @ (Q.T * sigma)
        squared.append(np.square(left).sum())
        norms.append(np.linalg.norm(left, 2))
    for k in (None, 2, 4, 6):
        mean, error = mean_and_error(squared)
        bound = bounds.range_finder_bound(sigma, m, k=k, n_power_iter=q)
        assert mean <= bound + 6 * error
        # The faster the decay, the looser: 4 is what it comes to at exp(-k/3), however large m.
        assert k is not None or mean >= bound / 4.2
        mean, error = mean_and_error(norms)
        bound = bounds.range_finder_spectral_bound(sigma, m, k=k, n_power_iter=q)
        assert mean <= bound + 6 * error
    best = [bounds.range_finder_bound(sigma, m, n_power_iter=p) for p in range(4)]
    assert (np.diff(best) < 0).all()
