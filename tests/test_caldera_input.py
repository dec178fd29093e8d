"""CALDERA takes any shape, width, value and layout, and names what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import weights_and_inputs

import lplr
from lplr.exceptions import DampingWarning, InputError

# --- shapes, widths, values ------------------------------------------------------------------

SHAPES = [(1, 1), (1, 17), (17, 1), (3, 5), (8, 8), (13, 11), (31, 64)]


def check(g: lplr.QPlusLowRank, W: np.ndarray) -> None:
    """Finite, of the right shape, its products those of the dense matrix."""
    dense = g.to_dense()
    assert dense.shape == W.shape
    assert np.isfinite(dense).all()
    errors = [h["error"] for h in g.meta["history"]]
    assert errors
    assert np.isfinite(errors).all()
    x = np.ones(W.shape[1])
    tolerance = 1e-5 * max(np.abs(dense).max(), 1e-30) * W.shape[1]
    np.testing.assert_allclose(g @ x, dense.astype(float).sum(axis=1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_and_rank(shape: tuple[int, int]) -> None:
    W, X = weights_and_inputs(*shape)
    options = itertools.product(
        sorted({0, 1, min(shape)}), ("default", "faithful"), (True, False), (None, X)
    )
    for rank, mode, incoherence, hessian in options:
        g = lplr.caldera(
            W, hessian=hessian, rank=rank, mode=mode, incoherence=incoherence, n_iter=1, rng=0
        )
        check(g, W)
        assert g.rank == rank
        assert min(step["error"] for step in g.meta["history"]) <= 1


@pytest.mark.parametrize("mode", ["default", "faithful"])
def test_any_width(mode: str) -> None:
    W, X = weights_and_inputs()
    for bits in (1, 2, 3, 4, 5, 6, 7, 8, 16):
        check(lplr.caldera(W, hessian=X, rank=3, q_bits=bits, mode=mode, n_iter=1, rng=0), W)
    for quantizer in ("lloyd-max", "uniform", "normal-float", "e8p"):
        g = lplr.caldera(W, hessian=X, rank=3, quantizer=quantizer, mode=mode, n_iter=1, rng=0)
        check(g, W)
        assert g.backbone.quantizer == quantizer
    for widths in itertools.product((1, 2, 3, 4, 8, 16), (1, 2, 4, 7, 16)):
        g = lplr.caldera(W, hessian=X, rank=3, factor_bits=widths, mode=mode, n_iter=1, rng=0)
        check(g, W)
        assert (g.low_rank.left.bits, g.low_rank.right.bits) == widths


def values() -> dict[str, np.ndarray]:
    W, at = weights_and_inputs()[0], np.arange(960).reshape(24, 40) == 77
    return {
        "zero rows": np.where(np.arange(24)[:, None] % 2, W, 0),
        "zero columns": np.where(np.arange(40) % 2, W, 0),
        "an outlier": W + 1e6 * at,
        "one entry": 3.0 * at,
        "rank 1": np.outer(W[:, 0], W[0]),
        "tiny": W * np.float32(1e-25),
        "huge": W * np.float32(1e25),
        "int8": (20 * W).astype(np.int8),
        "uint16": np.abs(1e4 * W).astype(np.uint16),
        "bool": W > 0,
        "float16": W.astype(np.float16),
        "longdouble": W.astype(np.longdouble),
        "big endian": W.astype(">f8"),
        "Fortran": np.asfortranarray(W),
        "strided": np.repeat(W, 3, axis=1)[:, ::3],
        "reversed": W[::-1, ::-1],
        "read-only": np.frombuffer(W.tobytes(), np.float32).reshape(W.shape),
    }


@pytest.mark.parametrize("name", values())
@pytest.mark.parametrize("mode", ["default", "faithful"])
def test_any_values_and_layout(name: str, mode: str) -> None:
    W, X = values()[name], weights_and_inputs()[1]
    before = W.copy()
    for rank in (0, 5):
        g = lplr.caldera(W, hessian=X, rank=rank, mode=mode, n_iter=1, rng=0)
        check(g, W)
        assert g.relative_error(W, X.T @ X) < 0.7
    np.testing.assert_array_equal(W, before)


def test_a_factor_that_is_rounded_to_zero() -> None:
    """All weight on one column, and all but one entry of W negligible: R, then L, become zero."""
    W = np.random.default_rng(439).standard_normal((11, 10))
    W[5, 5] = 1e25
    H = np.diag([1e25] + 9 * [1.0])
    with pytest.warns(DampingWarning):
        g = lplr.caldera(W, hessian=H, rank=1, damping=0, mode="faithful", n_iter=1, rng=0)
    check(g, W)


@pytest.mark.parametrize("value", [0.0, 1.0, -3e-20, 7e29])
@pytest.mark.parametrize("mode", ["default", "faithful"])
def test_a_constant_matrix_is_exact(value: float, mode: str) -> None:
    W, seen = np.full((5, 9), value, np.float32), []
    for rank in (0, 3):
        g = lplr.caldera(W, rank=rank, mode=mode, rng=0, callback=seen.append)
        np.testing.assert_array_equal(g.to_dense(), W)
        assert g.rank == rank
        assert g.meta["history"] == seen[-1:] == [{"step": "Q", "iteration": 0, "error": 0.0}]


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rank", {"rank": 25}),
        ("rank", {"rank": -1}),
        ("q_bits", {"q_bits": 9}),
        ("q_bits", {"q_bits": 8, "quantizer": "e8p"}),
        ("factor_bits", {"factor_bits": 9}),
        ("factor_bits", {"factor_bits": (4, 4, 4)}),
        ("mode", {"mode": "fast"}),
        ("n_iter", {"n_iter": -1}),
        ("damping", {"damping": -0.1}),
        ("damping", {"damping": 1e39}),
        ("quantizer", {"quantizer": "e9"}),
        ("quantizer", {"quantizer": "trellis", "mode": "faithful"}),
        ("incoherence", {"incoherence": 1}),
        ("callback", {"callback": 3}),
        ("rng", {"rng": "seed"}),
    ],
)
def test_refusals_name_the_argument(name: str, options: dict) -> None:
    with pytest.raises(InputError, match=f"^{name}: "):
        lplr.caldera(**{"W": weights_and_inputs()[0], "rank": 3, **options})


def test_equal_singular_values() -> None:
    """LAPACK finds no vector for two of 16 eigenvalues that are equal up to rounding."""
    W = 1e-30 * np.eye(16)
    f = lplr.caldera(W, rank=2, mode="faithful", n_iter=1, rng=0)
    assert f.rank == 2
    assert f.relative_error(W) < 1
