"""Feedback quantization: the kernel, LDL feedback and coordinate descent against plain loops.

Exact tests use dyadic numbers of so few bits that every sum is exact in float32 in any order;
then blocked and unblocked codes must agree everywhere, ties included.
"""

from __future__ import annotations

from itertools import pairwise

import naive
import numpy as np
import pytest
from helpers import dense_hessian

from lplr.coding.feedback import matched_scale, quantize_feedback, quantize_two_sided
from lplr.kernels.feedback import feedback_columns, feedback_panel
from lplr.linalg.ldl import ldl, min_pivot_ldl
from lplr.linalg.triangular import lower_inverse
from lplr.quantizers import get_codebook

SCALAR = [("uniform", 1), ("uniform", 2), ("uniform", 4), ("uniform", 8)]


def dyadic(rng: np.random.Generator, shape: tuple[int, ...], unit: float, limit: int) -> np.ndarray:
    """Multiples of ``unit`` up to ``limit`` units in magnitude."""
    return unit * rng.integers(-limit, limit + 1, shape)


def layered(rng: np.random.Generator, k: int, layers: int = 4) -> np.ndarray:
    """A unit lower triangular L of few bits: entries +-1/4, at most four in a row.

    Row j feeds row i < j only from a lower to a higher of four layers, so that errors pass
    through at most three coefficients and keep at most six bits more than they began with.
    """
    L = np.eye(k)
    layer = rng.integers(0, layers, k)
    for j in range(k):
        below = np.flatnonzero(layer[:j] > layer[j])
        chosen = rng.permutation(below)[:4]
        L[j, chosen] = rng.choice([-0.25, 0.25], len(chosen))
    return L


# --- kernel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (9, 64), (12, 70)])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_kernel_equals_python_equals_naive(shape: tuple[int, int], bits: int) -> None:
    rng = np.random.default_rng(bits)
    book = get_codebook("uniform", bits)
    k = shape[0]
    L = layered(rng, k).astype(np.float32)
    L += np.triu(np.full((k, k), 7, np.float32), 1)  # above the diagonal nothing is read
    X = dyadic(rng, shape, 1 / 8, 24).astype(np.float32)
    scale = rng.choice([0.5, 1.0, 2.0], k).astype(np.float32)
    scale[k // 2] = 0 if k > 1 else 1
    expected, error, _ = naive.ldlq(X, np.tril(L), book.levels, scale)
    for kernel in (feedback_panel, feedback_panel.py_func):
        codes, e = np.full(shape, 99, np.uint8), np.full(shape, np.nan, np.float32)
        kernel(X, X, L, book.thresholds, book.levels, scale, e, codes)
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_array_equal(e, error)


def test_kernel_measures_the_error_from_base() -> None:
    book = get_codebook("uniform", 2)
    target, base = np.full((2, 1), 0.75, np.float32), np.full((2, 1), 0.25, np.float32)
    coeff = np.array([[0, 0], [4, 0]], np.float32)
    error, codes = np.empty((2, 1), np.float32), np.empty((2, 1), np.uint8)
    one = np.ones(2, np.float32)
    feedback_panel(target, base, coeff, book.thresholds, book.levels, one, error, codes)
    # Row 1: 0.75 -> level 0.5, error 0.25 - 0.5. Row 0: 0.75 + 4 (-0.25) = -0.25 -> -0.5.
    assert codes.tolist() == [[1], [2]]
    assert error.tolist() == [[0.75], [-0.25]]


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (9, 14)])
@pytest.mark.parametrize("bits", [1, 3])
def test_two_sided_kernel_equals_python_equals_naive(shape: tuple[int, int], bits: int) -> None:
    """Against one-sided feedback on vec(X) under the Kronecker product of both factors."""
    rng = np.random.default_rng(bits)
    book = get_codebook("uniform", bits)
    (p, k), X = shape, dyadic(rng, shape, 1 / 8, 24).astype(np.float32)
    scale = rng.choice([0.5, 1.0, 2.0], k).astype(np.float32)
    scale[k // 2] = 0 if k > 1 else 1
    outer, inner = layered(rng, p, 2), layered(rng, k, 2)
    both = np.kron(outer, inner)
    expected, error, _ = naive.ldlq(X.reshape(-1, 1), both, book.levels, np.tile(scale, p))
    for kernel in (feedback_columns, feedback_columns.py_func):
        codes, e = np.full(shape, 99, np.uint8), np.full(shape, np.nan, np.float32)
        factors = (np.ascontiguousarray(L, np.float32) for L in (outer, inner))
        kernel(X, X, *factors, book.thresholds, book.levels, scale, e, codes)
        np.testing.assert_array_equal(codes.ravel(), expected[:, 0])
        np.testing.assert_array_equal(e.ravel(), error[:, 0])


# --- LDL feedback ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (64, 5), (65, 9), (140, 33)])
@pytest.mark.parametrize(("quantizer", "bits"), SCALAR)
def test_blocked_is_unblocked_code_for_code(shape: tuple[int, int], quantizer: str, bits: int):
    rng = np.random.default_rng(shape[0] + bits)
    book = get_codebook(quantizer, bits)
    L = layered(rng, shape[0])
    # All pivots are 1, so that the factorization is exact and the order the given one.
    X = dyadic(rng, shape, 1 / 8, 24).astype(np.float32)
    scale = rng.choice([0.5, 1.0, 2.0], shape[0]).astype(np.float32)
    before = X.copy()
    codes, same, error = quantize_feedback(X, L @ L.T, book, scale)
    expected, expected_error, _ = naive.ldlq(X, L, book.levels, scale)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(error, expected_error)
    np.testing.assert_array_equal(same, scale)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("quantizer", "bits"),
    [("uniform", 3), ("lloyd-max", 4), ("normal-float", 2), ("uniform", 16)],
)
def test_each_code_is_nearest_after_feedback(quantizer: str, bits: int) -> None:
    """On any Hessian, from the errors that were returned: no chain of roundings is repeated."""
    rng = np.random.default_rng(bits)
    k, n = 150, 40
    book = get_codebook(quantizer, bits)
    H = dense_hessian(rng, k)
    X = rng.standard_normal((k, n)).astype(np.float32)
    codes, scale, error = quantize_feedback(X, H, book)
    Q = scale[:, None] * book.decode(codes)[..., 0]
    np.testing.assert_allclose(X - Q, error, atol=1e-6 * np.abs(X).max())
    order, L, _ = min_pivot_ldl(H)
    x, q, e, s = X[order], Q[order], error[order].astype(np.float64), scale[order]
    y = x + np.tril(L, -1).T @ e
    if bits == 16:
        nearest = (y / s[:, None]).astype(np.float16) * s[:, None].astype(np.float64)
    else:
        levels = s[:, None, None] * book.levels.astype(np.float64)
        nearest = np.take_along_axis(levels, np.abs(y[..., None] - levels).argmin(-1)[..., None], 2)
        nearest = nearest[..., 0]
    # Where float32 puts y on the other side of a threshold, both levels are equally far but for
    # the rounding of a sum of 150 terms of order 1.
    assert (np.abs(y - q) <= np.abs(y - nearest) + 2e-5).all()
    assert np.mean(np.abs(q - nearest) > 1e-6) < 0.01


