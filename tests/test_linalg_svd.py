"""Sketches, range finders and the truncated SVD: distributions, identities and accuracy."""

import numpy as np
import pytest
from scipy.fft import dct

from lplr.datasets import fashion_mnist
from lplr.exceptions import InputError
from lplr.kernels.project import sparse_project
from lplr.linalg.qr import orthonormal_basis, thin_qr
from lplr.linalg.sketches import KINDS, Sketch
from lplr.linalg.svd import _gram, range_finder, short_svd, truncated_svd


def with_spectrum(n, d, sigma):
    """A matrix with these singular values and dense, generic singular vectors."""
    rng = np.random.default_rng(0)
    A = np.zeros((n, d))
    A[np.arange(len(sigma)), np.arange(len(sigma))] = sigma
    for axis, size in ((0, n), (1, d)):
        for _ in range(2):  # signs and cosine transforms are orthogonal
            signs = rng.choice([-1.0, 1.0], size)
            A = dct(A * (signs[:, None] if axis == 0 else signs), axis=axis, norm="ortho")
    return A


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("d", "m"), [(16, 6), (19, 8)])
def test_expected_outer_product_is_the_identity(kind, d, m):
    """Mean of S S^T over 2000 draws, entry by entry.

    The variance of an entry is at most 2/m (gaussian, diagonal), 1/m (the others) or 4/m (SRHT
    with the Hartley matrix, entries of V up to sqrt(2/d)); so 7 standard deviations of the mean
    are at most 7 sqrt(4 / (2000 m)), passed by one of d^2 entries once in 10^9 runs.
    """
    rng = np.random.default_rng(0)
    draws = 2000
    total = np.zeros((d, d))
    for _ in range(draws):
        S = Sketch(kind, d, m, n_nonzeros=3).sample(rng).to_dense()
        assert S.shape == (d, m)
        total += S @ S.T
    assert np.abs(total / draws - np.eye(d)).max() < 7 * np.sqrt(4 / (draws * m))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "m"), [(1, 1, 1), (37, 300, 20), (700, 64, 64), (5, 513, 3)])
def test_apply_equals_the_dense_product(kind, dtype, n, d, m):
    rng = np.random.default_rng(1)
    A = rng.standard_normal((n, d)).astype(dtype)
    A.flags.writeable = False
    before = A.copy()
    S = Sketch(kind, d, m).sample(2, dtype)
    dense = S.to_dense()
    assert dense.dtype == dtype
    Y = S.apply(A)
    assert Y.dtype == dtype
    assert Y.flags.c_contiguous
    # d products of size |A_ij S_jk|, each rounded, in any order; the transform is more exact.
    bound = 4 * np.finfo(dtype).eps * np.sqrt(d) * (np.abs(A) @ np.abs(dense)).max()
    np.testing.assert_allclose(Y, A.astype(float) @ dense.astype(float), rtol=0, atol=bound)
    np.testing.assert_array_equal(A, before)
    np.testing.assert_array_equal(Sketch(kind, d, m).sample(2, dtype).apply(A), Y)
    if d > 1:
        assert not np.array_equal(Sketch(kind, d, m).sample(3, dtype).apply(A), Y)


