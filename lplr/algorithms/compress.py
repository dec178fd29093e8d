"""One call that spends a budget of bits best: factors, a backbone, or both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lplr.algorithms.in_parts import in_parts
from lplr.algorithms.stated import is_precise
from lplr.cluster import using
from lplr.exceptions import InputError
from lplr.linalg.hessian import regularized, regularized_output
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.parallel import reproducible
from lplr.planning.candidates import candidate_plans
from lplr.planning.codebooks import EFFORTS
from lplr.planning.plans import Plan
from lplr.planning.sizes import budget_nbytes
from lplr.planning.trials import best_of
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.progress import Progress, tracked, until
from lplr.provenance import recorded
from lplr.sources import Source, opened
from lplr.streaming.compress import compress_in_passes, planned_in_passes
from lplr.streaming.limits import streamed_source
from lplr.streaming.results import Results, results_of
from lplr.validation.arguments import check_budget, check_choice, check_rng
from lplr.validation.matrices import bits_of, bring_into_range, check_matrix

__all__ = ["compress", "predictions"]


@in_parts
@recorded()
def compress(
    A: Any,
    *,
    bits_per_entry: float,
    hessian: Any = None,
    output_hessian: Any = None,
    rng: Any = None,
    effort: str = "default",
    memory_limit: int | str | None = None,
    out: Any = None,
    client: Any = None,
    progress: Progress = False,
) -> LowRank | QPlusLowRank | Quantized | RowParts:
    """Compress a matrix to a budget so that it loses least.

    Predicts, from the singular values, the Hessian and the errors of the codes, what the budget
    buys as low-rank factors, as a quantized backbone, as a backbone after factors, and by plain
    rounding, with the rates, ranks and widths that are best for each; carries out the most
    promising and returns the best.

    Parameters
    ----------
    A : array_like of shape (n, d)
        Any real dtype and memory order; never modified.
        Also the name of a file, a memmap, or an array of h5py, zarr or dask, see
        `lplr.sources.open_source`.
    bits_per_entry : float
        Stored bits over n d, at most; everything that a decoder needs counts.
    hessian : array_like of shape (d, d), (d,) or (m, d), optional
        Second moment of the inputs of the layer A, its diagonal, or inputs, one a row; the error
        is then ``tr(E H E^T)``, H damped by 1 % of its mean diagonal. By default ``|E|_F^2``.
    output_hessian : array_like of shape (n, n), (n,) or (m, n), optional
        Second moment G of the gradients of a loss by the outputs of the layer, its diagonal, or
        gradients, one a row; the error is then ``tr(G E H E^T)``, G damped like H. With both, that
        is a Kronecker approximation of what the loss gains to second order.
    rng : int, numpy.random.Generator or None
    effort : {"fast", "default", "best"}
        ``"fast"`` and ``"default"``: trellis codes of 8 and 10 state bits; one plan is carried
        out, by default a second one too where the predictions are close. ``"best"``: 12 state
        bits, and more plans are carried out. ``"fast"`` saves 15 to 55 % of the time, a third on
        most shapes, and costs 1 to 5 % of error; ``"best"`` gains 1 to 2 % in two to eight times
        the time.
    memory_limit : int or str, optional
        Bytes, or a text such as ``"2GB"``, that this may take beyond what is taken already: A is
        then read in blocks of rows, as `lplr.factorize` explains. Not with an
        ``output_hessian``. Rows of a backbone are mixed with their neighbours, so that rows that
        drift, as those of a sorted matrix, cost more than in memory.
    out : str or path-like, optional
        A new folder for a result in parts, which may be larger than the memory: A is read as with
        ``memory_limit``, and each part is written when it is coded. What is finished lies in
        OUT.job meanwhile: the same call, after an interrupt or a kill, goes on with the part that
        was in progress, and gives the same bytes.
    client : dask.distributed.Client, optional
        Of a cluster whose workers do the work on the rows, see `lplr.factorize`.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    LowRank, QPlusLowRank or Quantized
        ``meta["plan"]`` says how the bits were spent, with the predicted and the measured error;
        ``meta["others"]`` the same of the other plans, measured where they were carried out;
        ``meta["damping"]`` is the damping that H got, ``meta["output_damping"]`` that of G, and
        ``meta["call"]`` repeats the call.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    BudgetError
        If nothing fits; the message names the smallest budget that something fits.
    HessianError
        If ``hessian`` or ``output_hessian`` is not a second moment.

    Warns
    -----
    BudgetWarning
        If the budget is not below what an entry of A takes already.

    Notes
    -----
    The plans are in `lplr.planning.plans`, their predictions in `lplr.planning.candidates`, the
    coding of factors in `lplr.coding.blocks` and of the backbone in `lplr.coding.backbone`. A
    constant matrix is stored exactly.

    Factors alone are those of the singular components of ``G^(1/2) W H^(1/2)``, coded under both
    weights; they win at few bits per entry, under G and H up to 0.9 to 1.4. Factors that a backbone
    follows are those of W: what the backbone loses grows with the mean square of what it rounds,
    as long as each direction is worth bits. With weights of their own, in full or cut off at some
    level, they left up to 15 % more loss at 1.2 and 2 bits, and where they left less, factors alone
    were better.

    Rows can be read one by one: ``f[i]`` decodes only what is stored with row i. From 4096 rows on
    a backbone mixes blocks of 1024 rows, which is then what one row costs; where rows differ much,
    as in a sorted matrix, those of a block come from everywhere, so that ``f[i:j]`` decodes as many
    blocks as it has rows. All rows are mixed if a few of them hold most of the energy, which blocks
    would pay for with more than 1 % of error; see `lplr.planning.row_blocks`.

    Examples
    --------
    >>> import lplr
    >>> A = lplr.datasets.synthetic(200, 100, "power", exponent=1.0, rng=0)
    >>> f = lplr.compress(A, bits_per_entry=1.5, rng=0)
    >>> type(f).__name__, f.bits_per_entry <= 1.5
    ('LowRank', True)
    >>> layer = lplr.datasets.layer("minilm_l2_query")
    >>> g = lplr.compress(layer.W, hessian=layer.H, bits_per_entry=3, rng=0)
    >>> type(g).__name__, g.relative_error(layer.W, layer.H) < 0.08
    ('QPlusLowRank', True)
    """
    A = opened(A)
    results = results_of(out)
    streamed = _streamed(A, memory_limit, client, output_hessian, always=results is out)
    if streamed is not None:
        checked = _checked(streamed[0], bits_per_entry, hessian, output_hessian, rng, effort)
        with using(client):
            return compress_in_passes(*streamed, results, *checked)
    with until(0.15, "singular values"):
        matrix, plans, unit, damping = _planned(
            A, bits_per_entry, hessian, output_hessian, rng, effort
        )
    packed, chosen, others = best_of(plans, matrix, effort)
    plan, packed = others.pop(chosen), packed.scaled(unit)
    if not is_precise(packed, A, plan["error"]):
        H = matrix.H
        if not matrix.keeps_H:
            H, _ = regularized(hessian, matrix.shape[1], damping=damping["damping"] or 0.0)
        plan["error"] = packed.relative_error(A, H, matrix.G)
    return replace(packed, meta={**damping, "plan": plan, "others": others})


def predictions(
    A: Any,
    *,
    bits_per_entry: float,
    hessian: Any = None,
    output_hessian: Any = None,
    rng: Any = None,
    effort: str = "default",
    memory_limit: int | str | None = None,
    client: Any = None,
    progress: Progress = False,
) -> list[dict[str, Any]]:
    """What `compress` would choose from, best first; nothing is coded.

    Parameters
    ----------
    A, bits_per_entry, hessian, output_hessian, rng, effort, memory_limit, client, progress
        As in `compress`.

    Returns
    -------
    list of dict
        JSON-able: the kind of each plan, its ranks and widths, its predicted error and its size.

    Raises
    ------
    InputError, BudgetError, HessianError
        As `compress`.

    Examples
    --------
    >>> import lplr
    >>> A = lplr.datasets.synthetic(200, 100, "power", exponent=1.0, rng=0)
    >>> [plan["kind"] for plan in lplr.predictions(A, bits_per_entry=1.5, rng=0)]
    ['low-rank', 'backbone + low-rank', 'backbone', 'rounding']
    """
    with tracked(progress, "predictions"), reproducible(), using(client):
        A = opened(A)
        streamed = _streamed(A, memory_limit, client, output_hessian)
        if streamed is not None:
            checked = _checked(streamed[0], bits_per_entry, hessian, output_hessian, rng, effort)
            plans = planned_in_passes(*streamed, Results(), *checked)[3]
            shape = streamed[0].shape
        else:
            matrix, plans, *_ = _planned(A, bits_per_entry, hessian, output_hessian, rng, effort)
            shape = matrix.shape
    return [plan.describe(shape) for plan in plans]


def _streamed(
    A: Any, memory_limit: Any, client: Any, output_hessian: Any, *, always: bool = False
) -> tuple[Source, int] | None:
    """As `streamed_source`; under an ``output_hessian``, which needs all rows, only if asked to."""
    asked = memory_limit is not None or client is not None or always
    if output_hessian is not None and not asked:
        return None
    return streamed_source(A, memory_limit, client, always=always)


def _checked(
    source: Source, bits_per_entry: Any, hessian: Any, output_hessian: Any, rng: Any, effort: Any
) -> tuple[Any, ...]:
    """The arguments of what is computed in passes: bits, Hessian, seeds and effort."""
    bits = check_budget(bits_per_entry, bits_of(source))
    check_choice(effort, "effort", tuple(EFFORTS))
    if output_hessian is not None:
        raise InputError(
            "output_hessian: errors of all rows weigh on each other, so that they cannot be "
            "coded in passes, as a memory_limit, a client and out= ask for; leave out one or the "
            "other"
        )
    seed, factor_seed = check_rng(rng).integers(2**63, size=2).tolist()
    return bits, hessian, (seed, factor_seed), effort


def _planned(
    A: Any, bits_per_entry: Any, hessian: Any, output_hessian: Any, rng: Any, effort: Any
) -> tuple[WeightedMatrix, list[Plan], float, dict[str, float | None]]:
    """The matrix of checked arguments, its plans, what to scale results by, and the dampings."""
    bits = check_budget(bits_per_entry, bits_of(A))
    A = check_matrix(A)
    check_choice(effort, "effort", tuple(EFFORTS))
    seed, factor_seed = check_rng(rng).integers(2**63, size=2).tolist()
    H = G = None
    damping: dict[str, float | None] = {"damping": None}
    if hessian is not None:
        H, damping["damping"] = regularized(hessian, A.shape[1])
    if output_hessian is not None:
        G, damping["output_damping"] = regularized_output(output_hessian, A.shape[0])
    unit, W = bring_into_range(A)
    matrix = WeightedMatrix(W, H, seed, factor_seed, G, spare=True)
    del H  # else its memory could not be given back
    plans = candidate_plans(matrix, budget_nbytes(bits, A.shape), effort)
    return matrix, plans, unit, damping
