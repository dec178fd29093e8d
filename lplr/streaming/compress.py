"""`lplr.compress` of a source that is read in passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.hessian import regularized
from lplr.matrices.base import PackedMatrix
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
from lplr.streaming.measured import stated_error
from lplr.streaming.moments import Moments, moments_of
from lplr.streaming.passes import Passes
from lplr.streaming.results import Kept, Results
from lplr.streaming.room import open_passes
from lplr.streaming.rounding import rounded_in_a_pass

__all__ = ["compress_in_passes", "planned_in_passes"]


def planned_in_passes(
    source: Source,
    limit: int,
    results: Results,
    bits: float,
    hessian: Any,
    seeds: tuple[int, int],
    effort: str,
) -> tuple[Passes, Moments, StreamedMatrix, list[Plan], float | None]:
    """The first pass, and the plans for a budget, best first, and the damping that H got.

    The matrix that is planned for has as many rows as a part, which gets its share of the budget.
    """
    shape = source.shape
    nbytes = budget_nbytes(bits, shape)
    if nbytes < least_nbytes(shape):
        raise budget_error(shape, least_nbytes(shape))
    passes = open_passes(source, limit, rank=min(shape), stored=nbytes, results=results, mixed=True)
    H, damping = None, None
    if hessian is not None:
        H, damping = regularized(hessian, shape[1])
    moments = moments_of(passes, results, by_column=True)
    rows = passes.parts[0].stop
    matrix = StreamedMatrix.of(moments.of_rows(rows), H, *seeds)
    plans = candidate_plans(matrix, budget_nbytes(bits, (rows, shape[1])), effort)
    return passes, moments, matrix, plans, damping


def compress_in_passes(
    source: Source,
    limit: int,
    results: Results,
    bits: float,
    hessian: Any,
    seeds: tuple[int, int],
    effort: str,
) -> PackedMatrix:
    """`lplr.compress` by two passes within ``limit`` bytes, or three where the error is small.

    Plans are predicted from the moments, and those that compete carried out on the stand-in of few
    rows; the best one codes all rows on what it found there.
    """
    with until(0.3):
        passes, moments, matrix, plans, damping = planned_in_passes(
            source, limit, results, bits, hessian, seeds, effort
        )
    with until(0.4):
        plan, trial, others = _chosen(plans, matrix, effort, results)
    packed, loss = _carried_out(plan, trial, passes, moments, matrix, effort, results)
    error = matrix.relative(loss * matrix.shape[0] / source.shape[0])
    error = stated_error(packed, source, error, matrix.H)
    record = {**plan.describe(matrix.shape), "error": error}
    if len(passes.parts) > 1:  # what plans say is of one part
        record |= {"nbytes": packed.nbytes, "bits_per_entry": packed.bits_per_entry}
    for said in others:
        said["nbytes"] = round(said["nbytes"] * source.shape[0] / matrix.shape[0])
    meta = {"damping": damping, "plan": record, "others": others}
    return replace(packed, meta=meta)


def _chosen(
    plans: list[Plan], matrix: StreamedMatrix, effort: str, results: Results
) -> tuple[Plan, LowRank | QPlusLowRank | Quantized | None, list[dict[str, Any]]]:
    """The best plan, what it gives for the stand-in if that is needed, and records of the others.

    Plain rounding is compared by its prediction, which rows of the sample give it as they are.
    """
    records = {id(plan): plan.describe(matrix.shape) for plan in plans}
    trial = None
    best = plans[0]
    if not isinstance(best, (RoundingPlan, ConstantPlan)):
        coded = [plan for plan in plans if not isinstance(plan, RoundingPlan)]

        def tried() -> Kept:
            f, chosen, said = best_of(coded, matrix.trial, effort)
            errors = [record.get("error") for record in said]
            return {"": replace(f, meta={"chosen": chosen, "errors": errors})}

        trial = results.once("trial", tried)[""]
        best = coded[trial.meta["chosen"]]
        for plan, error in zip(coded, trial.meta["errors"], strict=True):
            if error is not None:
                records[id(plan)]["error"] = error
    return best, trial, [records[id(plan)] for plan in plans if plan is not best]


def _carried_out(
    plan: Plan,
    trial: LowRank | QPlusLowRank | Quantized | None,
    passes: Passes,
    moments: Moments,
    matrix: StreamedMatrix,
    effort: str,
    results: Results,
) -> tuple[PackedMatrix, float]:
    """All rows coded as a plan says, and the loss in the units of the moments."""
    if isinstance(plan, ConstantPlan):
        value, d = float(np.float32(moments.extrema.low)), moments.shape[1]
        f = results.joined(
            passes.parts, lambda part, _: plan.constant((part.stop - part.start, d), value)
        )
        return f, 0.0
    if isinstance(plan, RoundingPlan):
        how = plan.book, plan.granularity, plan.scaling
        return rounded_in_a_pass(passes, moments, *how, results, weights=matrix.H)
    if isinstance(trial, LowRank):
        assert isinstance(plan, LowRankPlan)
        rng = np.random.default_rng([matrix.factor_seed, 1])
        return streamed_factors(passes, moments, plan.blocks, rng, results, effort, matrix.H)
    if not isinstance(trial, QPlusLowRank):
        raise InputError(f"memory_limit: no plan of kind {plan.kind!r} is coded in passes")
    rates = matrix.rates if trial.right is not None else matrix.unrotated_rates
    weighted = isinstance(plan, WeightedLowRankPlan)
    sweeps = SWEEPS[effort]
    return streamed_sum(passes, moments, trial, rates.weights, sweeps, results, weighted=weighted)
