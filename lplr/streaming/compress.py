"""`lplr.compress` of a source that is read in passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.hessian import regularized
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.planning.candidates import candidate_plans
from lplr.planning.plans import (
    SWEEPS,
    ConstantPlan,
    LowRankPlan,
    Plan,
    RoundingPlan,
    WeightedLowRankPlan,
)
from lplr.planning.sizes import budget_error, budget_nbytes, least_nbytes
from lplr.planning.trials import best_of
from lplr.progress import until
from lplr.sources import Source
from lplr.streaming.backbone import streamed_sum
from lplr.streaming.feedback import streamed_factors
from lplr.streaming.matrix import StreamedMatrix
from lplr.streaming.moments import first_pass
from lplr.streaming.passes import Passes
from lplr.streaming.room import open_passes
from lplr.streaming.rounding import rounded_in_a_pass

__all__ = ["compress_in_passes", "planned_in_passes"]


def planned_in_passes(
    source: Source,
    limit: int,
    bits: float,
    hessian: Any,
    seeds: tuple[int, int],
    effort: str,
) -> tuple[Passes, StreamedMatrix, list[Plan], float | None]:
    """The first pass: the plans for a budget, best first, and the damping that H got."""
    shape = source.shape
    nbytes = budget_nbytes(bits, shape)
    if nbytes < least_nbytes(shape):
        raise budget_error(shape, least_nbytes(shape))
    passes = open_passes(source, limit, rank=min(shape), stored=int(nbytes), mixed=True)
    H, damping = None, None
    if hessian is not None:
        H, damping = regularized(hessian, shape[1])
    moments = first_pass(passes, by_column=True)
    matrix = StreamedMatrix.of(moments, H, *seeds)
    return passes, matrix, candidate_plans(matrix, nbytes, effort), damping


def compress_in_passes(
    source: Source,
    limit: int,
    bits: float,
    hessian: Any,
    seeds: tuple[int, int],
    effort: str,
) -> LowRank | QPlusLowRank | Quantized:
    """`lplr.compress` by two passes within ``limit`` bytes.

    Plans are predicted from the moments, and those that compete carried out on the stand-in of few
    rows; the best one codes all rows on what it found there.
    """
    with until(0.3):
        passes, matrix, plans, damping = planned_in_passes(
            source, limit, bits, hessian, seeds, effort
        )
    with until(0.4):
        plan, trial, others = _chosen(plans, matrix, effort)
    packed, loss = _carried_out(plan, trial, passes, matrix, effort)
    record = {**plan.describe(matrix.shape), "error": matrix.relative(loss)}
    meta = {"damping": damping, "plan": record, "others": others}
    return replace(packed.scaled(matrix.known.unit), meta=meta)


def _chosen(
    plans: list[Plan], matrix: StreamedMatrix, effort: str
) -> tuple[Plan, LowRank | QPlusLowRank | Quantized | None, list[dict[str, Any]]]:
    """The best plan, what it gives for the stand-in if that is needed, and records of the others.

    Plain rounding is compared by its prediction, which rows of the sample give it as they are.
    """
    records = {id(plan): plan.describe(matrix.shape) for plan in plans}
    trial = None
    best = plans[0]
    if not isinstance(best, (RoundingPlan, ConstantPlan)):
        coded = [plan for plan in plans if not isinstance(plan, RoundingPlan)]
        trial, chosen, said = best_of(coded, matrix.trial, effort)
        best = coded[chosen]
        for plan, record in zip(coded, said, strict=True):
            if "error" in record:
                records[id(plan)]["error"] = record["error"]
    return best, trial, [records[id(plan)] for plan in plans if plan is not best]


def _carried_out(
    plan: Plan,
    trial: LowRank | QPlusLowRank | Quantized | None,
    passes: Passes,
    matrix: StreamedMatrix,
    effort: str,
) -> tuple[LowRank | QPlusLowRank | Quantized, float]:
    """All rows coded as a plan says, and the loss."""
    moments = matrix.known
    if isinstance(plan, ConstantPlan):
        value = np.float32(moments.extrema.low / moments.unit)
        return plan.constant(matrix.shape, float(value)), 0.0
    if isinstance(plan, RoundingPlan):
        return rounded_in_a_pass(
            passes, moments, plan.book, plan.granularity, plan.scaling, weights=matrix.H
        )
    if isinstance(trial, LowRank):
        assert isinstance(plan, LowRankPlan)
        rng = np.random.default_rng([matrix.factor_seed, 1])
        return streamed_factors(passes, moments, plan.blocks, rng, effort, matrix.H)
    if not isinstance(trial, QPlusLowRank):
        raise InputError(f"memory_limit: no plan of kind {plan.kind!r} is coded in passes")
    rates = matrix.rates if trial.right is not None else matrix.unrotated_rates
    weighted = isinstance(plan, WeightedLowRankPlan)
    return streamed_sum(passes, moments, trial, rates.weights, SWEEPS[effort], weighted=weighted)
