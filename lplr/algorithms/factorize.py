"""Low-rank factorization with both factors quantized: A ~ L R."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lplr.algorithms.in_parts import in_parts
from lplr.algorithms.stated import is_precise
from lplr.cluster import using
from lplr.coding.blocks import ComponentBlock, factors_seconds, successive_factors
from lplr.coding.constant import constant_factors, constant_of
from lplr.coding.lplr import rounded_factors, sketched_start, solved_factors
from lplr.coding.work import product_seconds, svd_seconds
from lplr.exceptions import InputError
from lplr.linalg.input_operators import as_matrix, bring_matrix_into_range
from lplr.linalg.operators import InputOperator
from lplr.linalg.sketches import KINDS
from lplr.linalg.svd import short_svd, truncated_svd
from lplr.matrices.low_rank import LowRank
from lplr.matrices.row_parts import RowParts
from lplr.planning.codebooks import EFFORTS, factor_codebooks
from lplr.planning.ranks import CONSTANT_SCALES, METHOD_SCALES, RankPlan, feasible_ranks
from lplr.planning.sizes import StoredScales, budget_nbytes
from lplr.planning.waterfill import distribute
from lplr.progress import Progress, parts, until
from lplr.provenance import recorded
from lplr.sources import opened
from lplr.streaming.factorize import feedback_in_passes, feedback_of_few
from lplr.streaming.limits import streamed_source
from lplr.streaming.moments import FirstPass
from lplr.streaming.results import results_of
from lplr.streaming.sketched import SketchedMethod, sketched_in_passes
from lplr.validation.arguments import (
    check_budget,
    check_choice,
    check_flag,
    check_integer,
    check_rank,
    check_real,
    check_rng,
)
from lplr.validation.matrices import bits_of, is_operator, is_sparse

__all__ = ["METHODS", "factorize", "factorize_sizes"]

METHODS = tuple(METHOD_SCALES)


@in_parts
@recorded()
def factorize(
    A: Any,
    *,
    rank: int | None = None,
    bits: float | tuple[float, float] | None = None,
    bits_per_entry: float | None = None,
    method: str = "feedback",
    sketch: str = "gaussian",
    n_oversamples: int | None = None,
    n_power_iter: int | None = None,
    quantizer: str | tuple[str, str] | None = None,
    rounding: str = "nearest",
    normalize: bool = False,
    effort: str = "default",
    rng: Any = None,
    memory_limit: int | str | None = None,
    out: Any = None,
    client: Any = None,
    progress: Progress = False,
) -> LowRank | RowParts:
    """Factor A ~ L R, with both factors quantized to real, packed bits.

    Give ``rank`` (and ``bits``), or ``bits_per_entry``, which then picks rank and bits.

    Parameters
    ----------
    A : array_like, sparse matrix or linear operator of shape (n, d)
        Any real dtype and memory order; never modified. Of a SciPy sparse matrix or array, of any
        format, and of a `scipy.sparse.linalg.LinearOperator`, or an object with ``shape``,
        ``matvec`` and ``rmatvec`` or ``matmat`` and ``rmatmat``, only products are taken.
        Also the name of a file, a memmap, or an array of h5py, zarr or dask, see
        `lplr.sources.open_source`.
    rank : int, optional
        From 1 to min(n, d).
    bits : int, float or (int or float, int or float), optional
        Bits per entry of L and of R: 1 to 8, or 16 for float16, of trellis codes 1 to 6 in
        quarters; 4 by default.
    bits_per_entry : float, optional
        Stored bits over n d, scales included. Rank and bits are those that lose least, for
        ``"feedback"`` separate ones for each component; with ``bits`` given, the rank is the
        largest that fits.
    method : {"feedback", "lplr", "lplr-svd", "direct-svd"}
        ``"feedback"``: each factor quantized under the Hessian that the other one makes.
        ``"lplr"``: Algorithm 1 of the LPLR paper, from a random sketch. ``"lplr-svd"``: the same
        from the SVD. ``"direct-svd"``: both factors of the SVD rounded, nothing solved.
    sketch : {"gaussian", "rademacher", "srht", "sparse-sign"}
        The random matrix of ``"lplr"``, and of the range finder behind the other methods.
    n_oversamples : int, optional
        Extra columns of that range finder's sketch; by default a quarter of the rank, at least
        10. ``"lplr"`` has none: its sketch has ``rank`` columns.
    n_power_iter : int, optional
        Power iterations, re-orthonormalised between; 0 by default for ``"lplr"``, else 2 and at
        least 1.
    quantizer : str or (str, str), optional
        Codebooks of L and R: ``"uniform"``, ``"lloyd-max"``, ``"normal-float"``, ``"e8p"`` or
        ``"trellis"`` (``"trellis-6"`` to ``"trellis-14"`` for 2**6 to 2**14 states).
        By default uniform with the min-max range, as in the paper; for ``"feedback"`` a trellis of
        2**8 states at two and three bits, and Lloyd-Max levels otherwise.
    rounding : {"nearest", "dithered"}
        ``"dithered"`` makes uniform rounding unbiased; not for ``"feedback"``.
    normalize : bool
        Store ``alpha L R + beta`` with the best scalars, the "normalise and shift" of the paper;
        not for ``"feedback"``, whose scales are fitted anyway.
    effort : {"fast", "default", "best"}
        For ``"feedback"``: how often the factors are fitted to each other. ``"fast"`` takes a
        quarter to a half of the time and leaves up to 6 % more error; where the rank of a large
        matrix is above 0.4 of the shorter side, the default is as fast. ``"best"`` has
        2**12 states where no ``quantizer`` is named: 2 to 10 % less error in four to twelve times
        the time.
    rng : int, numpy.random.Generator or None
    memory_limit : int or str, optional
        Bytes, or a text such as ``"2GB"``, that this may take beyond what is taken already. A is
        then read in blocks of rows, twice, and once more where the error is below 1 %, to measure
        it; its codes depend neither on the limit nor on the number of threads. By default so are
        sources that take more than a quarter of the memory that is available; what is smaller is
        computed with in memory.
    out : str or path-like, optional
        A new folder for a result in parts, which may be larger than the memory: A is read as with
        ``memory_limit``, and each part is written when it is coded. What is finished lies in
        OUT.job meanwhile: the same call, after an interrupt or a kill, goes on with the part that
        was in progress, and gives the same bytes.
    client : dask.distributed.Client, optional
        Of a cluster whose workers do the work on the rows, which are then read in blocks as under a
        ``memory_limit``, with the same result. They read files themselves, and compute dask arrays
        where they lie; all other rows are sent to them.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    LowRank, or RowParts of such with ``out``
        ``meta["call"]`` repeats the call; ``meta["history"]`` has the relative errors of
        ``"feedback"`` after each step.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    BudgetError
        If the budget is too small for rank 1; the message names the smallest that works.

    Warns
    -----
    BudgetWarning
        If the budget is not below what an entry of A takes already.

    Notes
    -----
    LPLR: Saha, Srivastava, Pilanci, NeurIPS 2023, Algorithm 1 and its variants of Section 4.
    Unlike there, the factors are stored as packed codes and the least squares are solved through
    the Gram matrix. ``"feedback"`` is this project's, see `lplr.coding.alternation` and, for
    budgets, `lplr.coding.blocks`. A constant matrix is stored exactly.

    A sparse A is never made dense, nor copied where it is CSR or CSC; other formats become CSR. Its
    singular vectors come from power iterations, or from the Gram matrix of few columns.
    ``meta["history"]`` needs the norm of A, which a linear operator does not know: it has none.

    Examples
    --------
    >>> import lplr
    >>> A = lplr.datasets.synthetic(200, 100, "power", exponent=1.0, rng=0)
    >>> f = lplr.factorize(A, bits_per_entry=1, rng=0)
    >>> f.bits_per_entry <= 1
    True
    >>> f.relative_error(A) < 0.2
    True
    """
    first = A if isinstance(A, FirstPass) else FirstPass(opened(A))
    A, gone = first.source, first.moments
    original = A
    check_choice(method, "method", METHODS)
    if bits_per_entry is not None:
        bits_per_entry = check_budget(bits_per_entry, bits_of(A))
    products = is_sparse(A) or is_operator(A) or isinstance(A, InputOperator)
    limited = "memory_limit" if client is None else "client"
    if (memory_limit is not None or client is not None) and products:
        raise InputError(
            f"{limited}: goes with a matrix whose rows are read; leave it out for a sparse "
            "matrix or a linear operator, of which only products are taken"
        )
    keeper = results_of(out)
    streamed = None
    if not gone:
        streamed = streamed_source(A, memory_limit, client, always=keeper is out)
    if streamed is not None:
        shape = streamed[0].shape
    elif gone is not None:
        A = gone.few_rows()
        shape = max(gone.shape[0], len(A)), A.shape[1]  # few rows are repeated
    else:
        A = as_matrix(A)
        shape = A.shape
    check_choice(sketch, "sketch", KINDS)
    check_choice(rounding, "rounding", ("nearest", "dithered"))
    normalize = check_flag(normalize, "normalize")
    least = 0 if method == "lplr" else 1
    power = (
        2 * least if n_power_iter is None else check_integer(n_power_iter, "n_power_iter", least)
    )
    extra = None if n_oversamples is None else check_integer(n_oversamples, "n_oversamples", 0)
    seed = int(check_rng(rng).integers(2**63))  # each plan that is tried starts from this one
    constant = constant_of(A) if streamed is None else None
    planned = shape  # of a part, where there are several
    if bits_per_entry is not None:
        planned = keeper.rows(shape, budget_nbytes(bits_per_entry, shape)), shape[1]
    plans = _rank_plans(
        planned, rank, bits, bits_per_entry, method, quantizer, effort,
        None if constant is None else CONSTANT_SCALES,
    )  # fmt: skip
    feedback = method == "feedback"
    if feedback and (rounding != "nearest" or normalize):
        raise InputError("method: 'feedback' takes no rounding='dithered' and no normalize=True")
    if not feedback and effort != "default":
        raise InputError(f"effort: goes with the method 'feedback', not with {method!r}")
    how = SketchedMethod(method, sketch, power, rounding, normalize, seed)
    finder: dict[str, Any] = {
        "n_oversamples": extra, "n_power_iter": power, "sketch": sketch, "rng": seed,
    }  # fmt: skip
    nbytes = None if bits_per_entry is None else budget_nbytes(bits_per_entry, shape)
    if streamed is not None:

        def constant_plan() -> RankPlan:
            return _rank_plans(
                planned, rank, bits, bits_per_entry, method, quantizer, effort, CONSTANT_SCALES
            )[0]

        if not feedback:

            def in_memory(S: np.ndarray) -> list[LowRank]:
                return _sketched(S, plans, how, finder)

            with using(client):
                return sketched_in_passes(
                    *streamed, plans, nbytes, how, in_memory, constant_plan, first, keeper
                )
        with using(client):
            return feedback_in_passes(
                *streamed, plans, nbytes, seed, effort, constant_plan, first, keeper
            )
    if constant is not None:
        return constant_factors(A.shape, constant, plans[0].rank, plans[0].books)
    if feedback and gone is not None:
        return feedback_of_few(gone, A, plans, nbytes, seed, effort)
    unit, A = bring_matrix_into_range(A)
    k = max(plan.rank for plan in plans)
    if feedback:
        if isinstance(A, np.ndarray):
            seconds = svd_seconds(shape, k)
        else:  # the sketch and, with the default powers, five more products with its columns
            seconds = 6 * product_seconds(shape[0], shape[1], round(1.25 * k))
        coding = factors_seconds([ComponentBlock(0, k, plans[0].books)], shape, effort)
        with until(seconds / (seconds + coding), "singular vectors"):
            s, V = short_svd(A, k, **finder)
        if len(plans) > 1:  # a budget: rates differ by component
            assert nbytes is not None
            blocks = distribute(s, shape, nbytes, [plan.books for plan in plans])
        else:
            blocks = [ComponentBlock(0, k, plans[0].books)]
        generator = np.random.default_rng([seed, 1])  # not the stream of the range finder
        f = successive_factors(A, (s, V), blocks, generator, effort).scaled(unit)
        return f if gone else _with_stated_error(f, original)
    results = _sketched(A, plans, how, finder)
    # The error costs a product of its own: measured only where there is a choice.
    best = min(results, key=lambda f: _loss(f, A)) if len(results) > 1 else results[0]
    return best.scaled(unit)


def _with_stated_error(f: LowRank, A: Any) -> LowRank:
    """The last error of the history as it is, where there is a history."""
    *before, last = f.meta.get("history", [None])
    if last is None or is_precise(f, A, last):
        return f
    return replace(f, meta={**f.meta, "history": [*before, f.relative_error(A)]})


def _loss(f: LowRank, A: np.ndarray | InputOperator) -> float:
    """What orders the errors of factorizations; an operator's norm would take many products."""
    return f.loss_change(A) if isinstance(A, InputOperator) else f.relative_error(A)


