"""Predicted loss over bytes, against what is measured."""

from __future__ import annotations

import numpy as np
import pytest

from lplr.coding.backbone import code_backbone
from lplr.planning.codebooks import efficient_pairs
from lplr.planning.curves import Curve, Spectrum, best_split
from lplr.planning.weighted_matrix import WeightedMatrix


@pytest.mark.parametrize("bits", [1.5, 2.3, 3.0, 4.2])
def test_a_backbone_loses_what_is_predicted(query_layer: WeightedMatrix, bits: float) -> None:
    n, d = query_layer.shape
    rates = query_layer.backbone_rates("fast")
    nbytes = bits * n * d / 8
    (block,) = rates.blocks(nbytes)
    weights = query_layer.rates.weights
    Q = code_backbone(query_layer.rotated, weights, block.groups, sweeps=0)
    predicted = rates.curve(np.array([nbytes])).loss[0]
    predicted *= query_layer.spectrum.energy / (n * d)
    # Within 3 % of the error at these rates on three layers; 6 % of its square.
    assert weights.loss(query_layer.rotated - Q.to_dense()) == pytest.approx(predicted, rel=0.06)


def test_the_curve_of_a_spectrum_falls_from_all_to_nothing() -> None:
    s = 1 / np.arange(1, 101)
    spectrum = Spectrum(s, float(s @ s), (150, 100))
    curve = spectrum.curve(efficient_pairs("default", (150, 100)))
    assert curve.nbytes[0] == 0
    assert curve.loss[0] == spectrum.energy
    assert (np.diff(curve.nbytes) > 0).all()
    assert (np.diff(curve.loss) < 0).all()
    assert curve.loss[-1] < 1e-6 * spectrum.energy  # float16


def test_curves_are_infinite_below_their_start() -> None:
    curve = Curve(np.array([10.0, 20.0]), np.array([1.0, 0.01]))
    np.testing.assert_allclose(curve.at(np.array([9.0, 10.0, 15.0, 99.0])), [np.inf, 1, 0.1, 0.01])


def test_the_best_split_is_that_of_a_search() -> None:
    sizes = np.linspace(0, 100, 51)
    factors = Curve(sizes, 0.1 + np.exp(-sizes / 8))
    backbone = Curve(np.linspace(5, 100, 96), np.exp(-np.linspace(5, 100, 96) / 20))
    split = best_split(factors, backbone, 100.0)
    loss = [
        (0.1 + np.exp(-x / 8)) * np.exp(-(100 - x) / 20) if 100 - x >= 5 else np.inf for x in sizes
    ]
    assert split == pytest.approx(1.02 * sizes[1:][np.argmin(loss[1:])])
    assert best_split(factors, Curve(np.array([200.0]), np.array([1.0])), 100.0) == 0.0
