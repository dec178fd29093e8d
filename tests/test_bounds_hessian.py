"""Bounds under a Hessian, LDL feedback and CALDERA: identities, brute force, simulation.

A mean of T independent trials is within 6 of its standard errors of the expectation but for one in
5e8; the seeds are fixed, so these never fail by chance once they have passed.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from spectra import mean_and_error, second_moment

from lplr.coding.feedback import min_pivot_ldl, quantize_feedback
from lplr.linalg.least_squares import rank_constrained
from lplr.quantizers import get_codebook
from lplr.theory import bounds, simulate

# --- LDLQ ------------------------------------------------------------------------------------


def feedback(W: np.ndarray, H: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors W - Q and rounding errors of LDLQ to the integers, column by column, naively."""
    P = H[np.ix_(order, order)]
    C = np.linalg.cholesky(P)
    L = C / np.diagonal(C)
    E, eta = np.zeros_like(W), np.zeros_like(W)
    for k in range(len(order) - 1, -1, -1):
        y = W[:, order[k]] + E[:, order[k + 1 :]] @ L[k + 1 :, k]
        eta[:, order[k]] = y - np.round(y)
        E[:, order[k]] = W[:, order[k]] - np.round(y)
    return E, eta


@pytest.mark.parametrize("order", ["natural", "min-pivot"])
@pytest.mark.parametrize("d", [1, 2, 7, 40])
def test_ldlq_identity(d: int, order: str) -> None:
    rng = np.random.default_rng(d)
    H, W = second_moment(d, rng), rng.standard_normal((9, d)) * 3
    places = np.arange(d) if order == "natural" else min_pivot_ldl(H)[0]
    E, eta = feedback(W, H, places)
    loss = np.trace(E @ H @ E.T)
    # Rounding in float64 grows with the condition of H, here below 1e7.
    assert bounds.ldlq_loss(eta, H, order=order) == pytest.approx(loss, rel=1e-8)
    if d > 1:  # nor is it an identity for other errors
        assert bounds.ldlq_loss(E, H, order=order) != pytest.approx(loss, rel=1e-3)
    # Nearest rounding never loses more than this.
    assert loss <= bounds.ldlq_expected_loss(H, 9, bounds.nearest_error_bound(1.0), order=order)


def test_ldlq_identity_of_the_packages_quantizer() -> None:
    rng = np.random.default_rng(5)
    H, X = second_moment(24, rng), rng.standard_normal((24, 300)).astype(np.float32)
    _, _, error = quantize_feedback(X, H, get_codebook("lloyd-max", 3))
    order, L, _ = min_pivot_ldl(H)
    eta = np.empty((300, 24))
    eta[:, order] = error[order].T.astype(np.float64) @ L
    loss = np.einsum("ij,ik,jk->", H, error, error, dtype=np.float64)
    assert bounds.ldlq_loss(eta, H, order="min-pivot") == pytest.approx(loss, rel=1e-9)


def test_expected_losses() -> None:
    # Errors of a given variance, independent and of mean zero: what the formulas assume.
    rng = np.random.default_rng(6)
    H = second_moment(6, rng)
    L = np.linalg.cholesky(H)
    L = L / np.diagonal(L)
    eta = rng.uniform(-1, 1, (20000, 6))
    E = eta @ np.linalg.inv(L)
    for errors, expected in (
        (E, bounds.ldlq_expected_loss(H, 1, 1 / 3)),
        (eta, bounds.rounding_expected_loss(H, 1, 1 / 3)),
    ):
        mean, error = mean_and_error(np.einsum("ti,ij,tj->t", errors, H, errors))
        assert abs(mean - expected) <= 6 * error
    signs = np.sign(rng.standard_normal((200, 6)))
    worst = np.einsum("ti,ij,tj->t", signs, H, signs).max() / 4
    assert worst <= bounds.rounding_worst_loss(H, 1, 1.0)
    assert worst > bounds.rounding_expected_loss(H, 1, 0.25)  # which is no bound for these
    ones = np.ones((3, 3))
    assert bounds.rounding_worst_loss(ones, 1, 2.0) == np.ones(3) @ ones @ np.ones(3)  # attained


def test_pivots_and_ratio() -> None:
    rng = np.random.default_rng(7)
    for d in (2, 5, 30):
        H = second_moment(d, rng)
        eigenvalues = np.linalg.eigvalsh(H)
        floor = np.exp(np.log(eigenvalues).mean()) / eigenvalues.mean()
        for order in ("natural", "min-pivot"):
            D = bounds.ldl_pivots(H, order=order)
            assert np.log(D).sum() == pytest.approx(np.log(eigenvalues).sum(), abs=1e-8)
            assert (D <= np.diagonal(H) * (1 + 1e-12)).all()
            ratio = bounds.ldlq_ratio(H, order=order)
            assert floor * (1 - 1e-9) <= ratio < 1
            assert ratio == pytest.approx(D.sum() / np.trace(H))
    H = np.diag([1.0, 2.0])
    assert bounds.ldlq_ratio(H) == pytest.approx(1, rel=1e-15)
    # Each pivot is the square of the distance of a column from those before.
    X = rng.standard_normal((9, 4))
    distances = [
        np.square(X[:, j] - X[:, :j] @ np.linalg.lstsq(X[:, :j], X[:, j], rcond=None)[0]).sum()
        for j in range(4)
    ]
    np.testing.assert_allclose(bounds.ldl_pivots(X.T @ X), distances, rtol=1e-10)


