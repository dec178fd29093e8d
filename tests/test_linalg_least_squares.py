"""Least squares through Gram matrices, and the rank-constrained optimum."""

from __future__ import annotations

import numpy as np
import pytest

import lplr
from lplr import parallel
from lplr.linalg.least_squares import gram, least_squares, rank_constrained, solve
from lplr.linalg.qr import haar

SHAPES = [(1, 1), (7, 1), (1, 7), (30, 30), (20, 50), (50, 20), (31, 37)]


def hessian(rng: np.random.Generator, d: int, kind: str) -> np.ndarray:
    """A second moment, scaled to mean diagonal 1: of full rank, half rank or rank one."""
    rows = {"full": 3 * d, "half": max(1, d // 2), "rank 1": 1}[kind]
    X = rng.standard_normal((rows, d)) * np.geomspace(1, 10, d)
    H = X.T @ X
    return H / np.mean(np.diag(H))


def loss(E: np.ndarray, H: np.ndarray) -> float:
    return float(np.einsum("ni,ij,nj->", E, H, E))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["full", "half", "rank 1"])
def test_least_loss_is_the_tail_of_the_singular_values(shape: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(shape[0])
    A, H = rng.standard_normal(shape), hessian(rng, shape[1], kind)
    w, V = np.linalg.eigh(H)
    s = np.linalg.svd(A @ (V * np.sqrt(np.maximum(w, 0))), compute_uv=False)
    for rank in sorted({1, (min(shape) + 1) // 2, min(shape)}):
        U, Y = rank_constrained(A, H, rank)
        assert U.shape == (shape[0], rank)
        np.testing.assert_allclose(U.T @ U, np.eye(rank), atol=1e-12)
        np.testing.assert_allclose(Y, U.T @ A, atol=1e-12 * np.abs(A).max() * shape[0])
        # The loss of a float64 result is known to eps times that of zero.
        tolerance = 1e-13 * shape[1] * (s**2).sum()
        assert abs(loss(U @ Y - A, H) - (s[rank:] ** 2).sum()) <= tolerance


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
@pytest.mark.parametrize("kind", ["full", "half", "rank 1"])
def test_beats_other_candidates(shape: tuple[int, int], kind: str) -> None:
    """Lemma 4.2: 200 random matrices of that rank, at their best scale, and 200 neighbours."""
    rng = np.random.default_rng(7)
    A, H = rng.standard_normal(shape), hessian(rng, shape[1], kind)
    rank = 4
    U, Y = rank_constrained(A, H, rank)
    least = loss(U @ Y - A, H)
    # Where H is singular others are as good: the bound is that to the rounding of the losses.
    bound = least - 1e-11 * loss(A, H)
    for _ in range(200):
        # The best matrix with a random row or column space: better than any random product.
        C = np.linalg.qr(rng.standard_normal((shape[0], rank)))[0]
        assert loss(C @ (C.T @ A) - A, H) >= bound
        R = rng.standard_normal((rank, shape[1]))
        T = H @ R.T
        Z = A @ T @ np.linalg.pinv(R @ T, hermitian=True) @ R
        assert loss(Z - A, H) >= bound
    for size in np.geomspace(1e-6, 1, 200):
        Z = (U + size * rng.standard_normal(U.shape)) @ (Y + size * rng.standard_normal(Y.shape))
        assert loss(Z - A, H) >= bound


def test_weights_decide() -> None:
    """A diagonal H: the component that the inputs see, not the largest."""
    U, Y = rank_constrained(np.diag([2.0, 3.0, 0.1]), np.diag([9.0, 1.0, 0.0]), 1)
    np.testing.assert_allclose(U @ Y, np.diag([2.0, 0, 0]), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arguments_are_not_touched(dtype: type) -> None:
    rng = np.random.default_rng(0)
    A, H = rng.standard_normal((9, 5)).astype(dtype), hessian(rng, 5, "full")
    before = A.copy(), H.copy()
    U, Y = rank_constrained(A, H, 2)
    np.testing.assert_array_equal(A, before[0])
    np.testing.assert_array_equal(H, before[1])
    assert U.dtype == Y.dtype == np.float64


def test_gram() -> None:
    X = np.random.default_rng(0).standard_normal((13, 700)).astype(np.float32)
    G = gram(X)
    np.testing.assert_array_equal(G, G.T)
    np.testing.assert_allclose(G, X.astype(float) @ X.T.astype(float), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("n", [1, 5, 1300])
def test_solve(n: int) -> None:
    rng = np.random.default_rng(n)
    G = gram(rng.standard_normal((12, 40)))
    B = rng.standard_normal((12, n)).astype(np.float32)
    np.testing.assert_allclose(solve(G, B), np.linalg.solve(G, B), rtol=1e-5, atol=1e-6)
    with pytest.raises(np.linalg.LinAlgError):
        solve(G - 100 * np.eye(12), B)


def test_least_squares_of_deficient_rank_is_of_least_norm() -> None:
    rng = np.random.default_rng(1)
    L = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 8))
    A = rng.standard_normal((60, 20))
    W, _, _ = least_squares(L.astype(np.float32), A.astype(np.float32))
    # In float32 L has rank 8, by singular values of 1e-7 of the largest: those are left out.
    exact = np.linalg.lstsq(L, A, rcond=1e-5)[0]
    np.testing.assert_allclose(W, exact, atol=1e-3 * np.abs(exact).max())
    assert not least_squares(np.zeros((9, 2), np.float32), np.ones((9, 4), np.float32))[0].any()


def test_same_bits_at_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    A, H = rng.standard_normal((150, 700)), hessian(rng, 700, "half")
    L = rng.standard_normal((150, 30)).astype(np.float32)
    results = []
    for threads in (1, 2):
        monkeypatch.setenv("LPLR_NUM_THREADS", str(threads))
        with parallel.reproducible():
            results.append((*rank_constrained(A, H, 20), *least_squares(L, A.astype(np.float32))))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    return lplr.datasets.synthetic(150, 120, "power", exponent=1.0, rng=0).astype(np.float32)


def norm(X: np.ndarray) -> float:
    return float(np.linalg.norm(X.astype(np.float64)))


@pytest.mark.parametrize("condition", [1, 1e2, 1e4, 1e6])
def test_least_squares(condition: float) -> None:
    """As good as LAPACK's in float64, whatever the condition: the residual is the least."""
    rng = np.random.default_rng(0)
    L = haar(80, 20, rng) * np.geomspace(1, 1 / condition, 20) @ haar(20, 20, rng)
    A = rng.standard_normal((80, 150)).astype(np.float32)
    L = L.astype(np.float32)
    W, G, B = least_squares(L, A)
    L, A = L.astype(np.float64), A.astype(np.float64)
    np.testing.assert_allclose(G, L.T @ L, rtol=0, atol=1e-14)
    np.testing.assert_allclose(B, L.T @ A, rtol=0, atol=1e-5)
    assert W.dtype == np.float32
    expected = np.linalg.lstsq(L, A, rcond=None)[0]
    residual = norm(L @ W - A), norm(L @ expected - A)
    # Float32 W, of size up to the condition, perturbs L W by 6e-8 of its size at most.
    assert residual[0] <= residual[1] * (1 + 1e-6) + 1e-7 * norm(W)


@pytest.mark.parametrize("k", [40, 700])
def test_gram_is_exactly_symmetric_and_right(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).standard_normal((k, 5000)).astype(np.float32)
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    G = gram(X)
    monkeypatch.setenv("LPLR_NUM_THREADS", "3")
    assert gram(X).tobytes() == G.tobytes()
    assert (G == G.T).all()
    np.testing.assert_allclose(G, X.astype(np.float64) @ X.T.astype(np.float64), atol=1e-9)
