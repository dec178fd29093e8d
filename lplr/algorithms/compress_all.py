"""All matrices of a network or a file, compressed to one budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.algorithms.allocate import allocate
from lplr.algorithms.collection import collected, survey
from lplr.algorithms.compress import compress
from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.parallel import reproducible
from lplr.planning.work import compression_work, planning_work
from lplr.progress import Progress, parts, tracked, until
from lplr.validation import as_array, check_rng

__all__ = ["compress_all"]


def compress_all(
    matrices: Mapping[str, Any],
    *,
    bits_per_entry: float,
    hessians: Mapping[str, Any] | None = None,
    rng: Any = None,
    effort: str = "default",
    progress: Progress = False,
) -> dict[str, PackedMatrix | np.ndarray]:
    """Compress all matrices of a collection to one budget so that they lose least together.

    `lplr.allocate` divides the budget, and `lplr.compress` compresses each matrix.

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
    rng : int, numpy.random.Generator or None
        Every matrix is compressed with the same seed: this integer, or one drawn once. So each
        result is what `lplr.compress` makes of that matrix alone with the same budget and seed.
    effort : {"fast", "default", "best"}
        As in `lplr.compress`.
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
        If an argument is outside what is offered, or matrices cannot be compressed: all of them
        are named before anything is computed.
    BudgetError
        If not even the smallest that can be stored of each matrix fits.

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
    items = collected(matrices, hessians)
    seed = int(check_rng(rng).integers(2**63)) if not isinstance(rng, (int, np.integer)) else rng
    with tracked(progress, "compress_all"), reproducible():
        with until(0.03):
            found = survey(items)
        wrong = [f"matrices[{name!r}]: {text}" for name, text in found.wrong.items()]
        wrong += [f"hessians[{name!r}]: {text}" for name, text in found.wrong_hessians.items()]
        if wrong:
            raise InputError("; ".join(wrong))
        ...