def test_loss_is_that_of_the_rounding_errors() -> None:
    """(W - Q) H (W - Q)^T = eta D eta^T, for eta recorded by the plain loop."""
    rng = np.random.default_rng(0)
    H = dense_hessian(rng, 24)
    X = rng.standard_normal((24, 30))
    L, D = naive.ldl(H)
    _, E, eta = naive.ldlq(X, L, get_codebook("lloyd-max", 3).levels, np.full(24, 0.9))
    loss = naive.loss(E, H)
    assert abs(loss - float(D @ (eta**2).sum(axis=1))) <= 1e-10 * loss


def test_feedback_loses_less_than_rounding() -> None:
    """By tr(D) / tr(H), about: on a Hessian of condition 100 less than half."""
    rng = np.random.default_rng(1)
    H = dense_hessian(rng, 100)
    X = rng.standard_normal((100, 200)).astype(np.float32)
    book = get_codebook("lloyd-max", 4)
    _, scale, error = quantize_feedback(X, H, book)
    _, _, plain = quantize_feedback(X, np.eye(100), book, scale)
    assert naive.loss(error, H) < 0.5 * naive.loss(plain, H)


def test_scales_match_what_is_rounded() -> None:
    """The variance of what each row rounds is predicted to 15 %, half of it sampling error."""
    rng = np.random.default_rng(2)
    H = dense_hessian(rng, 60)
    X = rng.standard_normal((60, 4000)).astype(np.float32)
    book = get_codebook("uniform", 2)
    L, _ = ldl(H)
    scale = matched_scale(X, lower_inverse(L), book)
    _, E, eta = naive.ldlq(X[:, :300], L, book.levels, scale)
    rounded = X[:, :300] - E + eta
    predicted = scale / book.gaussian_scale
    # 300 samples give a standard deviation to 4 %; five of those is 20 %.
    np.testing.assert_allclose(rounded.std(axis=1), predicted, rtol=0.2)
    assert abs((rounded.std(axis=1) / predicted).mean() - 1) < 0.05


def test_zero_rows_stay_zero() -> None:
    X = np.zeros((3, 16), np.float32)
    for quantizer, bits in (("uniform", 2), ("e8p", 2), ("uniform", 16)):
        _, scale, error = quantize_feedback(X, np.eye(3), get_codebook(quantizer, bits), sweeps=1)
        assert not scale.any()
        assert not error.any()


