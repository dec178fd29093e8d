"""Carrying out the best of the plans, and others where that pays."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.parallel import run_blocks
from lplr.planning.plans import Plan
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.progress import parts, until

__all__ = ["best_of"]

# Each pair is (error factor, work factor): plans of another family are carried out too whose
# predicted error is within the first factor of the best plan's and whose work is within the second.
_ALSO_TRIED: dict[str, tuple[tuple[float, float], ...]] = {
    "fast": (),
    "default": ((1.03, 0.7), (1.01, 2.0)),
    "best": ((1.1, np.inf),),
}
_ROWS = 256  # that one thread subtracts at a time
_DISAPPOINTING = 1.1  # so much worse than predicted is a reason to carry out the next plan too


def best_of(
    plans: list[Plan], matrix: WeightedMatrix, effort: str
) -> tuple[LowRank | QPlusLowRank | Quantized, int, list[dict[str, Any]]]:
    """Carry out the best plan, and others where predictions are close or it disappoints.

    ``plans`` begin with the best. The result is that of least measured error; with it come the
    number of its plan, and `Plan.describe` of every plan, with ``error`` where measured.
    """
    records = [plan.describe(matrix.shape) for plan in plans]
    best: tuple[float, int, Any] | None = None
    close = [
        not i or _is_close(plan, plans[0], matrix.shape, effort) for i, plan in enumerate(plans)
    ]
    work = [plan.work(matrix.shape) * tried for plan, tried in zip(plans, close, strict=True)]
    for i, plan in enumerate(parts(plans, work, lambda plan: plan.kind)):
        disappointed = best is not None and best[0] > _DISAPPOINTING * plan.predicted
        if not close[i] and not disappointed:
            continue
        with until(0.95):
            packed, loss = plan.carry_out(matrix, effort)
        if loss is None:
            loss = matrix.loss(_difference(matrix.W, packed.to_dense()))
        error = matrix.relative(loss)
        records[i]["error"] = error
        if best is None or error < best[0]:
            best = error, i, packed
    assert best is not None
    return best[2], best[1], records


def _difference(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A - B, in the place of B."""
    run_blocks(lambda i, j: np.subtract(A[i:j], B[i:j], out=B[i:j]), len(A), _ROWS)
    return B


def _is_close(plan: Plan, first: Plan, shape: tuple[int, int], effort: str) -> bool:
    """Whether another plan is worth its time beside the first one."""
    if effort != "best" and plan.family == first.family:
        return False
    loss = plan.predicted / first.predicted if first.predicted > 0 else np.inf
    work = plan.work(shape) / max(first.work(shape), 1)
    return any(loss <= most and work <= longest for most, longest in _ALSO_TRIED[effort])
