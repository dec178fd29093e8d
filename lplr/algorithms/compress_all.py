"""All matrices of a network or a file, compressed to one budget."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.algorithms.allocate import curve_of, divide
from lplr.algorithms.collection import collected
from lplr.algorithms.many import SURVEY, Coder, Items, each, looked_at, seed_of, with_kept
from lplr.cluster import check_client
from lplr.exceptions import BudgetWarning, DampingWarning, InputError
from lplr.matrices.base import PackedMatrix
from lplr.parallel import reproducible
from lplr.planning.codebooks import EFFORTS
from lplr.planning.work import planning_work
from lplr.progress import Progress, parts, tracked, until
from lplr.validation.arguments import check_budget, check_choice

__all__ = ["compress_all"]


def compress_all(
    matrices: Mapping[str, Any],
    *,
    bits_per_entry: float,
    hessians: Mapping[str, Any] | None = None,
    output_hessians: Mapping[str, Any] | None = None,
    rng: Any = None,
    effort: str = "default",
    client: Any = None,
    progress: Progress = False,
) -> dict[str, PackedMatrix | np.ndarray]:
    """Compress all matrices of a collection to one budget so that they lose least together.

    `lplr.allocate` says how the budget is divided, `lplr.compress` compresses each matrix.

    Parameters
    ----------
    matrices : mapping of str to array_like
        Matrices of floating-point numbers with at least two rows and two columns are compressed,
        everything else (biases, indices) is kept as it is. Each array is looked up when it is
        needed and then let go, so that a mapping which reads from disk, such as `numpy.load` makes
        of a .npz file, never has two large ones in memory.
    bits_per_entry : float
        Stored bits of all compressed matrices over the number of their entries.
    hessians : mapping of str to array_like, optional
        For some or all of the matrices, by their names; ``"up"`` is the Hessian of the matrix
        ``"up.weight"`` too, if none has the name ``"up"``. See `lplr.compress`.
    output_hessians : mapping of str to array_like, optional
        In the same way, those of the outputs: ``output_hessian`` of `lplr.compress`.
    rng : int, numpy.random.Generator or None
        Every matrix is compressed with the same seed: this integer, or one that is drawn. So each
        result is what `lplr.compress` makes of that matrix alone with the same budget and seed.
    effort : {"fast", "default", "best"}
        As in `lplr.compress`.
    client : dask.distributed.Client, optional
        Of a cluster whose workers compress the matrices, which are sent to them, with the same
        result.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    dict of str to packed matrix or ndarray
        In the order of ``matrices``; `lplr.save` writes it to one file.

    Raises
    ------
    InputError
        If an argument is outside what is offered, or matrices or Hessians cannot be used; all of
        them are named before anything is compressed.
    BudgetError
        If not even the smallest that can be stored of each matrix fits.

    Warns
    -----
    BudgetWarning
        If the budget is not below what the matrices take already.
    DampingWarning
        If a Hessian has fewer inputs than columns, or must be damped more than usual.
    LplrWarning
        If there is a Hessian of an array that is kept as it is.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> layer = lplr.datasets.layer("minilm_l2_query")
    >>> model = {"query.weight": layer.W, "key.weight": layer.W[:100], "query.bias": np.zeros(384)}
    >>> packed = lplr.compress_all(model, bits_per_entry=2, hessians={"query": layer.H}, rng=0)
    >>> [type(f).__name__ for f in packed.values()]
    ['QPlusLowRank', 'QPlusLowRank', 'ndarray']
    >>> sum(f.nbytes for f in list(packed.values())[:2]) <= 2 * 484 * 384 / 8
    True
    """
    if not isinstance(matrices, Mapping):
        raise InputError(
            f"matrices: must be a mapping of names to arrays, found {type(matrices).__name__}"
        )
    bits_per_entry = check_budget(bits_per_entry)
    check_choice(effort, "effort", tuple(EFFORTS))
    check_client(client)
    items = collected(matrices, hessians, output_hessians)
    code = Coder(seed_of(rng), effort)
    with tracked(progress, "compress_all"), reproducible(), warnings.catch_warnings():
        with until(SURVEY):
            found = looked_at(items)
        names, shapes = list(found.matrices), [m.shape for m in found.matrices.values()]
        check_budget(bits_per_entry, found.bits)
        for said in (DampingWarning, BudgetWarning):  # by now, with a name
            warnings.simplefilter("ignore", said)
        planning = [
            planning_work(m.shape, m.hessian, m.output_hessian) for m in found.matrices.values()
        ]
        coding = found.coding_work(effort)
        place = sum(planning) / (sum(planning) + sum(coding))
        with until(SURVEY + (1 - SURVEY) * place):
            looked_up = ((*items.look_up(name), items.label(name), effort) for name in names)
            work = parts(names, planning, lambda name: f"planning {name}")
            curves = [
                curve
                for _, (_, curve) in zip(work, each(curve_of, looked_up, client), strict=False)
            ]
        plan = divide(names, shapes, curves, bits_per_entry)
        todo = Items(items, names, plan.bits_per_entry).one_by_one()
        packed = dict(zip(parts(names, coding, str), each(code, todo, client), strict=False))
    return with_kept(packed, items)
