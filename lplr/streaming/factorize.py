"""`lplr.factorize` of a source that is read in passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lplr.coding.blocks import ComponentBlock
from lplr.coding.constant import constant_factors
from lplr.matrices.low_rank import LowRank
from lplr.matrices.row_parts import RowParts
from lplr.planning.ranks import RankPlan
from lplr.planning.waterfill import distribute
from lplr.progress import until
from lplr.sources import Source
from lplr.streaming.feedback import factors_of_few, streamed_factors
from lplr.streaming.measured import stated_error
from lplr.streaming.moments import FirstPass, Moments, moments_of
from lplr.streaming.results import Results
from lplr.streaming.room import open_passes

__all__ = ["feedback_in_passes", "feedback_of_few"]


def feedback_in_passes(
    source: Source,
    limit: int,
    plans: list[RankPlan],
    nbytes: float | None,
    seed: int,
    effort: str,
    constant_plan: Callable[[], RankPlan],
    first: FirstPass,
    results: Results,
) -> LowRank | RowParts:
    """The method "feedback" of `lplr.factorize`, by two passes within ``limit`` bytes.

    A small error takes a third one, which measures it. Of several plans, which share a budget of
    ``nbytes``, each component gets the best one. Where the result has parts, plans are those of one
    of them, as is its share of the budget.
    """
    shape = source.shape
    k = max(plan.rank for plan in plans)
    stored = plans[0].nbytes(shape) if nbytes is None else nbytes
    passes = open_passes(source, limit, rank=k, stored=stored, results=results)
    with until(0.4):
        moments = first.moments = moments_of(passes, results)
    if moments.extrema.are_equal:
        plan, value = constant_plan(), moments.extrema.low
        return results.joined(
            passes.parts,
            lambda part, _: constant_factors(
                (part.stop - part.start, shape[1]), value, plan.rank, plan.books
            ),
        )
    rows = passes.parts[0].stop
    share = None if nbytes is None else nbytes * rows / shape[0]
    blocks = _blocks(moments.of_rows(rows), plans, share)
    rng = np.random.default_rng([seed, 1])
    f: Any = streamed_factors(passes, moments, blocks, rng, results, effort)[0]
    *before, last = f.meta["history"]
    history = [*before, stated_error(f, source, last)]
    return replace(f, meta={**f.meta, "history": history})


def feedback_of_few(
    moments: Moments,
    few: np.ndarray,
    plans: list[RankPlan],
    nbytes: float | None,
    seed: int,
    effort: str,
) -> LowRank:
    """The same for rows that are gone: R as for all of them, and the L of the few that stand in."""
    generator = np.random.default_rng([seed, 1])
    S = few * np.float32(1 / moments.unit)
    found = factors_of_few(S, moments, _blocks(moments, plans, nbytes), generator, effort)
    return found.scaled(moments.unit)


def _blocks(moments: Moments, plans: list[RankPlan], nbytes: float | None) -> list[ComponentBlock]:
    k = max(plan.rank for plan in plans)
    if len(plans) == 1:
        return [ComponentBlock(0, k, plans[0].books)]
    assert nbytes is not None
    s = moments.singular_values[:k].astype(np.float32)
    return distribute(s, moments.shape, nbytes, [plan.books for plan in plans])
