"""One budget for many matrices: each gets what equalises the marginal loss of a bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lplr.coding.rounding import is_constant
from lplr.exceptions import BudgetError, InputError
from lplr.linalg.hessian import check_hessian, regularize
from lplr.parallel import single_threaded_blas
from lplr.planning.predict import EFFORTS, Curve, backbone_curve, hull, ladder, worthwhile
from lplr.planning.search import SEEDS, smallest
from lplr.planning.situation import Situation
from lplr.quantizers.base import get_codebook
from lplr.validation import bring_into_range, check_choice, check_matrix, check_real

__all__ = ["Allocation", "allocate"]

_DAMPING = 0.01
_STEPS = 33  # budgets of a curve, from the smallest to _MOST bits an entry
_MOST = 16.0
_FINE = 32  # points of a hull from one such budget to the next
_SMALL = (0.04, 0.1, 0.25, 0.7)  # bits an entry at which factors under H are looked at
# Predicted gains over equal budgets below this share of the loss are within its error.
_CERTAIN = 0.03


class Allocation(NamedTuple):
    """Budgets for matrices, and what they are predicted to lose.

    Parameters
    ----------
    bits_per_entry : tuple of float
        For each matrix, to be passed to `lplr.compress`.
    predicted : tuple of float
        Relative error of each at its budget.
    uniform : tuple of float
        Relative error of each if all had the same bits an entry; infinite where a matrix is too
        small for that.

    Examples
    --------
    >>> from lplr.algorithms.allocate import Allocation
    >>> Allocation((2.0, 1.0), (0.1, 0.3), (0.2, 0.2)).bits_per_entry
    (2.0, 1.0)
    """

    bits_per_entry: tuple[float, ...]
    predicted: tuple[float, ...]
    uniform: tuple[float, ...]


def allocate(
    matrices: Sequence[Any],
    *,
    bits_per_entry: float,
    weights: Sequence[float] | None = None,
    effort: str = "default",
) -> Allocation:
    """Divide a budget among matrices so that their weighted squared errors add up to least.

    Parameters
    ----------
    matrices : sequence of array_like (n, d), or of pairs (array_like, hessian)
        Each as in `lplr.compress`.
    bits_per_entry : float
        Stored bits of all matrices over the number of all entries.
    weights : sequence of float, optional
        Factors, at least 0, of the squared relative errors; 1 by default. With the squared norms
        of the matrices, the absolute squared errors are added.
    effort : {"fast", "default", "best"}
        With which the matrices will be compressed.

    Returns
    -------
    Allocation
        The same budget for all where nothing is predicted to be better beyond doubt.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    BudgetError
        If not even the smallest that can be stored of each matrix fits; the message names the
        smallest total that does.
    HessianError
        If a Hessian is not a second moment.

    Notes
    -----
    The predicted squared error of each matrix over its size is replaced by its lower convex hull;
    then the segments of all hulls are taken in the order of their loss a byte until the budget is
    spent, the last one in part. Nothing is compressed.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> rng = np.random.default_rng(0)
    >>> hard = rng.standard_normal((100, 80))
    >>> easy = lplr.datasets.synthetic(100, 80, "power", exponent=1.5, rng=0)
    >>> a = lplr.allocate([hard, easy], bits_per_entry=2)
    >>> a.bits_per_entry[0] > 2 > a.bits_per_entry[1]
    True
    >>> sum(e**2 for e in a.predicted) < sum(e**2 for e in a.uniform)
    True
    """
    total = check_real(bits_per_entry, "bits_per_entry")
    check_choice(effort, "effort", tuple(EFFORTS))
    checked = _check_matrices(matrices)
    factors = _check_weights(weights, len(checked))
    with single_threaded_blas():
        curves = [_curve(A, raw, effort) for A, raw in checked]
    entries = np.array([A.size for A, _ in checked], np.float64)
    nbytes = total / 8 * entries.sum()
    convex = [_convex(curve) for curve in curves]
    least = sum(curve.nbytes[0] for curve in convex)
    if least > nbytes:
        enough = 1.001 * 8 * least / entries.sum()
        raise BudgetError(
            f"bits_per_entry: {total:g} does not suffice for the smallest that can be "
            f"stored of each matrix; use at least {enough:.4g}"
        )
    sizes = _spend(convex, factors, nbytes)
    equal = total / 8 * entries
    loss, uniform = (
        np.array([float(curve.at(size)) for curve, size in zip(curves, given, strict=True)])
        for given in (sizes, equal)
    )
    if not factors @ loss < (1 - _CERTAIN) * (factors @ uniform):
        sizes, loss = equal, uniform
    return Allocation(
        tuple((8 * sizes / entries).tolist()),
        tuple(np.sqrt(loss).tolist()),
        tuple(np.sqrt(uniform).tolist()),
    )


def _check_matrices(matrices: Any) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Each matrix with its Hessian."""
    if isinstance(matrices, (str, bytes, np.ndarray)) or not isinstance(matrices, Sequence):
        raise InputError(
            f"matrices: must be a list of matrices, or of pairs, found {type(matrices).__name__}"
        )
    if not matrices:
        raise InputError("matrices: is empty; pass at least one")
    checked = []
    for i, item in enumerate(matrices):
        pair = isinstance(item, tuple) and len(item) == 2
        A = check_matrix(item[0] if pair else item, f"matrices[{i}]")
        raw = check_hessian(item[1], A.shape[1]) if pair and item[1] is not None else None
        checked.append((A, raw))
    return checked


