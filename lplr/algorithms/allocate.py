"""One budget for many matrices: each gets what equalises the marginal loss of a bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lplr.exceptions import BudgetError, InputError
from lplr.linalg.hessian import regularize
from lplr.parallel import reproducible
from lplr.planning.allocation import loss_curve, lower_hull_curve, spend
from lplr.planning.codebooks import EFFORTS
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.validation import bring_into_range, check_choice, check_matrix, check_real

__all__ = ["Allocation", "allocate"]

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
        Relative error of each if all had the same bits per entry; infinite where a matrix is
        too small for that.

    Examples
    --------
    >>> import lplr
    >>> lplr.Allocation((2.0, 1.0), (0.1, 0.3), (0.2, 0.2)).bits_per_entry
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
    with reproducible():
        checked = _check_matrices(matrices)
        factors = _check_weights(weights, len(checked))
        curves = [loss_curve(matrix, effort) for matrix in checked]
    entries = np.array([matrix.W.size for matrix in checked], np.float64)
    nbytes = total / 8 * entries.sum()
    hulls = [lower_hull_curve(curve) for curve in curves]
    least = sum(hull.nbytes[0] for hull in hulls)
    if least > nbytes:
        enough = 1.001 * 8 * least / entries.sum()
        raise BudgetError(
            f"bits_per_entry: {total:g} does not suffice for the smallest that can be stored of "
            f"each matrix; use at least {enough:.4g}"
        )
    sizes = spend(hulls, factors, nbytes)
    equal = total / 8 * entries
    loss, uniform = (
        np.array([float(curve.at(size)) for curve, size in zip(curves, given, strict=True)])
        for given in (sizes, equal)
    )
    possible = np.isfinite(uniform).all()
    if possible and not factors @ loss < (1 - _CERTAIN) * (factors @ uniform):
        sizes, loss = equal, uniform
    return Allocation(
        tuple((8 * sizes / entries).tolist()),
        tuple(np.sqrt(loss).tolist()),
        tuple(np.sqrt(uniform).tolist()),
    )


def _check_matrices(matrices: Any) -> list[WeightedMatrix]:
    """Each matrix with its Hessian."""
    if isinstance(matrices, (str, bytes, np.ndarray)) or not isinstance(matrices, Sequence):
        raise InputError(
            f"matrices: must be a list of matrices, or of pairs, found {type(matrices).__name__}"
        )
    if not matrices:
        raise InputError("matrices: is empty; pass at least one")
    checked = []
    for i, item in enumerate(matrices):
        A, hessian = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        A = check_matrix(A, f"matrices[{i}]")
        H = None if hessian is None else regularize(hessian, columns=A.shape[1])[0]
        checked.append(WeightedMatrix(bring_into_range(A)[1], H, seed=0))
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
