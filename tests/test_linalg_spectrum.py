"""Estimated singular values against all of them."""

from __future__ import annotations

import numpy as np
import pytest

import lplr
from lplr.linalg.spectrum import estimated_singular_values
from lplr.parallel import at_most


def _spectra() -> dict[str, np.ndarray]:
    flat = np.random.default_rng(1).standard_normal((700, 500), dtype=np.float32)
    power = lplr.datasets.synthetic(500, 600, "power", exponent=1.0, rng=0).astype(np.float32)
    layer = lplr.datasets.layer("minilm_l3_output").W
    return {"flat": flat, "power": power, "layer": layer}


@pytest.mark.parametrize("kind", ["flat", "power", "layer"])
def test_leading_values_and_what_they_leave_are_told(kind: str) -> None:
    A = _spectra()[kind]
    exact = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    found = np.array(
        [estimated_singular_values(A, np.random.default_rng(seed)) for seed in range(3)]
    )
    assert found.shape == (3, len(exact))
    assert (np.diff(found) <= 0).all()
    # Over ten seeds: at most 0.008 for the leading sixteenth, and 0.10 for what they leave.
    lead = len(exact) // 16
    assert abs(found[:, :lead] / exact[:lead] - 1).max() < 0.016
    for k in (0, lead, len(exact) // 4):
        rest = np.square(found[:, k:]).sum(axis=1) / np.square(exact[k:]).sum()
        assert abs(rest - 1).max() < 0.15


def test_a_matrix_of_low_rank_leaves_nothing() -> None:
    rng = np.random.default_rng(0)
    A = (rng.standard_normal((400, 8)) @ rng.standard_normal((8, 300))).astype(np.float32)
    s = estimated_singular_values(A, rng)
    np.testing.assert_allclose(s[:8], np.linalg.svd(A, compute_uv=False)[:8], rtol=1e-4)
    assert s[8:].max() < 1e-3 * s[0]


def test_threads_change_no_bit() -> None:
    A = _spectra()["flat"]
    with at_most(1):
        one = estimated_singular_values(A, np.random.default_rng(0))
    with at_most(3):
        np.testing.assert_array_equal(one, estimated_singular_values(A, np.random.default_rng(0)))