def test_entries_are_those_of_the_named_distribution():
    d, m = 2000, 40
    S = Sketch("rademacher", d, m).sample(0).to_dense()
    np.testing.assert_array_equal(np.abs(S), 1 / np.sqrt(m))
    S = Sketch("sparse-sign", d, m).sample(0).to_dense()
    np.testing.assert_array_equal((S != 0).sum(axis=1), 8)
    np.testing.assert_allclose(np.abs(S[S != 0]), 1 / np.sqrt(8), rtol=1e-15)
    # A column holds Binomial(2000, 1/5) entries: 400 +- 18, so 7 deviations are 126.
    assert np.abs((S != 0).sum(axis=0) - 400).max() < 126
    assert (Sketch("sparse-sign", 9, 3).sample(0).to_dense() != 0).all()  # fewer than 8 columns
    S = Sketch("gaussian", d, m).sample(0).to_dense() * np.sqrt(m)
    # Fourth moment of 80000 normal draws: 3 +- sqrt(96 / 80000) = 0.035.
    assert abs((S**4).mean() - 3) < 7 * 0.035
    S = Sketch("srht", 64, 16).sample(0).to_dense()
    np.testing.assert_allclose(S.T @ S, np.eye(16) * 4, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_kernel(dtype):
    rng = np.random.default_rng(0)
    n, d, m, s = 37, 300, 11, 3
    A = rng.standard_normal((n, d)).astype(dtype)
    positions = np.array([rng.choice(m, s, replace=False) for _ in range(d)], np.int32)
    values = rng.standard_normal((d, s)).astype(dtype)
    expected = np.zeros((n, m))
    for i in range(2, 35):
        for j in range(d):
            for t in range(s):
                expected[i, positions[j, t]] += float(A[i, j]) * float(values[j, t])
    # Up to d s / m terms of size below 16, each sum rounded.
    bound = 16 * d * s * np.finfo(dtype).eps
    for run in (sparse_project, sparse_project.py_func):
        out = np.zeros((n, m), dtype)
        run(A, positions, values, out, 2, 35)
        np.testing.assert_allclose(out, expected, rtol=0, atol=bound)


def test_raw_sketch_is_what_algorithm_1_quantizes():
    A = np.random.default_rng(0).standard_normal((60, 40))
    for kind in KINDS:
        expected = A @ Sketch(kind, 40, 9).sample(5).to_dense()
        np.testing.assert_allclose(range_finder(A, 9, sketch=kind, rng=5), expected, atol=1e-13)


def test_power_iterations_span_the_power_and_keep_the_scale():
    sigma = 0.9 ** np.arange(40)
    A = with_spectrum(60, 50, sigma)
    S = Sketch("gaussian", 50, 8).sample(3).to_dense()
    for q in (1, 2):
        Y = range_finder(A, 8, n_power_iter=q, rng=3)
        power = A @ np.linalg.matrix_power(A.T @ A, q) @ S
        Q, P = np.linalg.qr(Y)[0], np.linalg.qr(power)[0]
        # The raw power has condition 10^3 at most here, so 10^-12 is far above rounding.
        np.testing.assert_allclose(Q @ Q.T, P @ P.T, rtol=0, atol=1e-11)
        singular = np.linalg.svd(Y, compute_uv=False)
        assert (singular <= sigma[:8] * (1 + 1e-12)).all()  # A Z with Z orthonormal
        assert singular[0] > 0.9 * sigma[0]
        assert np.linalg.cond(power) > 3 * np.linalg.cond(Y)


@pytest.mark.parametrize("kind", KINDS)
def test_range_finder_meets_its_bound(kind):
    """Halko, Martinsson and Tropp, Theorem 10.5, with k = 10 and p = 10.

    The mean of 10 draws; proved for Gaussian sketches, where measured means stay below 0.6 of
    the bound, and the same size for the others on a Haar-distributed row space.
    """
    k, m = 10, 20
    sigma = 1 / np.arange(1.0, 101)
    A = with_spectrum(200, 100, sigma)
    errors = []
    for seed in range(10):
        Q = orthonormal_basis(range_finder(A, m, sketch=kind, rng=seed))
        errors.append(np.linalg.norm(A - Q @ (Q.T @ A)) ** 2)
    assert np.mean(errors) <= (1 + k / (m - k - 1)) * (sigma[k:] ** 2).sum()
    assert np.mean(errors) >= (sigma[m:] ** 2).sum()  # Eckart-Young


def matrices_to_orthogonalise():
    rng = np.random.default_rng(0)
    G = rng.standard_normal((400, 30))
    yield "gaussian", G
    yield "condition 1e5", with_spectrum(400, 30, np.geomspace(1, 1e-5, 30))
    yield "condition 1e12", with_spectrum(400, 30, np.geomspace(1, 1e-12, 30))
    yield "rank 3", with_spectrum(400, 30, np.ones(3))
    yield "columns of different scale", G * np.geomspace(1e-15, 1e15, 30)
    yield "zero column", G * (np.arange(30) != 4)
    yield "equal columns", np.ones((400, 30))
    yield "zero", np.zeros((400, 30))
    yield "tiny", G * 1e-28
    yield "huge", G * 1e35
    yield "square", G[:30]
    yield "wide", G[:7]
    yield "one column", G[:, :1]
    yield "one row", G[:1]
    yield "1x1", G[:1, :1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("Y", [pytest.param(Y, id=name) for name, Y in matrices_to_orthogonalise()])
def test_orthonormal_basis(Y, dtype):
    Y = Y.astype(dtype)
    before = Y.copy()
    Q, R = thin_qr(Y)
    np.testing.assert_array_equal(orthonormal_basis(Y), Q)
    np.testing.assert_array_equal(Y, before)
    r = min(Y.shape)
    assert Q.shape == (len(Y), r)
    assert Q.dtype == dtype
    # Householder reflections in float64 leave up to about sqrt(n) r eps (Higham, Theorem 19.4, for
    # random signs of the errors); then the rounding of n <= 400 entries to the dtype.
    tol = np.sqrt(len(Y)) * r * np.finfo(float).eps + 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(Q.T.astype(float) @ Q, np.eye(r), rtol=0, atol=tol)
    # Backward stable column by column, so that scale does not matter.
    residual = np.linalg.norm(Q.astype(float) @ R - Y, axis=0)
    assert (residual <= 20 * tol * np.linalg.norm(Y.astype(float), axis=0)).all()


def test_gram_is_the_product():
    A = np.random.default_rng(0).standard_normal((50, 300))
    G = _gram(A)
    np.testing.assert_allclose(G, A.T @ A, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(G, G.T)


def check_svd(A, k, sigma, excess, **options):
    """Orthonormal factors and an error within a factor ``1 + excess`` of the best."""
    U, s, Vt = truncated_svd(A, k, rng=0, **options)
    n, d = A.shape
    assert (U.shape, s.shape, Vt.shape) == ((n, k), (k,), (k, d))
    assert U.flags.c_contiguous
    assert Vt.flags.c_contiguous
    assert (np.diff(s) <= 0).all()
    eps = np.finfo(U.dtype).eps
    for Q in (U, Vt.T):
        np.testing.assert_allclose(Q.T.astype(float) @ Q, np.eye(k), rtol=0, atol=40 * eps)
    error = np.linalg.norm(A - (U * s).astype(float) @ Vt)
    best = np.sqrt((sigma[k:] ** 2).sum())
    # U, s and Vt are rounded to their dtype, and A was: that much is left of any spectrum.
    assert error <= best * (1 + excess) + 60 * eps * np.linalg.norm(A)
    return s


@pytest.mark.parametrize("k", [62, 125, 250])
def test_svd_of_a_slow_spectrum(k):
    sigma = 1 / np.arange(1.0, 1001)
    check_svd(with_spectrum(1000, 1000, sigma).astype(np.float32), k, sigma, 0.005)


def test_svd_of_images():
    A = fashion_mnist("train").images[:4000].reshape(4000, -1) / np.float32(255)
    G = A.astype(float).T @ A
    sigma = np.sqrt(np.maximum(np.linalg.eigvalsh(G)[::-1], 0))
    for k in (62, 250):
        check_svd(A, k, sigma, 0.005)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("base", [0.5, 0.95, 0.98])
@pytest.mark.parametrize("shape", [(400, 300), (300, 400)])
def test_svd_of_steep_spectra(base, dtype, shape):
    """Where the Gram matrix loses the small singular values, A itself is iterated with."""
    sigma = base ** np.arange(300.0)
    check_svd(with_spectrum(*shape, sigma).astype(dtype), 60, sigma, 0.005)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "k"),
    [((50, 30), 30), ((30, 50), 25), ((200, 1), 1), ((1, 200), 1), ((1, 1), 1), ((40, 40), 39)],
)
def test_svd_nearly_full_is_exact(shape, k, dtype):
    A = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    exact = np.linalg.svd(A.astype(float), compute_uv=False)
    s = check_svd(A, k, exact, 1e-6)
    np.testing.assert_allclose(s, exact[:k], rtol=0, atol=50 * np.finfo(dtype).eps * exact[0])
    again = truncated_svd(A, k, rng=1)[1]
    np.testing.assert_array_equal(s, again)  # nothing random


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (600, 400)])
@pytest.mark.parametrize("kind", KINDS)
def test_svd_of_low_rank_and_zero_matrices(shape, kind):
    sigma = np.array([3.0, 2, 1])
    A = with_spectrum(*shape, sigma).astype(np.float32)
    s = check_svd(A, 20, sigma, 0, sketch=kind)
    np.testing.assert_allclose(s[:4], [3, 2, 1, 0], rtol=0, atol=1e-5)
    s = check_svd(np.zeros(shape, np.float32), 5, np.zeros(9), 0, sketch=kind)
    np.testing.assert_array_equal(s, 0)