def _check_weights(weights: Any, count: int) -> np.ndarray:
    if weights is None:
        return np.ones(count)
    try:
        values = list(weights)
    except TypeError:
        raise InputError(f"weights: must be {count} numbers, found {weights!r}") from None
    if len(values) != count:
        raise InputError(f"weights: must be one for each of {count} matrices, found {len(values)}")
    return np.array(
        [check_real(w, f"weights[{i}]", strict=False) for i, w in enumerate(values)], np.float64
    )


def _curve(A: np.ndarray, raw: np.ndarray | None, effort: str) -> Curve:
    """Predicted squared relative error over bytes, of the best kind at each size."""
    n, d = A.shape
    least = smallest((n, d))
    if is_constant(A):
        book = get_codebook("lloyd-max", 1)
        size = float(min(book.nbytes(d, n) + 8, book.nbytes(n, 1) + book.nbytes(d, 1) + 16))
        return Curve(np.array([size]), np.array([1e-300]))
    H = None if raw is None else regularize(raw, _DAMPING)[0]
    situation = Situation(bring_into_range(A)[1], H, seed=0)
    spectrum = situation.spectrum
    books = ladder(effort, n)
    factors = spectrum.curve(worthwhile(effort, (n, d)))
    sizes = np.geomspace(least, max(_MOST / 8 * n * d, 2.0 * least), _STEPS)
    backbone = backbone_curve(
        situation.pivots, n, [get_codebook("zero", 0), *books], sizes[1:] - SEEDS
    )
    unit = spectrum.energy / (n * d)
    alone = factors if H is None else _under(situation, effort)
    loss = np.empty(len(sizes))
    for i, size in enumerate(sizes):
        after = factors.loss / spectrum.energy * backbone.at(size - SEEDS - factors.nbytes) * unit
        loss[i] = min(float(alone.at(np.array(size))), float(after.min()))
    relative = np.maximum(loss / situation.norm, 1e-300)
    return Curve(sizes, np.minimum.accumulate(relative))


def _under(situation: Situation, effort: str) -> Curve:
    """Loss over bytes of factors that are fitted under H, at a few small sizes."""
    n, d = situation.shape
    spectrum = situation.weighted(_SMALL[-1] / 8 * n * d)
    assert spectrum is not None
    sizes, losses = [0.0], [situation.norm]
    for bits in _SMALL:
        try:
            losses.append(spectrum.plan(bits / 8 * n * d - SEEDS - 4, effort)[1])
        except BudgetError:
            continue
        sizes.append(bits / 8 * n * d)
    return Curve(np.array(sizes), np.minimum.accumulate(losses))


def _convex(curve: Curve) -> Curve:
    """The lower convex hull of a curve, of points so close that a budget never lacks one."""
    sizes = np.geomspace(curve.nbytes[0], curve.nbytes[-1], _FINE * (len(curve.nbytes) - 1) + 1)
    loss = curve.at(sizes)
    keep = hull(sizes, loss)
    return Curve(sizes[keep], loss[keep])


def _spend(curves: list[Curve], factors: np.ndarray, nbytes: float) -> np.ndarray:
    """Bytes of each matrix: the steepest segments first."""
    sizes = np.array([curve.nbytes[0] for curve in curves])
    segments = []
    for i, (curve, factor) in enumerate(zip(curves, factors, strict=True)):
        lengths, gains = np.diff(curve.nbytes), -factor * np.diff(curve.loss)
        segments += [(g / x, i, x) for g, x in zip(gains.tolist(), lengths.tolist(), strict=True)]
    left = nbytes - sizes.sum()
    # A sort that keeps the order of equals: within a hull the gains fall anyway.
    for _, i, length in sorted(segments, key=lambda segment: -segment[0]):
        taken = min(length, left)
        sizes[i] += taken
        left -= taken
    return sizes
