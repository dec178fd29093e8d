"""The plans that compete for a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from lplr.exceptions import BudgetError
from lplr.planning.codebooks import efficient_pairs, half_bit_pairs
from lplr.planning.curves import Curve, best_split
from lplr.planning.plans import (
    BackbonePlan,
    ConstantPlan,
    FactorsAndBackbonePlan,
    LowRankPlan,
    Plan,
    RoundingPlan,
    WeightedLowRankPlan,
)
from lplr.planning.sizes import blocks_nbytes, budget_error, least_nbytes, transforms_nbytes
from lplr.planning.waterfill import distribute, expected_loss
from lplr.planning.weighted_matrix import WeightedMatrix

__all__ = ["candidate_plans", "constant_plans"]

_SHARES = np.array([0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1.0])  # of a budget
# Bits per entry from which on factors under H, and under G as well, never won: they did up to 1.4.
_LOW, _LOW_TWO_SIDED = 1.0, 1.5
_SAMPLE = 1 << 16  # entries on which plain rounding is tried
_ROUNDINGS = (("uniform", "minmax"), ("uniform", "mse"), ("lloyd-max", "mse"))


def candidate_plans(matrix: WeightedMatrix, nbytes: float, effort: str) -> list[Plan]:
    """Every kind of plan at the best use of the budget that is predicted for it, best first.

    If nothing fits the budget, BudgetError names the smallest one that works.
    """
    if matrix.is_constant:
        return constant_plans(matrix.shape, nbytes)[:1]
    if nbytes < least_nbytes(matrix.shape):
        raise budget_error(matrix.shape, least_nbytes(matrix.shape))
    weighted = list(_weighted_low_rank(matrix, nbytes, effort))
    found: list[Plan] = [
        *(weighted or _low_rank(matrix, nbytes, effort)),
        *_backbones(matrix, nbytes, effort),
        *_roundings(matrix, nbytes),
    ]
    return sorted(found, key=lambda plan: plan.predicted)


def constant_plans(shape: tuple[int, int], nbytes: float = np.inf) -> list[Plan]:
    """The plans for a matrix of one value that fit, best first; BudgetError if none fits."""
    plans: list[Plan] = [ConstantPlan(0.0, as_factors) for as_factors in (False, True)]
    fitting = [plan for plan in plans if plan.nbytes(shape) <= nbytes]
    if not fitting:
        raise budget_error(shape, min(plan.nbytes(shape) for plan in plans))
    return fitting


def _low_rank(matrix: WeightedMatrix, nbytes: float, effort: str) -> Iterator[Plan]:
    spectrum, shape = matrix.spectrum, matrix.shape
    try:
        blocks = distribute(spectrum.s, shape, nbytes, half_bit_pairs(effort, shape))
    except BudgetError:
        return
    # Without weights an error has the mean weight, which is 1.
    loss = expected_loss(spectrum.s, shape, spectrum.energy, blocks)
    yield LowRankPlan(matrix.relative(loss), tuple(blocks))


def _weighted_low_rank(matrix: WeightedMatrix, nbytes: float, effort: str) -> Iterator[Plan]:
    n, d = matrix.shape
    low = _LOW if matrix.G is None else _LOW_TWO_SIDED
    components = matrix.components(nbytes) if 8 * nbytes < low * n * d else None
    if components is None:
        return
    try:
        blocks, loss = components.plan(nbytes - transforms_nbytes(n) - 4, effort)
    except BudgetError:
        return
    yield WeightedLowRankPlan(matrix.relative(loss), tuple(blocks), components)


def _backbones(matrix: WeightedMatrix, nbytes: float, effort: str) -> Iterator[Plan]:
    """Plans of a backbone alone, rotated or (where seeds weigh) not, and of one after factors."""
    shape, spectrum = matrix.shape, matrix.spectrum
    n, d = shape
    factors = spectrum.curve(efficient_pairs(effort, shape))
    seeds = transforms_nbytes(n)
    for rotated in (True, False) if nbytes < 100 * seeds and matrix.keeps_H else (True,):
        room = nbytes - seeds * rotated
        rates = matrix.backbone_rates(effort, rotated=rotated)
        coarsest = rates.books[1]
        if min(coarsest.nbytes(n, d) + 4, coarsest.nbytes(n, 1) + 8) > room:
            continue  # not even one column
        curve = rates.curve(room * _SHARES)
        per_energy = Curve(curve.nbytes, curve.loss / (n * d))
        predicted = matrix.relative(spectrum.energy * float(per_energy.loss[-1]))
        yield BackbonePlan(predicted, rates.blocks(room), rotated)
        if not rotated:
            continue
        spent = best_split(factors, per_energy, room)
        try:
            blocks = distribute(spectrum.s, shape, spent, half_bit_pairs(effort, shape))
        except BudgetError:
            continue
        rest = room - blocks_nbytes(blocks, shape)
        loss = expected_loss(spectrum.s, shape, spectrum.energy, blocks)
        predicted = matrix.relative(loss * float(per_energy.at(np.array(rest))))
        backbone = BackbonePlan(predicted, rates.blocks(rest))
        yield FactorsAndBackbonePlan(predicted, tuple(blocks), backbone)


def _roundings(matrix: WeightedMatrix, nbytes: float) -> Iterator[Plan]:
    """The best plain rounding on a sample of rows, of those at the largest width that fits."""
    plans = []
    for (name, scaling), granularity in product(_ROUNDINGS, ("tensor", "row", "column")):
        widths = [RoundingPlan(0.0, name, bits, granularity, scaling) for bits in range(1, 9)]
        plans += [plan for plan in widths if plan.nbytes(matrix.shape) <= nbytes][-1:]
    if plans:
        best = plans[int(np.argmin(_sampled_errors(matrix, plans, _SAMPLE // 4)))]
        (predicted,) = _sampled_errors(matrix, [best], _SAMPLE)
        yield replace(best, predicted=predicted)


def _sampled_errors(matrix: WeightedMatrix, plans: list[RoundingPlan], entries: int) -> list[float]:
    """Relative errors of roundings of rows that hold about so many entries.

    Errors of different rows have nothing to do with each other, so that of G the diagonal counts.
    """
    n, d = matrix.shape
    rows, sample = matrix.some_rows(max(1, min(n, entries // d)))
    errors = [sample - plan.round(sample).to_dense() for plan in plans]
    losses = matrix.row_losses(np.vstack([sample, *errors])).reshape(-1, len(rows))
    if matrix.G is None:
        norm, *sums = losses.sum(axis=1)
    else:
        norm, sums = matrix.norm * len(rows) / n, losses[1:] @ matrix.G[rows, rows]
    return [float(np.sqrt(loss / norm)) if norm > 0 else 0.0 for loss in sums]
