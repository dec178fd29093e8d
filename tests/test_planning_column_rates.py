"""The rate of each column of a backbone, and the loss that is predicted for it."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import decaying_hessian

from lplr.coding.backbone import FEEDBACK_DAMPING, ColumnGroup, code_backbone
from lplr.exceptions import BudgetError
from lplr.planning.codebooks import codebooks_by_size
from lplr.planning.column_rates import ColumnRates
from lplr.planning.sizes import backbone_nbytes
from lplr.quantizers import get_codebook


def column_rates(H: np.ndarray | None, d: int) -> ColumnRates:
    return ColumnRates(H, d)


def of_errors(mse: np.ndarray) -> list[Any]:
    """Columns whose codes, none that exist, have these errors on a normal distribution."""
    codes = (SimpleNamespace(gaussian_mse=error) for error in mse)
    return [ColumnGroup(k, k + 1, book) for k, book in enumerate(codes)]


def test_predicted_variances_solve_their_recursion() -> None:
    """`ColumnRates.loss` against the recursion of its docstring, one column at a time."""
    d = 30
    rates = column_rates(decaying_hessian(d), d)
    mse = np.linspace(0.05, 0.3, d)
    weights = rates.weights
    inverse = np.linalg.inv(weights.L)
    v = np.ones(d)
    for k in range(d - 2, -1, -1):
        v[k] = 1 + sum(inverse[j, k] ** 2 * mse[j] * v[j] for j in range(k + 1, d))
    expected = float(weights.D @ (mse * v)) - FEEDBACK_DAMPING * float((mse * v + v - 1).sum())
    assert rates.loss(of_errors(mse)) == pytest.approx(expected, rel=1e-4)


def test_predicted_errors_are_those_of_independent_rounding_errors() -> None:
    """The model itself, simulated: rounding errors of given variance and nothing else."""
    d, n = 24, 20000
    H = decaying_hessian(d)
    rates = column_rates(H, d)
    mse = np.linspace(0.2, 0.02, d)
    generator = np.random.default_rng(0)
    E, target_square = np.zeros((n, d)), np.ones(d)
    W = generator.standard_normal((n, d))
    for k in range(d - 1, -1, -1):
        fed_back = E[:, k + 1 :] @ rates.weights.L[k + 1 :, k]
        target_square[k] = np.mean((W[:, k] + fed_back) ** 2)
        eta = np.sqrt(mse[k] * target_square[k]) * generator.standard_normal(n)
        E[:, k] = eta - fed_back
    # 20000 rows of 24 squares: 0.5 %; the model takes errors as uncorrelated with W: 2 % more.
    found = np.einsum("ij,ij->", E @ H, E) / n
    assert rates.loss(of_errors(mse)) == pytest.approx(found, rel=0.03)


@pytest.mark.parametrize("left_out", [1, 10, 39, 40])
def test_columns_that_are_left_out_lose_what_is_predicted(left_out: int) -> None:
    d, n = 40, 4000
    H = decaying_hessian(d)
    rates = column_rates(H, d)
    W = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    fine, zero = get_codebook("lloyd-max", 6), get_codebook("zero", 0)
    groups = [ColumnGroup(0, d - left_out, fine), ColumnGroup(d - left_out, d, zero)]
    groups = [g for g in groups if g.start < g.stop]
    Q = code_backbone(W, rates.weights, groups, sweeps=0)
    # Exact but for the sample of rows, and what is rounded is not quite normal.
    assert rates.weights.loss(W - Q.to_dense()) / n == pytest.approx(rates.loss(groups), rel=0.05)


@pytest.mark.parametrize("bits", [0.1, 0.7, 1.0, 2.1, 3.33, 6.5, 9.0, 15.0])
@pytest.mark.parametrize("shape", [(100, 70), (65, 200), (8, 31), (1, 5), (300, 1)])
def test_groups_fit_cover_all_columns_and_fall(shape: tuple[int, int], bits: float) -> None:
    n, d = shape
    books = [get_codebook("zero", 0), *codebooks_by_size("default", n)]
    nbytes = max(bits * n * d / 8, 4)
    groups = column_rates(decaying_hessian(d), d).groups(n, books, nbytes)
    assert backbone_nbytes(groups, n) <= nbytes
    assert [g.start for g in groups] == [0, *(g.stop for g in groups[:-1])]
    assert groups[-1].stop == d
    assert all(a.book.bits > b.book.bits for a, b in pairwise(groups))


def test_groups_spend_the_budget() -> None:
    rates = column_rates(None, 400)
    for bits in (1.1, 2.0, 2.6, 3.14159):
        nbytes = bits * 300 * 400 / 8
        used = backbone_nbytes(rates.groups(300, codebooks_by_size("default", 300), nbytes), 300)
        assert nbytes - used < 0.01 * nbytes


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BudgetError, match="do not fit"):
        column_rates(None, 10).groups(100, codebooks_by_size("default", 100), 100)