def _sketched(
    A: np.ndarray | InputOperator,
    plans: list[RankPlan],
    how: SketchedMethod,
    finder: dict[str, Any],
) -> list[LowRank]:
    """The factors of each plan, by a method of the LPLR paper."""
    if how.method != "lplr":
        with until(0.3, "singular vectors"):
            U, s, Vt = truncated_svd(A, max(plan.rank for plan in plans), **finder)

    def run(plan: RankPlan) -> LowRank:
        m, books = plan.rank, plan.books
        if how.method == "lplr":
            generator = np.random.default_rng(how.seed)
            start = sketched_start(A, m, how.sketch, how.n_power_iter, generator)
            return solved_factors(A, start, books, how.rounding, how.normalize, generator)
        generator = np.random.default_rng([how.seed, 1])
        if how.method == "lplr-svd":
            start = U[:, :m] * s[:m]
            return solved_factors(A, start, books, how.rounding, how.normalize, generator)
        right = s[:m, None] * Vt[:m]
        return rounded_factors(A, U[:, :m], right, books, how.rounding, how.normalize, generator)

    return [run(plan) for plan in parts(plans, what="factors")]


def factorize_sizes(
    shape: tuple[int, int],
    *,
    rank: int | None = None,
    bits: float | tuple[float, float] | None = None,
    bits_per_entry: float | None = None,
    method: str = "feedback",
    quantizer: str | tuple[str, str] | None = None,
    effort: str = "default",
) -> list[dict[str, Any]]:
    """What `factorize` would store with these options: each rank and pair of codebooks it tries.

    Parameters
    ----------
    shape : (n, d)
    rank, bits, bits_per_entry, method, quantizer, effort
        As in `factorize`.

    Returns
    -------
    list of dict
        JSON-able: ``rank``, ``quantizers``, ``bits``, ``nbytes`` and ``bits_per_entry``. Where the
        data decide on a rate for each component, one dict with a ``rank`` of None.

    Raises
    ------
    InputError, BudgetError
        As `factorize`.

    Examples
    --------
    >>> from lplr.algorithms.factorize import factorize_sizes
    >>> factorize_sizes((200, 100), rank=10, bits=4)[0]["nbytes"]
    1544
    """
    plans = _rank_plans(shape, rank, bits, bits_per_entry, method, quantizer, effort)
    if method == "feedback" and len(plans) > 1:
        nbytes = int(budget_nbytes(bits_per_entry, shape))  # type: ignore[arg-type]
        bits_used = 8 * nbytes / (shape[0] * shape[1])
        return [{"rank": None, "nbytes": nbytes, "bits_per_entry": bits_used}]
    return [plan.describe(shape) for plan in plans]


def _rank_plans(
    shape: tuple[int, int],
    rank: int | None,
    bits: Any,
    bits_per_entry: float | None,
    method: str,
    quantizer: Any,
    effort: str,
    scales: StoredScales | None = None,
) -> list[RankPlan]:
    """The rank that was asked for, or for each pair of codebooks the largest that fits."""
    check_choice(method, "method", METHODS)
    check_choice(effort, "effort", tuple(EFFORTS))
    if (rank is None) == (bits_per_entry is None):
        raise InputError(
            "rank, bits_per_entry: give one of the two, "
            f"found rank={rank!r} and bits_per_entry={bits_per_entry!r}"
        )
    pairs = factor_codebooks(method, quantizer, bits, effort, searched=rank is None)
    scales = scales or METHOD_SCALES[method]
    if rank is not None:
        return [RankPlan(check_rank(rank, shape), pairs[0], scales)]
    nbytes = budget_nbytes(check_real(bits_per_entry, "bits_per_entry"), shape)
    return feasible_ranks(shape, nbytes, pairs, scales)
