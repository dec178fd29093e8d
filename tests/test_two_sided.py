"""`lplr.compress` under errors that weigh on both sides: tr(G E H E^T)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import decaying_hessian, digest, hessian_of_spectrum

import lplr
from lplr.exceptions import DampingWarning, HessianError, InputError
from lplr.planning.row_weights import RowWeights


def output_moment(n: int, decay: float, seed: int = 5) -> np.ndarray:
    """G with eigenvalues from 1 to exp(-decay)."""
    return hessian_of_spectrum(np.exp(-decay * np.linspace(0, 1, n)), seed)


def two_sided_error(W: np.ndarray, f: Any, H: Any, G: np.ndarray) -> float:
    """The relative error under damped weights."""
    return f.relative_error(W, H if H is None else lplr.regularize(H)[0], lplr.regularize(G)[0])


@pytest.mark.parametrize(("decay", "most"), [(7.0, 0.70), (2.5, 0.94)])
def test_a_layer_loses_less_under_both_weights(decay: float, most: float) -> None:
    """The eigenvalues of G, geometric over arithmetic mean 0.21 and 0.78, bound what it gains."""
    layer = lplr.datasets.layer("minilm_l2_query")
    G = output_moment(len(layer.W), decay)
    one, both = (
        lplr.compress(
            layer.W, hessian=layer.H, bits_per_entry=2, output_hessian=g, rng=0, effort="fast"
        )
        for g in (None, G)
    )
    assert both.bits_per_entry <= 2
    error = two_sided_error(layer.W, both, layer.H, G)
    assert error < most * two_sided_error(layer.W, one, layer.H, G)
    assert both.meta["plan"]["error"] == pytest.approx(error, rel=1e-4)
    # Right to 2 % on this layer at 1.8, 2 and 3 bits and two spreads of G.
    assert both.meta["plan"]["predicted"] == pytest.approx(error, rel=0.04)


@pytest.mark.parametrize("scale", [1.0, 3e-5])
def test_equal_weights_of_outputs_change_nothing(scale: float) -> None:
    layer = lplr.datasets.layer("minilm_l2_query")
    options = {"hessian": layer.H, "bits_per_entry": 1.7, "rng": 0, "effort": "fast"}
    one = lplr.compress(layer.W[:96], **options)
    both = lplr.compress(layer.W[:96], output_hessian=scale * np.eye(96), **options)
    assert digest(one) == digest(both)
    assert one.meta["plan"] == both.meta["plan"]


@pytest.mark.parametrize("shape", [(1, 5), (7, 90), (200, 3), (150, 41), (65, 66), (64, 128)])
@pytest.mark.parametrize("bits", [1.3, 3.0])
def test_any_shape_keeps_its_budget(shape: tuple[int, int], bits: float) -> None:
    n, d = shape
    W = np.random.default_rng(0).standard_normal(shape)
    G, H = output_moment(n, 6.0), decaying_hessian(d)
    budget = max(bits, 300 / (n * d))
    for hessian in (None, H):
        f = lplr.compress(W, hessian=hessian, output_hessian=G, bits_per_entry=budget, rng=0)
        assert f.bits_per_entry <= budget
        assert two_sided_error(W, f, hessian, G) < 0.75


def test_moments_of_every_form_and_singular_ones() -> None:
    rng = np.random.default_rng(1)
    W, Y = rng.standard_normal((140, 30)), rng.standard_normal((200, 140))
    options = {"bits_per_entry": 2, "rng": 0, "effort": "fast"}
    given = [lplr.compress(W, output_hessian=G, **options) for G in (Y, Y.T @ Y)]
    assert digest(given[0]) == digest(given[1])
    weights = np.geomspace(1, 1e-3, 140)
    diagonal, full = (
        lplr.compress(W, output_hessian=G, **options) for G in (weights, np.diag(weights))
    )
    assert digest(diagonal) == digest(full)
    assert two_sided_error(W, full, None, np.diag(weights)) < 0.9 * two_sided_error(
        W, lplr.compress(W, **options), None, np.diag(weights)
    )
    with pytest.warns(DampingWarning, match="output_hessian: 3 output gradients for 140 rows"):
        few = lplr.compress(W, output_hessian=Y[:3], **options)
    # Three directions count, at two bits for each entry.
    assert few.relative_error(W, output_hessian=Y[:3].T @ Y[:3]) < 0.15


@pytest.mark.parametrize(
    ("G", "error"),
    [
        (np.eye(7), InputError),
        (np.full((9, 9), np.nan), InputError),
        (np.zeros((9, 9)), HessianError),
        (-np.eye(9), HessianError),
        (np.triu(np.ones((9, 9))), HessianError),
        (np.ones((9, 9)) - 0.9 * np.eye(9), HessianError),
        ("x", InputError),
    ],
)
def test_refusals(G: Any, error: type[Exception]) -> None:
    W = np.random.default_rng(0).standard_normal((9, 8))
    with pytest.raises(error, match="output_hessian"):
        lplr.compress(W, bits_per_entry=4, output_hessian=G)
    with pytest.raises(error, match="output_hessian"):
        lplr.quantize(W, bits=4).relative_error(W, output_hessian=G)


def test_a_stored_result_is_read_multiplied_and_extended(tmp_path) -> None:
    layer = lplr.datasets.layer("minilm_l2_query")
    W, G = layer.W[:192], output_moment(192, 7.0)
    options = {"hessian": layer.H, "output_hessian": G, "bits_per_entry": 2, "effort": "fast"}
    f = lplr.compress(W, rng=0, **options)
    assert len(f.backbone.blocks) > 1
    assert f.backbone.axis == 0
    lplr.save(tmp_path / "f.h5", f)
    g = lplr.load(tmp_path / "f.h5")
    dense = f.to_dense()
    np.testing.assert_array_equal(g.to_dense(), dense)
    np.testing.assert_array_equal(g[[0, 100]], dense[[0, 100]])
    x = np.ones(W.shape[1], np.float32)
    np.testing.assert_allclose(g.times(x), dense @ x, atol=1e-3)
    np.testing.assert_allclose(g @ np.eye(W.shape[1])[:, :3], dense[:, :3], atol=1e-3)
    np.testing.assert_allclose(g.scaled(2.0).to_dense(), 2 * dense, rtol=1e-5, atol=1e-6)
    assert lplr.encode(f, layer.W[192:], hessian=layer.H).shape == (192, 384)
    assert digest(lplr.compress(W, rng=0, **options)) == digest(f)


def test_flat_weights_make_one_block_and_uneven_ones_several() -> None:
    assert RowWeights(output_moment(256, 0.2), 256).edges == [0, 256]
    edges = RowWeights(output_moment(256, 7.0), 256).edges
    assert len(edges) > 3
    assert min(np.diff(edges)) >= 64