# --- coordinate descent ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 8), (65, 9), (140, 20)])
@pytest.mark.parametrize(("quantizer", "bits"), SCALAR)
def test_descent_is_entry_by_entry(shape: tuple[int, int], quantizer: str, bits: int) -> None:
    rng = np.random.default_rng(shape[0])
    book = get_codebook(quantizer, bits)
    k = shape[0]
    # A unit diagonal and a few +-1/16: the sweep's coefficients are exact, H is dominant.
    H = np.eye(k)
    for i in range(k):
        j = rng.integers(k, size=3)
        H[i, j[j != i]] = H[j[j != i], i] = rng.choice([-1, 1]) / 16
    # All diagonal entries being 1 leaves the order to the pivots; the sweep starts from it.
    order = min_pivot_ldl(H)[0]
    X = dyadic(rng, shape, 1 / 8, 24).astype(np.float32)
    scale = rng.choice([0.5, 1.0], k).astype(np.float32)
    codes = quantize_feedback(X, H, book, scale)[0]
    for sweeps in (1, 2):
        expected = naive.descend(
            X[order], codes[order], H[np.ix_(order, order)], book.levels, scale[order]
        )
        codes, _, error = quantize_feedback(X, H, book, scale, sweeps=sweeps)
        np.testing.assert_array_equal(codes[order], expected)
        np.testing.assert_array_equal(error, X - scale[:, None] * book.levels[codes])


@pytest.mark.parametrize(
    ("quantizer", "bits"), [("uniform", 1), ("lloyd-max", 3), ("normal-float", 4), ("e8p", 2)]
)
def test_descent_never_increases_the_loss(quantizer: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    k, n = 130, 64
    book = get_codebook(quantizer, bits)
    H = dense_hessian(rng, k)
    X = rng.standard_normal((k, n)).astype(np.float32)
    losses = []
    for sweeps in range(5):
        _, _, error = quantize_feedback(X, H, book, sweeps=sweeps)
        columns = np.einsum("ki,kl,li->i", error.astype(np.float64), H, error)
        losses.append(columns.reshape(-1, book.group).sum(axis=1))
    # Float32 may take the worse of two levels whose losses differ by its rounding.
    for before, after in pairwise(losses):
        assert (after <= before * (1 + 1e-5)).all()
    assert losses[-1].sum() < 0.99 * losses[0].sum()


@pytest.mark.parametrize("book", [("uniform", 4), ("e8p", 2), ("lloyd-max", 16)])
def test_same_bits_at_any_number_of_threads(book, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    H = dense_hessian(rng, 70)
    X = rng.standard_normal((70, 1600)).astype(np.float32)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setenv("LPLR_NUM_THREADS", str(threads))
        results.append(quantize_feedback(X, H, get_codebook(*book), sweeps=1))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


# --- feedback in both directions -------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 4), (130, 6), (20, 70)])
def test_two_sided_loss_is_that_of_the_rounding_errors(shape: tuple[int, int]) -> None:
    """tr(G E^T H E) = sum D_H D_G eta^2, eta = L_H^T E L_G, each entry at its nearest level."""
    rng = np.random.default_rng(0)
    H, G = (A.T @ A / len(A) for A in (rng.standard_normal((2 * k, k)) for k in shape))
    X = rng.standard_normal(shape).astype(np.float32)
    book = get_codebook("lloyd-max", 3)
    scale = rng.uniform(0.7, 1.2, shape[1]).astype(np.float32)
    factor = min_pivot_ldl(H)
    codes, E = quantize_two_sided(X, factor, G, book, scale)
    np.testing.assert_allclose(E, X - scale * book.levels[codes], atol=1e-6)
    (rows, L, D), (columns, M, F) = factor, min_pivot_ldl(G)
    exact = (X - scale * book.levels[codes].astype(np.float64))[np.ix_(rows, columns)]
    eta = L.T @ exact @ M
    whole = np.vdot(H[np.ix_(rows, rows)] @ exact, exact @ G[np.ix_(columns, columns)])
    assert whole == pytest.approx((np.outer(D, F) * eta**2).sum(), rel=1e-10)
    # What is rounded is Q + eta: its nearest level is the one that was taken, but for float32.
    q = (scale * book.levels[codes])[np.ix_(rows, columns)]
    y = (q + eta)[..., None]
    nearest = np.abs(y - scale[columns][:, None] * book.levels).min(axis=-1)
    assert (np.abs(eta) <= nearest + 1e-4).all()
    # And it pays: less than rounding every entry, on Hessians that are far from diagonal.
    plain = X - scale * book.levels[book.encode((X / scale)[..., None])]
    assert whole < np.vdot(H @ plain, plain @ G)
