"""LDL factorizations against plain elimination, and the pivots that a random rotation gives."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from helpers import dense_hessian

from lplr.linalg.ldl import block_ldl, ldl, min_pivot_ldl
from lplr.linalg.qr import haar
from lplr.linalg.rotated_pivots import expected_pivot_sum


@pytest.mark.parametrize("k", [1, 2, 17, 40])
def test_ldl_is_elimination(k: int) -> None:
    H = dense_hessian(np.random.default_rng(k), k)
    for found, expected in zip(ldl(H), naive.ldl(H), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.trace(H))


@pytest.mark.parametrize("k", [1, 2, 40, 65, 130])
def test_min_pivot_takes_the_smallest_remaining_diagonal(k: int) -> None:
    H = dense_hessian(np.random.default_rng(k), k)
    before = H.copy()
    order, L, D = min_pivot_ldl(H)
    np.testing.assert_array_equal(H, before)
    assert sorted(order) == list(range(k))
    np.testing.assert_allclose((L * D) @ L.T, H[np.ix_(order, order)], atol=1e-11 * np.trace(H))
    np.testing.assert_allclose(np.diag(L), 1, rtol=1e-9)
    assert not np.triu(L, 1).any()
    S = H[np.ix_(order, order)].copy()
    for i in range(k):
        assert S[i, i] <= np.diag(S)[i:].min() * (1 + 1e-9)
        S[i + 1 :, i + 1 :] -= np.outer(S[i + 1 :, i], S[i, i + 1 :]) / S[i, i]
    assert D.sum() <= naive.ldl(H)[1].sum() * (1 + 1e-9)


@pytest.mark.parametrize("factor", [ldl, min_pivot_ldl])
def test_ldl_refuses_what_is_not_positive_definite(factor) -> None:
    for H in (np.diag([1.0, 0.0]), np.diag([1.0, -1.0]), np.ones((3, 3))):
        with pytest.raises(np.linalg.LinAlgError):
            factor(H)


def padded(H: np.ndarray) -> np.ndarray:
    size = len(H) + -len(H) % 8
    P = np.eye(size)
    P[: len(H), : len(H)] = H
    return P


@pytest.mark.parametrize("d", [1, 7, 8, 9, 40, 53])
def test_block_ldl_is_elimination(d: int) -> None:
    H = dense_hessian(np.random.default_rng(d), d)
    L, D = block_ldl(H)
    expected = naive.block_ldl(padded(H), 8)
    np.testing.assert_allclose(L, expected[0], atol=1e-11)
    np.testing.assert_allclose(D, expected[1], atol=1e-11 * np.trace(H))
    blocks = np.zeros_like(L)
    for i, block in enumerate(D):
        blocks[8 * i : 8 * i + 8, 8 * i : 8 * i + 8] = block
    np.testing.assert_allclose(L @ blocks @ L.T, padded(H), atol=1e-12 * np.trace(H))


def test_expected_pivots_are_those_of_a_random_rotation() -> None:
    rng = np.random.default_rng(0)
    for spectrum in (np.ones(150), 1.0 / np.arange(1, 151), np.geomspace(1, 1e-4, 150)):
        sums = []
        for _ in range(3):
            G = haar(150, 150, rng)
            D = np.linalg.cholesky((G * spectrum) @ G.T).diagonal() ** 2
            sums.append(D.sum())
        assert expected_pivot_sum(spectrum) == pytest.approx(np.mean(sums), rel=0.06)
        # The order that is used does no worse.
        assert min_pivot_ldl((G * spectrum) @ G.T)[2].sum() <= sums[-1] * (1 + 1e-9)
