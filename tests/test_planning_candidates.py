"""The plans for a budget: they fit, are in order, and lose what they predict."""

from __future__ import annotations

import numpy as np
import pytest

import lplr
from lplr.exceptions import BudgetError
from lplr.planning.candidates import candidate_plans
from lplr.planning.sizes import blocks_nbytes, least_nbytes
from lplr.planning.weighted_matrix import WeightedMatrix


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_factors_lose_what_is_predicted(exponent: float, bits: float) -> None:
    A = lplr.datasets.synthetic(300, 200, "power", exponent=exponent, rng=0)
    matrix = WeightedMatrix(A.astype(np.float32), None, 0)
    found = candidate_plans(matrix, bits * A.size / 8, "fast")
    plan = next(plan for plan in found if plan.kind == "low-rank")
    f = plan.carry_out(matrix, "fast").packed
    # 0.97 to 1.03 in all of these, and on images and embeddings.
    assert f.relative_error(A) == pytest.approx(plan.predicted, rel=0.05)
    assert blocks_nbytes(plan.blocks, A.shape) == f.nbytes <= bits * A.size / 8


@pytest.mark.parametrize("bits", [0.4, 1.0, 2.5, 7.3, 12.0])
def test_plans_fit_and_are_in_order(query_layer: WeightedMatrix, bits: float) -> None:
    nbytes = bits * query_layer.W.size / 8
    found = candidate_plans(query_layer, nbytes, "default")
    assert [c.predicted for c in found] == sorted(c.predicted for c in found)
    assert all(0 < c.nbytes(query_layer.shape) <= nbytes for c in found)
    kinds = {c.kind for c in found}
    assert {"low-rank", "backbone", "backbone + low-rank"} <= kinds


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (3, 5), (2, 300), (40, 40)])
def test_the_smallest_budget_is_enough_and_less_is_refused(shape: tuple[int, int]) -> None:
    W = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    matrix = WeightedMatrix(W, None, 0)
    assert candidate_plans(matrix, least_nbytes(shape), "default")
    with pytest.raises(BudgetError, match="use at least") as caught:
        candidate_plans(matrix, 0.999 * least_nbytes(shape), "default")
    enough = float(str(caught.value).rsplit(" ", 1)[1])
    assert candidate_plans(matrix, enough * W.size / 8, "default")
