"""The factorizations: Algorithm 1 against a plain one, least squares, scales, budgets."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lplr
from lplr.algorithms.factorize import METHODS
from lplr.coding.lplr import rounded_factors, solved_factors
from lplr.exceptions import BudgetWarning
from lplr.linalg.sketches import Sketch
from lplr.planning.sizes import StoredScales, factor_nbytes
from lplr.quantizers import get_codebook

SKETCHES = ("gaussian", "rademacher", "srht", "sparse-sign")


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    return lplr.datasets.synthetic(150, 120, "power", exponent=1.0, rng=0).astype(np.float32)


def dense(f: lplr.LowRank) -> np.ndarray:
    left, right = (part.to_dense().astype(np.float64) for part in (f.left, f.right))
    return left @ right + f.shift


def norm(X: np.ndarray) -> float:
    return float(np.linalg.norm(X.astype(np.float64)))


def two(bits: int) -> tuple:
    return (get_codebook("uniform", bits),) * 2


# --- paper 1 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sketch", SKETCHES)
def test_algorithm_1(A: np.ndarray, sketch: str, bits: int) -> None:
    """With the same sketch, the plain float64 algorithm makes the same matrix, nearly.

    Float32 puts a few entries on the other side of a tie; each moves L R by a step at most.
    """
    S = Sketch(sketch, A.shape[1], 25).sample(0, np.float32)
    rng = np.random.default_rng(0)
    found = dense(solved_factors(A, S.apply(A), two(bits), "nearest", False, rng))
    expected = naive.algorithm_1(A.astype(np.float64), S.to_dense().astype(np.float64), bits)
    assert norm(found - expected) < 0.02 * norm(A - expected)


def test_lplr_svd_starts_from_the_best_approximation(A: np.ndarray) -> None:
    U, s, _ = np.linalg.svd(A.astype(np.float64))
    L = naive.min_max((U * np.r_[s, np.zeros(30)])[:, :25], 6)
    W = np.linalg.lstsq(L, A.astype(np.float64), rcond=None)[0]
    expected = norm(L @ naive.min_max(W, 6) - A) / norm(A)
    f = lplr.factorize(A, rank=25, method="lplr-svd", bits=6, n_power_iter=6, rng=0)
    # Singular vectors may differ in sign, which a min-max grid notices: by its step, not more.
    assert f.relative_error(A) == pytest.approx(expected, rel=0.03)


def test_direct_svd_rounds_both_factors(A: np.ndarray) -> None:
    U, s, Vt = np.linalg.svd(A)
    L, R = U[:, :25], s[:25, None] * Vt[:25]
    expected = naive.min_max(L.astype(float), 6) @ naive.min_max(R.astype(float), 6)
    f = rounded_factors(A, L, R, two(6), "nearest", False, np.random.default_rng(0))
    assert norm(dense(f) - expected) < 0.02 * norm(A - expected)
    errors = {
        m: lplr.factorize(A, rank=25, method=m, bits=6, rng=0).relative_error(A) for m in METHODS
    }
    assert f.relative_error(A) == pytest.approx(errors["direct-svd"], rel=0.03)
    assert errors["feedback"] < errors["lplr-svd"] < errors["direct-svd"]
    assert errors["lplr-svd"] < errors["lplr"]


@pytest.mark.parametrize("method", ["lplr", "lplr-svd", "direct-svd"])
def test_normalize_finds_the_best_two_numbers(A: np.ndarray, method: str) -> None:
    B = A + np.float32(0.02)
    plain = lplr.factorize(B, rank=10, method=method, bits=3, rng=0)
    f = lplr.factorize(B, rank=10, method=method, bits=3, normalize=True, rng=0)
    np.testing.assert_array_equal(f.left.codes, plain.left.codes)
    np.testing.assert_array_equal(f.right.codes, plain.right.codes)
    P = dense(plain).ravel()
    design = np.stack([P, np.ones_like(P)], axis=1)
    alpha, beta = np.linalg.lstsq(design, B.ravel().astype(np.float64), rcond=None)[0]
    assert f.shift == pytest.approx(beta, rel=1e-3)
    np.testing.assert_allclose(f.right.scale, plain.right.scale * alpha, rtol=1e-4)
    best = norm(alpha * P + beta - B.ravel())
    assert norm(dense(f) - B) == pytest.approx(best, rel=1e-5)
    assert best < norm(dense(plain) - B)
    assert f.nbytes == plain.nbytes + 8


def test_power_iterations_find_a_better_range(A: np.ndarray) -> None:
    errors = [
        lplr.factorize(A, rank=30, method="lplr", bits=8, n_power_iter=q, rng=0).relative_error(A)
        for q in (0, 1, 2)
    ]
    assert errors[2] < errors[1] < 0.9 * errors[0]


def test_dithered_factors(A: np.ndarray) -> None:
    a, b, c = (
        lplr.factorize(A, rank=20, method="lplr", bits=6, rounding="dithered", rng=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a.left.codes, b.left.codes)
    assert not np.array_equal(a.left.codes, c.left.codes)
    nearest = lplr.factorize(A, rank=20, method="lplr", bits=6, rng=0)
    assert nearest.relative_error(A) < a.relative_error(A) < 1


# --- feedback factorization ------------------------------------------------------------------


def test_history_is_the_error_before_the_last_fit(A: np.ndarray) -> None:
    f = lplr.factorize(A, rank=40, bits=4, rng=0)
    history = f.meta["history"]
    assert 1 <= len(history) <= 3
    assert f.relative_error(A) <= min(history) * (1 + 1e-4)
    # What the last fit of the scales gains is small.
    assert f.relative_error(A) > 0.9 * min(history)


def test_lattices_run_down_l_and_along_r(A: np.ndarray) -> None:
    for method in ("feedback", "lplr-svd"):
        f = lplr.factorize(A, rank=9, bits=2, quantizer="e8p", method=method, rng=0)
        assert (f.left.axis, f.right.axis) == (0, 1)
        assert f.left.codes.nbytes == -(-150 // 8) * 9 * 2
        assert f.right.codes.nbytes == 9 * 120 // 8 * 2


# --- what is recorded ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_meta_repeats_the_run(A: np.ndarray, method: str) -> None:
    f = lplr.factorize(A, rank=7, method=method, rng=5)
    assert (f.shape, f.rank, f.left.bits, f.right.bits) == (A.shape, 7, 4, 4)
    call = f.meta["call"]["arguments"]
    assert (call["method"], call["rng"]) == (method, 5)
    assert f.meta["versions"]["numpy"] == np.__version__
    again = lplr.factorize(A, rank=f.rank, method=call["method"], rng=call["rng"])
    np.testing.assert_array_equal(again.to_dense(), f.to_dense())
    other = lplr.factorize(A, rank=7, method=method, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(other.to_dense(), f.to_dense())
    assert other.meta["call"]["arguments"]["rng"]["bit_generator"] == "PCG64"
    assert not np.array_equal(
        lplr.factorize(A, rank=7, method=method, rng=6).to_dense(), f.to_dense()
    )


@pytest.mark.parametrize("method", METHODS)
def test_magnitude_only_scales_the_result(A: np.ndarray, method: str) -> None:
    """By powers of two, exactly."""
    expected = lplr.factorize(A, rank=7, method=method, rng=0)
    for power in (-90, 95):
        factor = np.float32(2.0**power)
        f = lplr.factorize(A * factor, rank=7, method=method, rng=0)
        error = f.relative_error(A * factor)
        assert error == pytest.approx(expected.relative_error(A), rel=1e-4)


# --- budgets ---------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(2, 60), st.integers(2, 60)),
    st.sampled_from([0.5, 1.0, 2.0, 3.3, 7.0]),
    st.sampled_from(METHODS),
    st.sampled_from([(None, None), ("e8p", 2), ("uniform", 3), ("lloyd-max", 16)]),
)
@settings(max_examples=40)
def test_budget_is_kept(shape, bits_per_entry, method, kind) -> None:
    A = np.random.default_rng(0).standard_normal(shape)
    quantizer, bits = kind
    options = {"quantizer": quantizer, "bits": bits, "method": method, "rng": 0}
    if method != "feedback":
        options["normalize"] = True
    try:
        f = lplr.factorize(A, bits_per_entry=bits_per_entry, **options)
    except lplr.exceptions.BudgetError:
        book = get_codebook(quantizer or "lloyd-max", bits or 2)
        assert bits_per_entry * A.size / 8 < factor_nbytes(
            shape, 1, (book, book), StoredScales(0, 6)
        )
        return
    assert f.bits_per_entry <= bits_per_entry
    if bits is not None and f.rank < min(shape):
        # The rank is the largest: one more component would not fit, but for unused scales.
        spare = bits_per_entry * A.size / 8 - f.nbytes
        book = get_codebook(quantizer, bits)
        assert spare < sum(-(-side // book.group) * book.width / 8 + 5 for side in shape) + 24


def test_a_budget_that_allows_everything_takes_the_full_rank() -> None:
    A = np.random.default_rng(0).standard_normal((12, 9))
    with pytest.warns(BudgetWarning, match="nothing becomes smaller"):
        f = lplr.factorize(A, bits_per_entry=1000, rng=0)
    assert f.rank == 9
    assert f.relative_error(A) < 1e-3


def test_blocks_before_a_long_one_leave_it_what_it_can_mend(monkeypatch) -> None:
    """By two passes they lost what a single pass of the long block cannot reach: 1.22 here."""
    A = np.random.default_rng(0).standard_normal((800, 256)) * np.arange(1, 257) ** -0.5
    fast = lplr.factorize(A, bits_per_entry=2, effort="fast", rng=0)
    monkeypatch.setattr("lplr.coding.blocks._LONG", 0.0)
    f = lplr.factorize(A, bits_per_entry=2, rng=0)
    assert len(f.left.blocks) > 1
    assert f.left.blocks[-1].shape[1] > 0.4 * 256
    assert f.relative_error(A) < 1.01 * fast.relative_error(A)
