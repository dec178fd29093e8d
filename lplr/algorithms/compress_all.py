"""All matrices of a network or a file, compressed to one budget."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.algorithms.allocate import curve_of, divide
from lplr.algorithms.collection import Survey, collected, survey
from lplr.algorithms.compress import compress
from lplr.exceptions import BudgetWarning, DampingWarning, InputError
from lplr.matrices.base import PackedMatrix
from lplr.parallel import reproducible
from lplr.planning.codebooks import EFFORTS
from lplr.planning.work import compression_work, planning_work
from lplr.progress import Progress, parts, tracked, until
from lplr.validation import as_array, check_budget, check_choice, check_integer, check_rng

__all__ = ["compress_all"]

_SURVEY = 0.02  # share of the time that looking at every array takes, about


def compress_all(
    matrices: Mapping[str, Any],
    *,
    bits_per_entry: float,
    hessians: Mapping[str, Any] | None = None,
    output_hessians: Mapping[str, Any] | None = None,
    rng: Any = None,
    effort: str = "default",
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
    check_budget(bits_per_entry)
    check_choice(effort, "effort", tuple(EFFORTS))
    items = collected(matrices, hessians, output_hessians)
    drawn = rng is None or isinstance(rng, np.random.Generator)
    seed = int(check_rng(rng).integers(2**63)) if drawn else check_integer(rng, "rng", 0)
    packed: dict[str, PackedMatrix] = {}

    def one(A: Any, hessian: Any, output_hessian: Any, bits: float) -> PackedMatrix:
        """A matrix that nobody holds any longer when the next one is looked up."""
        return compress(
            A,
            bits_per_entry=bits,
            hessian=hessian,
            output_hessian=output_hessian,
            rng=seed,
            effort=effort,
        )

    with tracked(progress, "compress_all"), reproducible(), warnings.catch_warnings():
        with until(_SURVEY):
            found = survey(items)
        _refuse(found)
        names, matrices_found = list(found.matrices), found.matrices.values()
        entries = sum(m.shape[0] * m.shape[1] for m in matrices_found)
        check_budget(bits_per_entry, 8 * sum(m.nbytes for m in matrices_found) / entries)
        for said in (DampingWarning, BudgetWarning):  # by now, with a name
            warnings.simplefilter("ignore", said)
        planning = [planning_work(m.shape, m.hessian, m.output_hessian) for m in matrices_found]
        coding = [
            compression_work(m.shape, m.hessian, effort, m.output_hessian) for m in matrices_found
        ]
        place = sum(planning) / (sum(planning) + sum(coding))
        with until(_SURVEY + (1 - _SURVEY) * place):
            curves = [
                curve_of(*items.look_up(name), items.label(name), effort)[1]
                for name in parts(names, planning, lambda name: f"planning {name}")
            ]
        plan = divide(names, [m.shape for m in matrices_found], curves, bits_per_entry)
        for name, bits in parts(
            list(zip(names, plan.bits_per_entry, strict=True)), coding, lambda item: item[0]
        ):
            packed[name] = one(*items.look_up(name), bits)
    return {
        name: packed[name] if name in packed else as_array(matrices[name], name)
        for name in items.names
    }


def _refuse(found: Survey) -> None:
    wrong = [f"matrices[{name!r}]: {text}" for name, text in found.wrong.items()]
    wrong += [
        f"{argument}[{name!r}]: {text}"
        for argument, of in found.wrong_hessians.items()
        for name, text in of.items()
    ]
    if wrong:
        raise InputError("; ".join(wrong))
    if not found.matrices:
        raise InputError(
            "matrices: none of the arrays is a matrix of floating-point numbers with at least two "
            "rows and two columns; pass at least one"
        )
