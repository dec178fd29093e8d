"""What a matrix loses over its size, and the division of a budget among several of them."""

from __future__ import annotations

import numpy as np

from lplr.exceptions import BudgetError
from lplr.planning.candidates import constant_plans
from lplr.planning.codebooks import efficient_pairs, lower_hull
from lplr.planning.curves import Curve
from lplr.planning.sizes import least_nbytes, transforms_nbytes
from lplr.planning.weighted_matrix import WeightedMatrix

__all__ = ["loss_curve", "lower_hull_curve", "spend"]

_STEPS = 33  # budgets of a curve, from the smallest to _MOST bits per entry
_MOST = 16.0
_FINE = 32  # points of a hull from one such budget to the next
# Bits per entry at which factors under H are looked at, and under G as well.
_SMALL = (0.04, 0.1, 0.25, 0.7)
_SMALL_TWO_SIDED = (*_SMALL, 1.4)


def loss_curve(matrix: WeightedMatrix, effort: str) -> Curve:
    """Predicted squared relative error over bytes, of the best kind of plan at each size."""
    n, d = matrix.shape
    if matrix.is_constant:
        least = min(plan.nbytes((n, d)) for plan in constant_plans((n, d)))
        return Curve(np.array([float(least)]), np.array([1e-300]))
    least = least_nbytes((n, d))
    spectrum = matrix.spectrum
    factors = spectrum.curve(efficient_pairs(effort, (n, d)))
    seeds = transforms_nbytes(n)
    sizes = np.geomspace(least, max(_MOST / 8 * n * d, 2.0 * least), _STEPS)
    backbone = matrix.backbone_rates(effort).curve(sizes[1:] - seeds)
    unit = spectrum.energy / (n * d)
    weighted = matrix.H is not None or matrix.G is not None
    alone = _weighted_curve(matrix, effort) if weighted else factors
    loss = np.empty(len(sizes))
    for i, size in enumerate(sizes):
        after = factors.loss / spectrum.energy * backbone.at(size - seeds - factors.nbytes) * unit
        loss[i] = min(float(alone.at(np.array(size))), float(after.min()))
    relative = np.maximum(loss / matrix.norm, 1e-300)
    return Curve(sizes, np.minimum.accumulate(relative))


def _weighted_curve(matrix: WeightedMatrix, effort: str) -> Curve:
    """Loss over bytes of factors that are fitted under the weights, at a few small sizes."""
    n, d = matrix.shape
    small = _SMALL if matrix.G is None else _SMALL_TWO_SIDED
    components = matrix.components(small[-1] / 8 * n * d)
    assert components is not None
    sizes, losses = [0.0], [matrix.norm]
    for bits in small:
        try:
            losses.append(components.plan(bits / 8 * n * d - transforms_nbytes(n) - 4, effort)[1])
        except BudgetError:
            continue
        sizes.append(bits / 8 * n * d)
    return Curve(np.array(sizes), np.minimum.accumulate(losses))


def lower_hull_curve(curve: Curve) -> Curve:
    """The lower convex hull of a curve, at points so close that any budget is near one."""
    sizes = np.geomspace(curve.nbytes[0], curve.nbytes[-1], _FINE * (len(curve.nbytes) - 1) + 1)
    sizes[0], sizes[-1] = curve.nbytes[0], curve.nbytes[-1]
    loss = curve.at(sizes)
    keep = lower_hull(sizes, loss)
    return Curve(sizes[keep], loss[keep])


def spend(hulls: list[Curve], factors: np.ndarray, nbytes: float) -> np.ndarray:
    """Bytes of each matrix, float64: the steepest segments of all hulls first.

    The hulls are convex curves, whose losses are weighed by ``factors``; ``nbytes`` is at least the
    sum of their smallest sizes.
    """
    sizes = np.array([hull.nbytes[0] for hull in hulls])
    segments = []
    for i, (hull, factor) in enumerate(zip(hulls, factors, strict=True)):
        lengths, gains = np.diff(hull.nbytes), -factor * np.diff(hull.loss)
        segments += [(g / x, i, x) for g, x in zip(gains.tolist(), lengths.tolist(), strict=True)]
    left = nbytes - sizes.sum()
    # A sort that keeps the order of equals: within a hull the gains fall anyway.
    for _, i, length in sorted(segments, key=lambda segment: -segment[0]):
        taken = min(length, left)
        sizes[i] += taken
        left -= taken
    return sizes
