"""Many matrices compressed side by side, each by itself."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.algorithms.collection import Survey, collected, with_sources
from lplr.algorithms.many import (
    SURVEY,
    Coder,
    Items,
    looked_at,
    seed_of,
    side_by_side,
    with_kept,
)
from lplr.cluster import check_client
from lplr.exceptions import BudgetError, BudgetWarning, DampingWarning, InputError
from lplr.matrices.base import PackedMatrix
from lplr.parallel import reproducible
from lplr.planning.codebooks import EFFORTS
from lplr.planning.sizes import budget_error, budget_nbytes, least_nbytes
from lplr.progress import Progress, parts, tracked, until
from lplr.validation.arguments import check_budget, check_choice

__all__ = ["compress_many"]


def compress_many(
    matrices: Mapping[str, Any],
    *,
    bits_per_entry: float | Mapping[str, float],
    hessians: Mapping[str, Any] | None = None,
    output_hessians: Mapping[str, Any] | None = None,
    rng: Any = None,
    effort: str = "default",
    client: Any = None,
    progress: Progress = False,
) -> dict[str, PackedMatrix | np.ndarray]:
    """Compress many matrices side by side, each to a budget of its own.

    They are divided among processes of this machine, or among the workers of a cluster. Each
    result is what `lplr.compress` makes of that matrix alone with the same budget and seed.
    `lplr.compress_all` divides one budget among them instead.

    Parameters
    ----------
    matrices : mapping of str to array_like
        Matrices of floating-point numbers with at least two rows and two columns are compressed,
        everything else (biases, indices) is kept as it is. Also names of files, memmaps, and arrays
        of h5py, zarr or dask, see `lplr.sources.open_source`. Each is looked up when it is needed
        and then let go.
    bits_per_entry : float or mapping of str to float
        Stored bits of each matrix over the number of its entries: one number for all, or each by
        its name; those of `lplr.allocate` are ``dict(zip(plan.names, plan.bits_per_entry))``.
    hessians, output_hessians : mapping of str to array_like, optional
        As in `lplr.compress_all`.
    rng : int, numpy.random.Generator or None
        Every matrix is compressed with the same seed: this integer, or one that is drawn.
    effort : {"fast", "default", "best"}
        As in `lplr.compress`.
    client : dask.distributed.Client, optional
        Of a cluster whose workers compress the matrices. Files they open themselves, arrays are
        sent to them by way of the scheduler. Without a client, as many processes work as there are
        threads to use, which start once the work has taken a quarter of a second.
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
        If an argument is outside what is offered, or matrices or Hessians cannot be used; those in
        memory are all named before anything is compressed, files are read when it is their turn.
    BudgetError
        If nothing fits the budget of a matrix.
    ClusterError
        If the scheduler or its workers are lost.

    Warns
    -----
    BudgetWarning
        If the budget is not below what the matrices take already.
    DampingWarning
        If a Hessian has fewer inputs than columns, or must be damped more than usual.
    LplrWarning
        If there is a Hessian of an array that is kept as it is.

    Notes
    -----
    A script that calls this must guard what it runs by ``if __name__ == "__main__":`` where new
    processes import it, as on Windows and macOS.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> rng = np.random.default_rng(0)
    >>> layers = {f"layer {i}": rng.standard_normal((60, 40)) for i in range(3)}
    >>> packed = lplr.compress_many(layers, bits_per_entry=2, rng=0)
    >>> alone = lplr.compress(layers["layer 2"], bits_per_entry=2, rng=0)
    >>> np.array_equal(packed["layer 2"].to_dense(), alone.to_dense())
    True
    """
    if not isinstance(matrices, Mapping):
        raise InputError(
            f"matrices: must be a mapping of names to arrays, found {type(matrices).__name__}"
        )
    check_choice(effort, "effort", tuple(EFFORTS))
    check_client(client)
    items = with_sources(collected(matrices, hessians, output_hessians))
    code = Coder(seed_of(rng), effort)
    with tracked(progress, "compress_many"), reproducible(), warnings.catch_warnings():
        with until(SURVEY):
            found = looked_at(items)
        names, budgets = list(found.matrices), _budgets(bits_per_entry, found)
        for said in (DampingWarning, BudgetWarning):  # by now, with a name
            warnings.simplefilter("ignore", said)
        done = side_by_side(code, Items(items, names, budgets), client)
        packed = dict(zip(parts(names, found.coding_work(effort), str), done, strict=False))
    return with_kept(packed, items)


def _budgets(bits_per_entry: Any, found: Survey) -> list[float]:
    """The bits per entry of each matrix, which something fits."""
    names = list(found.matrices)
    if isinstance(bits_per_entry, Mapping):
        if missing := [name for name in names if name not in bits_per_entry]:
            raise InputError(f"bits_per_entry: has no number for {missing[0]!r}; add one")
        given = [check_budget(bits_per_entry[name]) for name in names]
    else:
        given = [check_budget(bits_per_entry)] * len(names)
    mean = float(np.dot(given, found.entries)) / sum(found.entries)
    check_budget(mean, found.bits)
    for name, bits in zip(names, given, strict=True):
        shape = found.matrices[name].shape
        if budget_nbytes(bits, shape) < least_nbytes(shape):
            raise BudgetError(f"{name}: {budget_error(shape, least_nbytes(shape))}")
    return given
