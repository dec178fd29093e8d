"""One budget for many matrices: each gets what equalises the marginal loss of a bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from lplr.algorithms.collection import collected
from lplr.exceptions import BudgetError, InputError, LplrError
from lplr.linalg.hessian import regularized, regularized_output
from lplr.parallel import reproducible
from lplr.planning.allocation import loss_curve, lower_hull_curve, spend
from lplr.planning.codebooks import EFFORTS
from lplr.planning.curves import Curve
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.progress import Progress, parts, tracked
from lplr.validation.arguments import check_choice, check_real
from lplr.validation.matrices import bring_into_range, check_matrix

__all__ = ["Allocation", "allocate", "curve_of", "divide"]

# Predicted gains over equal budgets below this share of the loss are within its error.
_CERTAIN = 0.03


class Allocation(NamedTuple):
    """Budgets for matrices, and what they are predicted to lose; prints as a table.

    Parameters
    ----------
    bits_per_entry : tuple of float
        For each matrix, to be passed to `lplr.compress`.
    predicted : tuple of float
        Relative error of each at its budget.
    uniform : tuple of float
        Relative error of each if all had the same bits per entry; infinite where a matrix is
        too small for that.
    names : tuple of str
        The keys of a mapping; of a sequence, "0", "1" and so on.
    shapes : tuple of (int, int)

    Examples
    --------
    >>> import lplr
    >>> lplr.Allocation((3.0, 1.5), (0.1, 0.3), (0.4, 0.2), ("up", "down"), ((80, 40), (40, 160)))
    name      shape  bits per entry  predicted error  at equal bits
    up     80 x 40           3.0000          0.10000        0.40000
    down   40 x 160          1.5000          0.30000        0.20000
    all                      2.0000          0.22361        0.31623
    """

    bits_per_entry: tuple[float, ...]
    predicted: tuple[float, ...]
    uniform: tuple[float, ...]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        entries = [n * d for n, d in self.shapes]
        mean = float(np.dot(entries, self.bits_per_entry)) / sum(entries)
        names = [name if name.isprintable() else repr(name) for name in self.names]
        rows = [
            (name, f"{n} x {d}", f"{bits:.4f}", f"{predicted:.5f}", f"{uniform:.5f}")
            for name, (n, d), bits, predicted, uniform in zip(
                names, self.shapes, *self[:3], strict=True
            )
        ]
        errors = (f"{np.sqrt(np.mean(np.square(e))):.5f}" for e in (self.predicted, self.uniform))
        head = ("name", "shape", "bits per entry", "predicted error", "at equal bits")
        lines = [head, *rows, ("all", "", f"{mean:.4f}", *errors)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        left = 2  # columns that are flush left
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i < left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )


def allocate(
    matrices: Mapping[str, Any] | Sequence[Any],
    *,
    bits_per_entry: float,
    hessians: Mapping[str, Any] | None = None,
    output_hessians: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | Sequence[float] | None = None,
    effort: str = "default",
    progress: Progress = False,
) -> Allocation:
    """Divide a budget among matrices so that their weighted squared errors add up to least.

    Parameters
    ----------
    matrices : mapping of str to array_like (n, d), or sequence of these
        Each as in `lplr.compress`. Each is looked up when it is needed and then let go, so that a
        mapping which reads from disk, such as `numpy.load` makes of a .npz file, never has two
        in memory. In a sequence, pairs (array_like, hessian) are possible too.
    bits_per_entry : float
        Stored bits of all matrices over the number of all entries.
    hessians : mapping of str to array_like, optional
        For some or all of the matrices, by their names; ``"up"`` is the Hessian of the matrix
        ``"up.weight"`` too, if none has the name ``"up"``. The matrices must be a mapping.
    output_hessians : mapping of str to array_like, optional
        In the same way, those of the outputs: ``output_hessian`` of `lplr.compress`.
    weights : mapping of str to float, or sequence of float, optional
        Factors, at least 0, of the squared relative errors; 1 by default. See Notes.
    effort : {"fast", "default", "best"}
        With which the matrices will be compressed.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

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

    The error E of a matrix W counts relative to W, under the Hessians H and G that it has:
    ``tr(G E H E^T) / tr(G W H W^T)``. So the scale of a Hessian does not matter, nor that of W.
    What adds up to absolute errors are the weights ``tr(G W H W^T)``, of W with its H and G as they
    are: without Hessians its squared norm. Half of their sum is then, with second moments of a
    network, its divergence to second order (`lplr.models.output_moments`); to that order alone, so
    that budgets which differ much should be tried on the network, as `lplr.models.allocate` does.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> rng = np.random.default_rng(0)
    >>> hard = rng.standard_normal((100, 80))
    >>> easy = lplr.datasets.synthetic(100, 80, "power", exponent=1.5, rng=0)
    >>> a = lplr.allocate({"hard": hard, "easy": easy}, bits_per_entry=2)
    >>> a.names, a.bits_per_entry[0] > 2 > a.bits_per_entry[1]
    (('hard', 'easy'), True)
    >>> sum(e**2 for e in a.predicted) < sum(e**2 for e in a.uniform)
    True
    """
    total = check_real(bits_per_entry, "bits_per_entry")
    check_choice(effort, "effort", tuple(EFFORTS))
    items = collected(matrices, hessians, output_hessians)
    factors = _check_weights(weights, items.names)
    with tracked(progress, "allocation"), reproducible():
        found = [
            curve_of(*items.look_up(name), items.label(name), effort)
            for name in parts(items.names, what=str)
        ]
    shapes, curves = zip(*found, strict=True)
    return divide(items.names, shapes, curves, total, factors)


def curve_of(
    A: Any, hessian: Any, output_hessian: Any, name: str, effort: str = "default"
) -> tuple[tuple[int, int], Curve]:
    """Shape of a matrix, and what it is predicted to lose over its size.

    Parameters
    ----------
    A : array_like of shape (n, d)
    hessian, output_hessian : array_like or None
        As in `lplr.compress`.
    name : str
        What an error calls the matrix.
    effort : {"fast", "default", "best"}

    Returns
    -------
    shape : (int, int)
    curve : Curve
        Squared relative error over bytes.

    Raises
    ------
    InputError, HessianError
        As `lplr.compress`.
    """
    A = check_matrix(A, name)
    n, d = A.shape
    try:
        H = None if hessian is None else regularized(hessian, d)[0]
        G = None if output_hessian is None else regularized_output(output_hessian, n)[0]
    except LplrError as error:
        raise type(error)(f"{name}: {error}") from None
    return A.shape, loss_curve(WeightedMatrix(bring_into_range(A)[1], H, seed=0, G=G), effort)


def divide(
    names: Sequence[str],
    shapes: Sequence[tuple[int, int]],
    curves: Sequence[Curve],
    bits_per_entry: float,
    weights: np.ndarray | None = None,
) -> Allocation:
    """The budgets of matrices whose curves are known.

    Parameters
    ----------
    names, shapes, curves : sequences of equal length
        Of each matrix, as `curve_of` returns them.
    bits_per_entry : float
        Of all matrices together.
    weights : ndarray of shape (m,), optional
        As in `allocate`.

    Returns
    -------
    Allocation

    Raises
    ------
    BudgetError
        If the budget is too small.
    """
    weights = np.ones(len(names)) if weights is None else weights
    entries = np.array([n * d for n, d in shapes], np.float64)
    nbytes = bits_per_entry / 8 * entries.sum()
    hulls = [lower_hull_curve(curve) for curve in curves]
    least = sum(hull.nbytes[0] for hull in hulls)
    if least > nbytes:
        enough = 1.001 * 8 * least / entries.sum()
        raise BudgetError(
            f"bits_per_entry: {bits_per_entry:g} does not suffice for the smallest that can be "
            f"stored of each matrix; use at least {enough:.4g}"
        )
    sizes = spend(hulls, weights, nbytes)
    equal = bits_per_entry / 8 * entries
    loss, uniform = (
        np.array([float(curve.at(size)) for curve, size in zip(curves, given, strict=True)])
        for given in (sizes, equal)
    )
    possible = np.isfinite(uniform).all()
    if possible and not weights @ loss < (1 - _CERTAIN) * (weights @ uniform):
        sizes, loss = equal, uniform
    return Allocation(
        tuple((8 * sizes / entries).tolist()),
        tuple(np.sqrt(loss).tolist()),
        tuple(np.sqrt(uniform).tolist()),
        tuple(names),
        tuple(shapes),
    )


def _check_weights(weights: Any, names: Sequence[str]) -> np.ndarray:
    if weights is None:
        return np.ones(len(names))
    if isinstance(weights, Mapping):
        if unknown := [name for name in weights if name not in names]:
            near = get_close_matches(str(unknown[0]), names, n=2) or names[:3]
            raise InputError(
                f"weights: no matrix has the name {unknown[0]!r}; there is {', '.join(near)}"
            )
        labels, values = [repr(name) for name in names], [weights.get(name, 1.0) for name in names]
    else:
        labels = [str(i) for i in range(len(names))]
        try:
            values = list(weights)
        except TypeError:
            raise InputError(f"weights: must be {len(names)} numbers, found {weights!r}") from None
        if len(values) != len(names):
            raise InputError(
                f"weights: must be one for each of {len(names)} matrices, found {len(values)}"
            )
    return np.array(
        [
            check_real(w, f"weights[{label}]", strict=False)
            for label, w in zip(labels, values, strict=True)
        ],
        np.float64,
    )