def test_svd_of_a_matrix_much_wider_than_the_sketch():
    """There, no Gram matrix is formed."""
    sigma = 1 / np.arange(1.0, 501) ** 1.5
    A = with_spectrum(600, 500, sigma).astype(np.float32)
    check_svd(A, 10, sigma, 0.005)
    check_svd(np.ascontiguousarray(A.T), 10, sigma, 0.005)


def test_same_bits_at_any_number_of_threads(monkeypatch):
    A = np.random.default_rng(0).standard_normal((1500, 400), dtype=np.float32)
    results = []
    for threads in "123":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        run = [range_finder(A, 30, sketch=kind, rng=0) for kind in KINDS]
        run.append(range_finder(A, 30, n_power_iter=2, rng=0))
        for k in (20, 60, 350):  # without Gram matrix, with it, exact
            run += truncated_svd(A, k, rng=0)
        run.append(orthonormal_basis(np.ones((1500, 60), np.float32)))
        results.append(run)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_inputs_are_not_changed_and_dtypes_kept():
    A = np.random.default_rng(0).standard_normal((90, 70))
    for dtype, kept in ((np.float64, np.float64), (np.float32, np.float32), (int, np.float32)):
        X = (10 * A).astype(dtype)
        before = X.copy()
        assert range_finder(X, 5, rng=0, n_power_iter=1).dtype == kept
        assert {M.dtype for M in truncated_svd(X, 5, rng=0)} == {np.dtype(kept)}
        np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(
        range_finder(np.asfortranarray(A), 5, rng=0), range_finder(A, 5, rng=0)
    )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda A: range_finder(A, 0), "m"),
        (lambda A: range_finder(A, 11), "m"),
        (lambda A: range_finder(A, 2, sketch="hadamard"), "kind"),
        (lambda A: range_finder(A, 2, n_power_iter=-1), "n_power_iter"),
        (lambda A: range_finder(A, 2, rng="x"), "rng"),
        (lambda A: range_finder(A * np.nan, 2), "A"),
        (lambda A: truncated_svd(A, 11), "rank"),
        (lambda A: truncated_svd(A, 2, n_power_iter=0), "n_power_iter"),
        (lambda A: truncated_svd(A, 2, n_oversamples=-1), "n_oversamples"),
        (lambda A: truncated_svd(A[0], 2), "A"),
        (lambda A: Sketch("srht", 8, 9), "m"),
        (lambda A: Sketch("gaussian", 0, 9), "d"),
        (lambda A: Sketch("sparse-sign", 8, 4, n_nonzeros=0), "n_nonzeros"),
    ],
)
def test_refusals_name_the_argument(call, name):
    with pytest.raises(InputError, match=f"^{name}: "):
        call(np.ones((10, 12)))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("n", "d", "k", "least"),
    [
        (300, 120, 60, 1e-2),  # all eigenvectors, float64
        (1500, 1100, 700, 1e-2),  # float32 suffices
        (1500, 1100, 700, 1e-5),  # float32 knows nothing of the smallest ones
        (900, 400, 40, 1e-2),  # a range finder on the Gram matrix
        (900, 400, 40, 1e-5),  # on the matrix itself
        (900, 600, 20, 1e-1),  # a narrow sketch: on the matrix itself
    ],
)
def test_short_svd_is_that_of_the_shorter_side(n, d, k, least, wide):
    """Values and projections of the exact one; the range finder is used where values decay fast.

    Each value is known to the rounding of float32 products, some 1e-6 of the largest; from a
    Gram matrix that is divided by the value itself, which the limit of 1e-3 keeps below 1e-3.
    """
    sigma = np.geomspace(1, least, k)
    sigma = np.concatenate([sigma, 1e-3 * least * np.ones(min(n, d) - k)])
    A = with_spectrum(n, d, sigma).astype(np.float32)
    A = np.ascontiguousarray(A.T) if wide else A
    s, V = short_svd(A, k, rng=0)
    assert s.dtype == V.dtype == np.float32
    assert V.shape == (k, d)
    np.testing.assert_allclose(s, sigma[:k], rtol=2e-3, atol=2e-7)
    np.testing.assert_allclose(V @ V.T, np.eye(k), atol=1e-5)
    rest = A - V.T @ (V @ A) if wide else A - (A @ V.T) @ V
    assert np.linalg.norm(rest) <= 1.01 * np.linalg.norm(sigma[k:]) + 1e-5
