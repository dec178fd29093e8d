"""The lean algorithms that statements are simulated with are the real ones."""

from __future__ import annotations

import numpy as np
import pytest

from lplr.coding.lplr import solved_factors
from lplr.quantizers.base import get_codebook
from lplr.theory import simulate
from lplr.theory.statements import matrices


@pytest.mark.parametrize(("bits", "shape"), [(2, (96, 40)), (4, (40, 96)), (8, (96, 40))])
def test_lean_lplr_is_algorithm_1(bits: int, shape: tuple[int, int]) -> None:
    """Same S and dither, same factors: the lean code is float64, the other float32 and packed."""
    rng = np.random.default_rng(0)
    A = matrices.decomposed({"matrix": "k^-1", "n": shape[0], "d": shape[1]}, rng).A
    A = A.astype(np.float32).astype(np.float64)
    Y = (A @ simulate.gaussian(shape[1], 12, rng)).astype(np.float32)
    books = get_codebook("uniform", bits), get_codebook("uniform", bits)
    factors = solved_factors(
        A.astype(np.float32), Y, books, "dithered", False, np.random.default_rng(9)
    )

    again = np.random.default_rng(9)

    def dither(size: tuple[int, ...]) -> np.ndarray:
        return again.random(size, np.float32).astype(np.float64)

    L = simulate.round_to_grid(Y.astype(np.float64), bits, dither)
    solved = simulate.solve(L.values, A)
    R = simulate.round_to_grid(solved.W, bits, dither)
    # A code differs where float32 puts an entry on the other side: 1e-7 of the range, in steps
    # 2^bits 1e-7, is the chance of an entry, so none of these 2000 but once in 20 runs at 8 bits.
    for mine, theirs in ((L, factors.left), (R, factors.right)):
        off = np.abs(mine.values - theirs.to_dense()) > 0.5 * mine.step
        assert off.sum() <= 1
        close = np.abs(mine.values - theirs.to_dense())[~off]
        assert close.max() < 1e-5 * np.abs(mine.values).max()
    error = simulate.squared_error(float(np.vdot(A, A)), solved, R.values)
    direct = float(np.square(A - L.values @ R.values).sum())
    assert error == pytest.approx(direct, rel=1e-9)
    assert error == pytest.approx(float(np.square(A - factors.to_dense()).sum()), rel=1e-3)


def test_cheap_dither_is_uniform() -> None:
    u = simulate.cheap_dither(np.random.default_rng(0))((1001, 333))
    assert u.shape == (1001, 333)
    assert 0 < u.min() < 2e-4 < 1 - 2e-4 < u.max() < 1
    # Mean and variance within 5 standard errors.
    assert u.mean() == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / u.size))
    assert u.var() == pytest.approx(1 / 12, abs=5 * np.sqrt(1 / 180 / u.size))
    flat = u.ravel()
    for lag in (1, 2, 4):  # neighbours come from one word of the generator
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 5 / np.sqrt(u.size)


def test_grid_rounding_by_hand() -> None:
    X = np.array([[-1.0, -0.4, 0.2, 2.0]])
    own = simulate.round_to_grid(X, 2, simulate.nearest)
    np.testing.assert_array_equal(own.values, [[-1.0, 0.0, 0.0, 2.0]])
    assert own.step == 1.0
    assert not own.saturated
    clipped = simulate.round_to_grid(X, 1, simulate.nearest, 1.5)
    np.testing.assert_array_equal(clipped.values, [[-1.5, -1.5, 1.5, 1.5]])
    assert clipped.saturated
    np.testing.assert_array_equal(
        simulate.round_endless(X, 1.0, simulate.nearest), [[-0.5, -0.5, 0.5, 2.5]]
    )
    constant = simulate.round_to_grid(np.ones((2, 2)), 3, simulate.nearest)
    np.testing.assert_array_equal(constant.values, np.ones((2, 2)))


def test_feedback_minimises_one_row_at_a_time() -> None:
    """Each row is the best level given those before, rows still to come being free."""
    rng = np.random.default_rng(0)
    d, n, step = 6, 5, 0.7
    X = rng.standard_normal((30, d))
    H = X.T @ X
    C, D = simulate.unit_factor(H)
    np.testing.assert_allclose((C * D) @ C.T, H, rtol=1e-12)
    W = rng.standard_normal((d, n))
    E, eta = simulate.feedback_round(W, C, step, simulate.nearest)
    np.testing.assert_allclose(eta, C.T @ E, atol=1e-13)
    assert np.abs(eta).max() <= step / 2
    levels = step * (np.arange(-40, 40) + 0.5)
    for column in range(n):
        for k in range(d - 1, -1, -1):
            # Least loss over the rows before k, for each level of row k.
            tries = np.array(
                [[*(W[k, column] - levels[[i]]), *E[k + 1 :, column]] for i in range(80)]
            )
            H11, H12, H22 = H[:k, :k], H[:k, k:], H[k:, k:]
            schur = H22 - H12.T @ np.linalg.solve(H11, H12) if k else H22
            losses = np.einsum("ia,ab,ib->i", tries, schur, tries)
            assert W[k, column] - E[k, column] == pytest.approx(levels[losses.argmin()])


def test_least_squares_of_a_deficient_factor() -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 9))
    L = rng.standard_normal((20, 3)) @ rng.standard_normal((3, 5))
    np.testing.assert_allclose(simulate.solve(L, A).W, np.linalg.pinv(L) @ A, atol=1e-10)
    L = rng.standard_normal((20, 5))
    np.testing.assert_allclose(simulate.solve(L, A).W, np.linalg.pinv(L) @ A, atol=1e-12)


def test_energy_of_a_pseudo_inverse() -> None:
    G = np.random.default_rng(0).standard_normal((5, 6))
    expected = float(np.square(np.linalg.pinv(G)).sum())
    assert simulate.pseudo_inverse_energy(G) == pytest.approx(expected, rel=1e-10)
