"""One quantized factor: the scales of its rows."""

from __future__ import annotations

import numpy as np
import pytest

import lplr
from lplr.coding.factor import Factor, fit_scales


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    return lplr.datasets.synthetic(150, 120, "power", exponent=1.0, rng=0).astype(np.float32)


def norm(X: np.ndarray) -> float:
    return float(np.linalg.norm(X.astype(np.float64)))


@pytest.mark.parametrize("bits", [2, 4])
def test_scales_are_the_best_for_their_codes(A: np.ndarray, bits: int) -> None:
    """The error is stationary in every stored scale."""
    f = lplr.factorize(A, rank=30, bits=bits, quantizer="lloyd-max", rng=0)
    L, R = f.left.to_dense().astype(np.float64), f.right.to_dense().astype(np.float64)
    gradient = np.einsum("nk,kd,nd->k", L, R, A - L @ R)
    size = np.linalg.norm(L, axis=0) * np.linalg.norm(R, axis=1) * norm(A)
    # Scales are float32, and so are the products that the fit sees.
    assert (np.abs(gradient) <= 1e-5 * size).all()


def test_fit_scales_solves_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    L, R = rng.standard_normal((40, 6)), rng.standard_normal((6, 30)).astype(np.float32)
    A = rng.standard_normal((40, 30))
    design = np.stack([np.outer(L[:, k], R[k]).ravel() for k in range(6)], axis=1)
    expected = np.linalg.lstsq(design, A.ravel(), rcond=None)[0]
    right = Factor(np.empty((6, 30), np.uint8), np.full(6, 2, np.float32), R)
    found = fit_scales(right, L.T @ L, L.T @ A)
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-5)
