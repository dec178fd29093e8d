"""Tiled triangular algorithms against those of NumPy and of the textbook."""

from __future__ import annotations

import numpy as np
import pytest

from lplr.linalg.symmetric import add_to_diagonal, symmetrized
from lplr.linalg.triangular import (
    cholesky,
    lower_inverse,
    scaled_square,
    solve_squares,
    solve_transposed,
)
from lplr.parallel import at_most, reproducible

# The last one is cut into panels, with a short one at the end.
SIZES = (1, 5, 64, 65, 300, 1031)


def _moment(d: int, dtype: type = np.float64) -> np.ndarray:
    X = np.random.default_rng(d).standard_normal((d + 5, d))
    return (X.T @ X / len(X) + 0.05 * np.eye(d)).astype(dtype)


def _unit(L: np.ndarray) -> np.ndarray:
    return L / np.diagonal(L)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", SIZES)
def test_cholesky_has_the_backward_error_of_the_textbook(d: int, dtype: type) -> None:
    H = _moment(d, dtype)
    before = H.copy()
    L = cholesky(H)
    assert L.dtype == dtype
    assert not np.triu(L, 1).any()
    # |L L^T - H| <= gamma_{d+1} |L| |L^T|, and |L| |L^T| at most sqrt(h_ii h_jj).
    bound = (d + 2) * np.finfo(dtype).eps * np.sqrt(np.outer(np.diag(H), np.diag(H)))
    wide = L.astype(np.float64)
    assert (abs(wide @ wide.T - H) <= bound).all()
    np.testing.assert_array_equal(H, before)


def test_cholesky_reads_the_lower_triangle_and_can_overwrite_it() -> None:
    H = _moment(1100)
    expected = cholesky(H)
    H[np.triu_indices(1100, 1)] = np.nan
    assert cholesky(H, overwrite=True) is H
    np.testing.assert_array_equal(H, expected)


@pytest.mark.parametrize("d", [40, 1100])
@pytest.mark.parametrize("where", [0, -1])
def test_cholesky_refuses_what_is_not_positive_definite(d: int, where: int) -> None:
    H = _moment(d)
    H[where, where] = -1.0
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(H)


@pytest.mark.parametrize("d", SIZES)
def test_inverse_solution_and_square(d: int) -> None:
    C = cholesky(_moment(d))
    L, D = _unit(C), np.square(np.diagonal(C))
    inverse = lower_inverse(L)
    np.testing.assert_allclose(inverse @ L, np.eye(d), atol=1e-11)
    assert not np.triu(inverse, 1).any()
    B = np.random.default_rng(0).standard_normal((d, 300))
    np.testing.assert_allclose(L.T @ solve_transposed(L, B), B, atol=1e-10)
    S = scaled_square(L, D)
    np.testing.assert_allclose(S, L * D @ L.T, atol=1e-12)
    np.testing.assert_array_equal(S, S.T)


@pytest.mark.parametrize("d", SIZES)
def test_squares_are_solved_for_from_the_last_to_the_first(d: int) -> None:
    rng = np.random.default_rng(0)
    M = np.tril(rng.standard_normal((d, d)).astype(np.float32)) / np.sqrt(d)
    c, own = rng.random(d), 1 + rng.random(d)
    expected = own.copy()
    for k in range(d - 1, -1, -1):
        expected[k] += np.square(M[k + 1 :, k], dtype=np.float64) @ (c * expected)[k + 1 :]
    np.testing.assert_allclose(solve_squares(M, c, own), expected, rtol=1e-12)


def test_threads_change_no_bit() -> None:
    H = _moment(1100)
    B = np.random.default_rng(0).standard_normal((1100, 600))

    def results(threads: int) -> list[np.ndarray]:
        with at_most(threads), reproducible():
            L = cholesky(H)
            return [L, lower_inverse(L), solve_transposed(L, B), scaled_square(L, B[:, 0])]

    for one, three in zip(results(1), results(3), strict=True):
        np.testing.assert_array_equal(one, three)


def test_what_is_nearly_symmetric_becomes_symmetric() -> None:
    A = np.random.default_rng(0).standard_normal((300, 300))
    H, skew = symmetrized(A)
    np.testing.assert_array_equal(H, (A + A.T) / 2)
    assert skew == pytest.approx(np.linalg.norm(A - A.T) / np.linalg.norm(A), rel=1e-12)
    assert symmetrized(A, overwrite=True)[0] is A
    np.testing.assert_array_equal(A, H)
    assert symmetrized(np.zeros((3, 3)))[1] == 0


def test_a_multiple_of_the_identity_is_added_to_a_new_array() -> None:
    H = np.ones((2, 2))
    np.testing.assert_array_equal(add_to_diagonal(H, 2.0, np.float32), [[3, 1], [1, 3]])
    assert H[0, 0] == 1
