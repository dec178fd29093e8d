"""Each measure of error against its formula, written out naively in float64."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import lplr
from lplr.evaluation import errors
from lplr.evaluation.resources import measured, run_fresh, threads
from lplr.exceptions import HessianError, InputError, MissingPackageError

TALL = np.random.default_rng(0).standard_normal((91, 13)) + 0.3
WIDE = np.ascontiguousarray(np.random.default_rng(1).standard_normal((13, 91)))
H = np.cov(np.random.default_rng(2).standard_normal((200, 13)).cumsum(axis=1).T)
needs_ssim = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="needs scikit-image"
)


def approximations(A: np.ndarray) -> dict[str, Callable[[], Any]]:
    noisy = A + 0.1 * np.random.default_rng(5).standard_normal(A.shape)
    return {
        "float64": lambda: noisy,
        "float32": lambda: noisy.astype(np.float32),
        "low rank": lambda: lplr.factorize(A, rank=5, bits=4, rng=0),
        "quantized": lambda: lplr.quantize(A, bits=3),
        "decomposed": lambda: lplr.caldera(A, rank=2, rng=0),
        "operator": lambda: aslinearoperator(noisy),
    }


def dense(B: Any) -> np.ndarray:
    """In float64, by the products that the operator promises."""
    return B @ np.eye(B.shape[1]) if isinstance(B, LinearOperator) else np.asarray(B, np.float64)


# The dense matrix of a packed result is rounded to float32 where its products are not.
close = {"rtol": 1e-6}


@pytest.mark.parametrize("name", approximations(TALL))
@pytest.mark.parametrize("A", [TALL, WIDE, TALL.astype(np.float32)])
def test_formulas(A: np.ndarray, name: str) -> None:
    B = approximations(A)[name]()
    a, b = A.astype(np.float64), dense(B)
    E = a - b
    n = len(a)

    expected = np.linalg.norm(E) / np.linalg.norm(a)
    np.testing.assert_allclose(errors.relative_error(A, B), expected, **close)

    expected = np.linalg.norm(E, 2) / np.linalg.norm(a, 2)
    np.testing.assert_allclose(errors.spectral_error(A, B), expected, **close)

    change = a @ a.T - b @ b.T
    expected = np.linalg.norm(change) / np.linalg.norm(a @ a.T)
    np.testing.assert_allclose(errors.inner_product_distortion(A, B), expected, **close)

    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    apart = ~np.eye(n, dtype=bool)
    expected = np.sqrt(np.mean((u @ u.T - v @ v.T)[apart] ** 2))
    np.testing.assert_allclose(errors.cosine_distortion(A, B), expected, **close)

    by_row = [np.linalg.norm(E[i]) / np.linalg.norm(a[i]) for i in range(n)]
    np.testing.assert_allclose(errors.row_errors(A, B), by_row, **close)

    expected = 10 * np.log10(np.ptp(a) ** 2 / np.mean(E**2))
    np.testing.assert_allclose(errors.psnr(A, B), expected, **close)
    expected += 20 * np.log10(2 / np.ptp(a))
    np.testing.assert_allclose(errors.psnr(A, B, peak=2), expected, **close)


@pytest.mark.parametrize("name", approximations(TALL))
def test_error_under_a_hessian(name: str) -> None:
    B = approximations(TALL)[name]()
    E = TALL - dense(B)
    for hessian in (H, np.diagonal(H), np.random.default_rng(0).standard_normal((50, 13))):
        full = np.diag(hessian) if hessian.ndim == 1 else hessian
        full = full if len(full) == 13 else full.T @ full / len(full)
        expected = np.sqrt(np.trace(E @ full @ E.T) / np.trace(TALL @ full @ TALL.T))
        np.testing.assert_allclose(errors.hessian_error(TALL, B, hessian), expected, **close)
    if hasattr(B, "relative_error"):  # what a packed result says of itself is the same
        np.testing.assert_allclose(
            errors.hessian_error(TALL, B, H), B.relative_error(TALL, H), rtol=1e-9
        )
        np.testing.assert_allclose(
            errors.relative_error(TALL, B), B.relative_error(TALL), rtol=1e-9
        )


def test_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    B = lplr.factorize(TALL, rank=5, bits=4, rng=0)
    names = ("relative_error", "spectral_error", "inner_product_distortion", "cosine_distortion")
    whole = [getattr(errors, name)(TALL, B) for name in (*names, "psnr")]
    rows = errors.row_errors(TALL, B)
    monkeypatch.setattr("lplr.matrices.rows._BLOCK", 13 * 8)  # eleven blocks and a rest
    cut = [getattr(errors, name)(TALL, B) for name in (*names, "psnr")]
    np.testing.assert_allclose(cut, whole, rtol=1e-9)
    np.testing.assert_allclose(errors.row_errors(TALL, B), rows, rtol=1e-12)
    for count in (1, 3):  # and the same bits on any number of threads
        with threads(count):
            assert [getattr(errors, name)(TALL, B) for name in (*names, "psnr")] == cut


def test_small_changes_are_not_lost() -> None:
    # 1e-9 of A: differences of Gram matrices would leave nothing but rounding.
    E = 1e-9 * np.random.default_rng(7).standard_normal(TALL.shape)
    expected = np.linalg.norm(TALL @ E.T + E @ TALL.T) / np.linalg.norm(TALL @ TALL.T)
    found = errors.inner_product_distortion(TALL, TALL + E)
    assert found == pytest.approx(expected, rel=1e-6)
    assert errors.cosine_distortion(TALL, TALL + E) < 1e-8


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 99))
def test_spectral_error_of_any_shape(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((2, n, d))
    expected = np.linalg.norm(A - B, 2) / np.linalg.norm(A, 2)
    for rng_of_start in (0, seed, None):
        # The tolerance is on the square.
        assert errors.spectral_error(A, B, rng=rng_of_start) == pytest.approx(expected, rel=1e-6)


def test_spectral_error_with_a_flat_spectrum() -> None:
    # 300 equal singular values: no gap for Lanczos, and none needed.
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((400, 300)))[0]
    assert errors.spectral_error(Q, 0.75 * Q) == pytest.approx(0.25, rel=1e-6)


def test_spectral_error_forms_no_difference() -> None:
    # In a fresh process: 6000 x 1000 would be 24 MB in float32, 48 MB in float64; measured 13 MB
    # with one thread, since each has blocks of its own. Of the half of A, since a difference that
    # is nearly of low rank takes few iterations.
    path = os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": path, "LPLR_NUM_THREADS": "1"}
    assert run_fresh("test_errors_evaluation", "_measure", **environment) < 20e6


def _measure() -> float:
    rng = np.random.default_rng(0)
    L, R = (rng.standard_normal(shape, dtype=np.float32) for shape in ((6000, 5), (5, 1000)))
    A = L @ R
    f = lplr.quantize(0.5 * A, bits=2)
    errors.spectral_error(A[:100], lplr.quantize(A[:100], bits=2))
    _, cost = measured(lambda: errors.spectral_error(A, f))
    assert cost.extra_nbytes is not None
    return cost.extra_nbytes


# --- images ----------------------------------------------------------------------------------


@needs_ssim
def test_ssim_naively() -> None:
    rng = np.random.default_rng(0)
    A = lplr.datasets.shepp_logan(40)[:32]
    B = A + 0.1 * rng.standard_normal(A.shape)
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for i in range(5, A.shape[0] - 5):
        for j in range(5, A.shape[1] - 5):
            a, b = (x[i - 5 : i + 6, j - 5 : j + 6] for x in (A, B))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * a**2).sum() - ma**2, (window * b**2).sum() - mb**2
            cab = (window * a * b).sum() - ma * mb
            top = (2 * ma * mb + c1) * (2 * cab + c2)
            values.append(top / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert errors.ssim(A, B, peak=1) == pytest.approx(np.mean(values), rel=1e-9)
    assert errors.ssim(A, A) == pytest.approx(1, rel=1e-12)
    f = lplr.factorize(A, rank=8, bits=4, rng=0)
    assert errors.ssim(A, f, peak=1) == pytest.approx(errors.ssim(A, dense(f), peak=1), rel=1e-5)


@needs_ssim
def test_ssim_of_a_small_image() -> None:
    with pytest.raises(InputError, match="A: must have at least 11 x 11 pixels"):
        errors.ssim(TALL[:10], TALL[:10])


def test_ssim_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(MissingPackageError, match=r"ssim: .*scikit-image.*lplr\[bench\]"):
        errors.ssim(TALL, TALL)


# --- the edges -------------------------------------------------------------------------------


def test_zero_and_exact() -> None:
    zero = np.zeros((5, 4))
    for measure in (errors.relative_error, errors.spectral_error, errors.inner_product_distortion):
        assert measure(zero, zero) == 0
        assert measure(zero, TALL[:5, :4]) == math.inf
        assert measure(TALL, TALL.copy()) == 0
        assert measure(TALL, 0 * TALL) == pytest.approx(1)
    assert errors.hessian_error(TALL, TALL, H) == 0
    assert errors.hessian_error(zero, TALL[:5, :4], np.ones(4)) == math.inf
    assert errors.psnr(TALL, TALL) == math.inf
    assert errors.row_errors([[0, 0], [0, 0], [1, 0]], [[0, 0], [1, 0], [1, 0]]).tolist() == [
        0,
        math.inf,
        0,
    ]
    assert errors.cosine_distortion(TALL, 3 * TALL) < 1e-15


def test_one_row_or_column() -> None:
    for A in (TALL[:1], TALL[:, :1]):
        expected = np.linalg.norm(A - 1) / np.linalg.norm(A)
        B = np.ones_like(A)
        assert errors.spectral_error(A, B) == pytest.approx(expected)
        assert errors.relative_error(A, B) == pytest.approx(expected)
        gram = A @ A.T
        expected = np.linalg.norm(gram - B @ B.T) / np.linalg.norm(gram)
        assert errors.inner_product_distortion(A, B) == pytest.approx(expected)


def test_every_formula_is_used() -> None:
    assert set(errors.FORMULAS) == {
        "relative error",
        "spectral error",
        "relative error under H",
        "cosine distortion",
        "inner-product distortion",
        "row error",
        "psnr",
        "ssim",
    }


MEASURES = (
    errors.relative_error,
    errors.spectral_error,
    errors.inner_product_distortion,
    errors.cosine_distortion,
    errors.row_errors,
    errors.psnr,
)


@pytest.mark.parametrize("measure", MEASURES)
def test_refusals(measure: Callable[[Any, Any], Any]) -> None:
    broken = np.where(np.arange(13) == 3, np.nan, TALL)
    for A, B, message in (
        (broken, TALL, "A: has nan at"),
        (TALL, broken, "B: has nan at"),
        (TALL, WIDE, "B: must have the shape"),
        (TALL, TALL[0], "B: must have 2 dimensions"),
        (TALL, "picture", "B: must be an array"),
        (TALL, 1j * TALL, "B: dtype"),
        (TALL, aslinearoperator(1j * TALL), "B: must be a real operator"),
        (aslinearoperator(broken), TALL, "A: has an entry that is not finite"),
        (TALL[:0], TALL[:0], "A: is empty"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            measure(A, B)


def test_more_refusals() -> None:
    with pytest.raises(InputError, match=r"^A: row 2 is zero"):
        errors.cosine_distortion(np.diag([1.0, 1.0, 0.0]), np.eye(3))
    with pytest.raises(InputError, match=r"^B: row 1 is zero"):
        errors.cosine_distortion(np.eye(3), np.diag([1.0, 0.0, 1.0]))
    with pytest.raises(InputError, match=r"^A: has one row"):
        errors.cosine_distortion(TALL[:1], TALL[:1])
    with pytest.raises(InputError, match=r"^peak: give the range"):
        errors.psnr(np.ones((3, 3)), np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"^peak: "):
        errors.psnr(TALL, TALL, peak=0)
    with pytest.raises(InputError, match=r"^hessian: "):
        errors.hessian_error(TALL, TALL, np.eye(12))
    with pytest.raises(HessianError):
        errors.hessian_error(TALL, TALL, np.triu(np.ones((13, 13))))
    with pytest.raises(InputError, match=r"^rng: "):
        errors.spectral_error(TALL, TALL, rng=-1)


def test_arguments_are_not_changed() -> None:
    A, B = TALL.copy(), TALL + 0.1
    A.flags.writeable = B.flags.writeable = False
    for measure in MEASURES:
        measure(A, B)
    np.testing.assert_array_equal(A, TALL)


@pytest.mark.parametrize(
    "measure",
    [
        errors.relative_error, errors.spectral_error, errors.row_errors, errors.cosine_distortion,
        errors.inner_product_distortion, errors.psnr,
        lambda A, B, **how: errors.hessian_error(A, B, np.ones(A.shape[1]), **how),
    ],
)  # fmt: skip
def test_progress(measure: Any) -> None:
    A = np.random.default_rng(0).standard_normal((3000, 400))
    told: list[float] = []
    value = measure(A, A + 0.1, progress=lambda share, what: told.append(share))
    assert np.array_equal(value, measure(A, A + 0.1))
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert len(told) > 2  # other threads do not speak
    assert told == sorted(told)
