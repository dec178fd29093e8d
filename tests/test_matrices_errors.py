"""The relative error of packed matrices, under Hessians of every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from helpers import PACKED, exact_dense, random_low_rank

import lplr
from lplr.exceptions import DampingWarning, HessianError, InputError

each = pytest.mark.parametrize("make", PACKED.values(), ids=PACKED.keys())


@each
def test_relative_error(make) -> None:
    f, rng = make(), np.random.default_rng(3)
    A = rng.standard_normal(f.shape)
    E = A - f.to_dense()
    X = rng.standard_normal((50, f.shape[1]))
    H = X.T @ X / 50
    assert f.relative_error(A) == pytest.approx(np.linalg.norm(E) / np.linalg.norm(A), rel=1e-9)
    expected = np.linalg.norm(E @ X.T) / np.linalg.norm(A @ X.T)
    assert f.relative_error(A, hessian=H) == pytest.approx(expected, rel=1e-9)
    h = np.diag(H)
    expected = np.sqrt((E**2 @ h).sum() / (A**2 @ h).sum())
    assert f.relative_error(A, hessian=h) == pytest.approx(expected, rel=1e-9)
    Y = rng.standard_normal((60, f.shape[0]))
    for G in (Y.T @ Y, np.diagonal(Y.T @ Y)):
        full = G if G.ndim == 2 else np.diag(G)
        for H_given, H_full in ((H, H), (h, np.diag(h)), (None, np.eye(f.shape[1]))):
            traces = [np.trace(full @ M @ H_full @ M.T) for M in (E, A)]
            found = f.relative_error(A, H_given, output_hessian=G)
            assert found == pytest.approx(np.sqrt(traces[0] / traces[1]), rel=1e-9)
    assert f.relative_error(f.to_dense(), output_hessian=Y) == 0
    assert f.relative_error(f.to_dense()) == 0
    assert f.relative_error(np.zeros(f.shape)) == np.inf
    zero = lplr.quantize(np.zeros((3, 4)), bits=2)
    assert zero.relative_error(np.zeros((3, 4))) == 0


def test_relative_error_of_numbers_that_float32_does_not_hold(tmp_path) -> None:
    """Integers, lists and other byte orders are compared as they are, wherever they lie."""
    A = 2**31 - 1 - np.random.default_rng(0).integers(0, 4096, (40, 9))
    f = lplr.quantize(A, bits=2)
    expected = np.linalg.norm(A - f.to_dense().astype(float)) / np.linalg.norm(A.astype(float))
    assert expected < 1e-6  # where float32 is off by some percent
    path = tmp_path / "A.npy"
    np.save(path, A)
    for same in (A, A.tolist(), A.astype(">f8"), A.astype(np.longdouble), path):
        assert f.relative_error(same) == pytest.approx(expected, rel=1e-9)


@each
@pytest.mark.parametrize("factor", [1e38, 1e300, np.inf, np.nan, 1e-300])
def test_a_matrix_is_not_scaled_out_of_range(make, factor: float) -> None:
    with pytest.raises(InputError, match="^factor: .* takes the matrix out of range"):
        make().scaled(factor)


def test_relative_error_takes_every_form_of_a_hessian() -> None:
    """Those of `lplr.compress`: a second moment, its diagonal, inputs."""
    f, rng = random_low_rank(), np.random.default_rng(4)
    A, d = rng.standard_normal(f.shape), f.shape[1]
    X = rng.standard_normal((80, d)) * np.geomspace(1, 10, d)
    moment = f.relative_error(A, hessian=X.T @ X / 80)
    # Sums of 37 x 29 products in float64, in another order.
    assert f.relative_error(A, hessian=X) == pytest.approx(moment, rel=1e-12)
    assert f.relative_error(A, hessian=3 * X.T @ X) == pytest.approx(moment, rel=1e-12)
    h = np.geomspace(1, 10, d)
    assert f.relative_error(A, h) == pytest.approx(f.relative_error(A, np.diag(h)), rel=1e-12)
    # A singular one weighs some directions not at all.
    seen = np.outer(X[0], X[0])
    expected = np.linalg.norm((A - exact_dense(f)) @ X[0]) / np.linalg.norm(A @ X[0])
    assert f.relative_error(A, hessian=seen) == pytest.approx(expected, rel=1e-6)
    with pytest.warns(DampingWarning, match="1 calibration inputs"):
        assert f.relative_error(A, hessian=X[:1]) == pytest.approx(expected, rel=1e-6)


D = 29


MOMENT = np.cov(np.random.default_rng(0).standard_normal((D, 99)))


@pytest.mark.parametrize(
    ("hessian", "error", "said"),
    [
        (np.random.default_rng(0).standard_normal((D, D)), HessianError, "not symmetric"),
        (-np.eye(D), HessianError, r"entry \(0, 0\) is -1"),
        (-np.ones(D), HessianError, r"entry \(0, 0\) is -1"),
        (MOMENT - 0.9 * np.diag(np.diag(MOMENT)), HessianError, "eigenvalues below -0.1"),
        (np.zeros((D, D)), HessianError, "is zero"),
        (np.full((D, D), np.nan), InputError, "nan"),
        (scipy.sparse.eye_array(D), InputError, "toarray"),
        (np.eye(37), InputError, "must have shape"),
        ("H", InputError, ""),
    ],
)
def test_relative_error_refuses_what_is_no_hessian(
    hessian: Any, error: type[Exception], said: str
) -> None:
    f = random_low_rank()
    with pytest.raises(error, match=f"^hessian: .*{said}"):
        f.relative_error(np.ones(f.shape), hessian=hessian)


@pytest.mark.parametrize("A", [np.ones((29, 37)), np.ones(37), np.full((37, 29), np.nan), None])
def test_relative_error_refuses_another_matrix(A: Any) -> None:
    with pytest.raises(InputError, match="^A: "):
        random_low_rank().relative_error(A)