# --- errors weighed on both sides ------------------------------------------------------------


def both_ways(
    W: np.ndarray, H: np.ndarray, G: np.ndarray, order: str, top: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Feedback on both sides to the integers up to ``top``: LDLQ of vec(W) under G x H."""
    places = [np.arange(len(M)) if order == "natural" else min_pivot_ldl(M)[0] for M in (G, H)]
    G, H = (M[np.ix_(p, p)] for M, p in zip((G, H), places, strict=True))
    C = np.linalg.cholesky(np.kron(G, H))
    L, w = C / np.diagonal(C), W[np.ix_(*places)].ravel()
    e, eta = np.zeros_like(w), np.zeros_like(w)
    for k in range(len(w) - 1, -1, -1):
        y = w[k] + e[k + 1 :] @ L[k + 1 :, k]
        q = np.clip(np.round(y), -top, top)
        e[k], eta[k] = w[k] - q, y - q
    back = np.ix_(*(np.argsort(p) for p in places))
    return e.reshape(W.shape)[back], eta.reshape(W.shape)[back]


@pytest.mark.parametrize("order", ["natural", "min-pivot"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (5, 8)])
def test_two_sided_identity(shape: tuple[int, int], order: str) -> None:
    rng = np.random.default_rng(shape[1])
    G, H = (second_moment(size, rng) for size in shape)
    W = rng.standard_normal(shape) * 3
    E, eta = both_ways(W, H, G, order)
    loss = np.trace(G @ E @ H @ E.T)
    assert bounds.two_sided_loss(eta, H, G, order=order) == pytest.approx(loss, rel=1e-10)
    assert loss <= bounds.two_sided_expected_loss(H, G, 1 / 4, order=order)
    assert bounds.two_sided_expected_loss(H, G, 1 / 4, order=order) <= bounds.two_sided_bound(
        H, G, 1.0
    )
    # The simulation's loop, which takes a diagonal at a time, is the same.
    if order == "natural":
        factors = (simulate.unit_factor(M)[0] for M in (G, H))
        half, half_eta = simulate.two_sided_round(W - 0.5, *factors, 1.0, simulate.nearest)
        np.testing.assert_allclose(half, E, atol=1e-9)  # its levels are the odd halves
        np.testing.assert_allclose(half_eta, eta, atol=1e-9)


def test_two_sided_with_one_side_flat_is_ldlq() -> None:
    rng = np.random.default_rng(3)
    H, eta = second_moment(6, rng), rng.standard_normal((4, 6))
    assert bounds.two_sided_loss(eta, H, np.ones(4)) == pytest.approx(bounds.ldlq_loss(eta, H))
    assert bounds.two_sided_loss(eta.T, np.ones(4), H) == pytest.approx(bounds.ldlq_loss(eta, H))
    whole = bounds.two_sided_expected_loss(H, np.ones(4), 0.25)
    assert whole == pytest.approx(bounds.ldlq_expected_loss(H, 4, 0.25))


def test_two_sided_bound_ends_with_the_grid() -> None:
    """Entries beyond the last level break the bound on the loss, and not the identity."""
    rng = np.random.default_rng(4)
    G, H = second_moment(6, rng), second_moment(8, rng)
    W = rng.standard_normal((6, 8)) * 2
    for top, holds in ((np.inf, True), (1.0, False)):
        E, eta = both_ways(W, H, G, "natural", top)
        loss = np.trace(G @ E @ H @ E.T)
        assert bounds.two_sided_loss(eta, H, G) == pytest.approx(loss, rel=1e-10)
        assert (loss <= bounds.two_sided_expected_loss(H, G, 1 / 4)) is np.bool_(holds)


def test_pivots_and_roots() -> None:
    rng = np.random.default_rng(11)
    for d in (2, 5, 30):
        for samples in (d + 4, max(1, d // 2)):
            H = second_moment(d, rng, samples)
            values, vectors = np.linalg.eigh(H)
            roots = np.sqrt(np.maximum(values, 0))
            bound = bounds.incoherent_pivot_bound(H)
            # Between the sum of the pivots and Lemma 2 of QuIP.
            mu = np.sqrt(d) * np.abs(vectors).max()
            assert bound <= mu**2 / d * roots.sum() ** 2 * (1 + 1e-12)
            for order in ("natural", "min-pivot"):
                pivots = bounds.ldl_pivots(H + 1e-9 * np.eye(d), order=order)
                assert pivots.sum() <= bound * (1 + 1e-3)
    # Attained by a flat one and by one of rank 1; a diagonal one has nothing to gain.
    assert bounds.incoherent_pivot_bound(2 * np.eye(3)) == pytest.approx(6)
    assert bounds.incoherent_pivot_bound(np.ones((3, 3))) == pytest.approx(1)
    assert bounds.incoherent_pivot_bound([9.0, 1.0]) == pytest.approx(3 * (3 + 1))


# --- CALDERA ---------------------------------------------------------------------------------


@pytest.mark.parametrize("singular", [False, True])
def test_rank_constrained_optimum_by_brute_force(singular: bool) -> None:
    # Two rows, rank 1: Z = u v^T with u on the half circle, and for each u the best v.
    rng = np.random.default_rng(8)
    A = rng.standard_normal((2, 4))
    H = second_moment(4, rng, samples=2 if singular else 9)
    assert np.linalg.matrix_rank(H) == (2 if singular else 4)
    root = np.linalg.svd(H)[0] * np.sqrt(np.linalg.svd(H)[1])
    losses = []
    for angle in np.linspace(0, np.pi, 2001):
        u = np.array([[np.cos(angle)], [np.sin(angle)]])
        # Least squares in v through the Kronecker form of (u v^T - A) root.
        v = np.linalg.lstsq(np.kron(u, root.T), (A @ root).reshape(-1), rcond=None)[0]
        losses.append(np.square((u * v - A) @ root).sum())
    best = bounds.rank_constrained_optimum(A, H, 1)
    # The loss is s_1^2 sin^2 + s_2^2 cos^2 of the angle from the best, at most pi/4000 off.
    s = np.linalg.svd(A @ root, compute_uv=False)
    assert best * (1 - 1e-10) <= min(losses) <= best + s[0] ** 2 * (np.pi / 4000) ** 2


@pytest.mark.parametrize("samples", [3, 20])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_rank_constrained_optimum_is_attained_and_not_beaten(
    shape: tuple[int, int], samples: int
) -> None:
    rng = np.random.default_rng(9)
    A, H = rng.standard_normal(shape), second_moment(shape[1], rng, samples)
    for k in range(1, 6):
        best = bounds.rank_constrained_optimum(A, H, k)
        U, V = rank_constrained(A, H, k)
        E = U @ V - A
        scale = np.trace(A @ H @ A.T)
        assert np.trace(E @ H @ E.T) == pytest.approx(best, abs=1e-10 * scale)
        for _ in range(50):  # any other Z of rank k, near it or not
            Z = U @ V + 10.0 ** rng.uniform(-4, 0) * rng.standard_normal(shape)
            u, s, vt = np.linalg.svd(Z)
            E = (u[:, :k] * s[:k]) @ vt[:k] - A
            assert np.trace(E @ H @ E.T) >= best - 1e-10 * scale
    assert bounds.rank_constrained_optimum(A, H, 0) == pytest.approx(np.trace(A @ H @ A.T))
    assert bounds.rank_constrained_optimum(A, H, min(shape)) == 0


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
def test_theorem_4_1(shape: tuple[int, int]) -> None:
    n, d = shape
    rng = np.random.default_rng(n)
    H, W = second_moment(d, rng), rng.standard_normal(shape) * 2
    E, eta = feedback(W, H, np.arange(d))
    bits = 6
    reach = (2**bits - 1) / 2  # a step of 1
    assert np.abs(W - E + eta).max() <= reach  # unsaturated
    for k in range(0, min(shape) + 1, 2):
        if k:
            U, V = rank_constrained(E, H, k)
            left = E - U @ V
        else:
            left = E
        # An equality for the best L R, not rounded.
        found = np.trace(left @ H @ left.T) / n
        first = bounds.caldera_theorem_4_1_spectral(eta, H, k)
        assert found == pytest.approx(first, rel=1e-7, abs=1e-9)
        pivots = bounds.caldera_pivot_bound(H, n, k, bits, reach)
        second = bounds.caldera_theorem_4_1(H, n, k, bits, reach)
        assert first <= pivots * (1 + 1e-12) + 1e-12
        assert pivots <= second
        shifted = bounds.caldera_theorem_4_1_spectral(eta, H, k, 0.5)
        assert shifted == pytest.approx(first + 0.5)
        assert bounds.caldera_theorem_4_1(H, n, k, bits, reach, 0.5) == second + 0.5
        assert bounds.caldera_pivot_bound(H, n, k, bits, reach, 0.5) == pivots + 0.5


def test_theorem_4_1_by_hand() -> None:
    # d = 2, lambda_max = 3, R/(2^B - 1) = 2; 4/pi * 2 * 3 * 4 * (1 - 1/8)^2.
    H = [[2.0, 1.0], [1.0, 2.0]]
    assert bounds.caldera_theorem_4_1(H, 4, 1, 2, 6.0) == pytest.approx(96 / np.pi * 49 / 64)
    # tr D = 2 + 3/2.
    assert bounds.caldera_pivot_bound(H, 4, 1, 2, 6.0) == pytest.approx(3.5 * 4 / 2)


def test_flat_hessian_at_rank_zero_leaves_the_factor_4_over_pi() -> None:
    for n, d in product((3, 8), (3, 8)):
        ratio = bounds.caldera_theorem_4_1(np.eye(d), n, 0, 3, 1.0) / bounds.caldera_pivot_bound(
            np.eye(d), n, 0, 3, 1.0
        )
        assert ratio == pytest.approx(4 / np.pi)
