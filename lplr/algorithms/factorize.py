"""Low-rank factorization with both factors quantized: A ~ L R.

`factorize` checks its arguments, asks `lplr.planning.budget` for plans where a budget is given,
carries them out by one of the methods and returns the best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lplr.coding.alternation import SVD, feedback_factors
from lplr.coding.paper import constant_factors, rounded_factors, solved_factors
from lplr.coding.rounding import is_constant
from lplr.coding.successive import successive_factors
from lplr.exceptions import InputError
from lplr.linalg.svd import KINDS, Sketch, range_finder, truncated_svd
from lplr.matrices.low_rank import LowRank
from lplr.parallel import single_threaded_blas
from lplr.planning import budget
from lplr.planning.waterfill import distribute
from lplr.provenance import provenance
from lplr.quantizers.base import QUANTIZERS
from lplr.validation import (
    bring_into_range,
    check_bits,
    check_choice,
    check_flag,
    check_integer,
    check_matrix,
    check_pair,
    check_rank,
    check_real,
    check_rng,
    settle_seed,
)

__all__ = ["METHODS", "STORED_SCALES", "codebook_pairs", "factorize"]

METHODS = ("feedback", "lplr", "lplr-svd", "direct-svd")
# Float32 numbers that each method stores beside the codes, by component and once.
STORED_SCALES = {
    "feedback": {"per_rank": 1, "once": 1},
    "lplr": {"per_rank": 0, "once": 6},
    "lplr-svd": {"per_rank": 0, "once": 6},
    "direct-svd": {"per_rank": 0, "once": 6},
}
_CONSTANT_SCALES = {"per_rank": 1, "once": 3}  # of a constant matrix, whatever the method


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
    rng: Any = None,
) -> LowRank:
    """Factor A ~ L R, with both factors quantized to real, packed bits.

    Give ``rank`` (and ``bits``), or ``bits_per_entry``, which then picks rank and bits.

    Parameters
    ----------
    A : array_like of shape (n, d)
        Any real dtype and memory order; never modified.
    rank : int, optional
        From 1 to min(n, d).
    bits : int, float or (int or float, int or float), optional
        Bits of an entry of L and of R: 1 to 8, or 16 for float16, of trellis codes 1 to 6 in
        quarters; 4 by default.
    bits_per_entry : float, optional
        Stored bits over n d, scales included. Rank and bits are those that lose least, for
        ``"feedback"`` separate ones for each component; with ``bits`` given, the rank is the
        largest that fits.
    method : {"feedback", "lplr", "lplr-svd", "direct-svd"}
        ``"feedback"``: each factor quantized under the Hessian that the other one makes.
        ``"lplr"``: Algorithm 1 of paper 1, from a random sketch. ``"lplr-svd"``: the same from
        the SVD. ``"direct-svd"``: both factors of the SVD rounded, nothing solved.
    sketch : {"gaussian", "rademacher", "srht", "sparse-sign"}
        Of ``"lplr"``, and of the range finder behind the other methods.
    n_oversamples : int, optional
        Extra columns of that range finder's sketch; by default a quarter of the rank, at least
        10. ``"lplr"`` has none: its sketch has ``rank`` columns.
    n_power_iter : int, optional
        Power iterations, re-orthonormalised between; 0 by default for ``"lplr"``, else 2 and at
        least 1.
    quantizer : str or (str, str), optional
        Codebooks of L and R: ``"uniform"``, ``"lloyd-max"``, ``"normal-float"``, ``"e8p"`` or
        ``"trellis"`` (``"trellis-6"`` to ``"trellis-14"`` for 2**6 to 2**14 states).
        By default uniform with the min-max range, as in paper 1; for ``"feedback"`` E8P at two
        and three bits, and Lloyd-Max levels otherwise.
    rounding : {"nearest", "dithered"}
        ``"dithered"`` makes uniform rounding unbiased; not for ``"feedback"``.
    normalize : bool
        Store ``alpha L R + beta`` with the best scalars, the "normalise and shift" of paper 1;
        not for ``"feedback"``, whose scales are fitted anyway.
    rng : int, numpy.random.Generator or None

    Returns
    -------
    LowRank
        Its ``meta`` records the configuration.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    BudgetError
        If the budget is too small for rank 1; the message names the smallest that works.

    Notes
    -----
    Paper 1: Saha, Srivastava, Pilanci, NeurIPS 2023, Algorithm 1 and its variants of Section 4.
    Unlike there, the factors are stored as packed codes and the least squares are solved through
    the Gram matrix. ``"feedback"`` is this project's, see
    `lplr.coding.alternation.feedback_factors` and, for budgets,
    `lplr.coding.successive.successive_factors`. A constant matrix is stored exactly.

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
    A = check_matrix(A)
    check_choice(method, "method", METHODS)
    check_choice(sketch, "sketch", KINDS)
    check_choice(rounding, "rounding", ("nearest", "dithered"))
    normalize = check_flag(normalize, "normalize")
    if method == "feedback" and (rounding != "nearest" or normalize):
        raise InputError("method: 'feedback' takes no rounding='dithered' and no normalize=True")
    if (rank is None) == (bits_per_entry is None):
        raise InputError(
            "rank, bits_per_entry: give one of the two, "
            f"found rank={rank!r} and bits_per_entry={bits_per_entry!r}"
        )
    least = 0 if method == "lplr" else 1
    power = (
        2 * least if n_power_iter is None else check_integer(n_power_iter, "n_power_iter", least)
    )
    extra = None if n_oversamples is None else check_integer(n_oversamples, "n_oversamples", 0)
    rng = settle_seed(rng)
    seed = int(check_rng(rng).integers(2**63))  # each plan that is tried starts from this one
    pairs = codebook_pairs(method, quantizer, bits, searched=rank is None)
    constant = is_constant(A)
    if rank is not None:
        plans = [budget.Plan(check_rank(rank, A.shape), pairs[0])]
    else:
        bits_per_entry = check_real(bits_per_entry, "bits_per_entry")
        nbytes = bits_per_entry * A.size / 8
        scales = _CONSTANT_SCALES if constant else STORED_SCALES[method]
        plans = budget.feasible_plans(A.shape, nbytes, pairs, **scales)
    settings = {
        "method": method,
        "sketch": sketch,
        "n_power_iter": power,
        "rounding": rounding,
        "normalize": normalize,
        "bits_per_entry": bits_per_entry,
    }
    if constant:
        factors = constant_factors(A.shape, float(A[0, 0]), plans[0].rank, plans[0].books)
        return _record(factors, settings, rng)
    unit, A = bring_into_range(A)
    # Also around what runs outside the blocks: BLAS results depend on its number of threads.
    with single_threaded_blas():
        if method == "lplr":
            run = _sketched(A, sketch, power, rounding, normalize, seed)
        else:
            k = max(plan.rank for plan in plans)
            svd = truncated_svd(
                A, k, n_oversamples=extra, n_power_iter=power, sketch=sketch, rng=seed
            )
            if method == "feedback" and len(plans) > 1:
                blocks = distribute(svd[1], A.shape, nbytes, pairs, **STORED_SCALES[method])
                f = successive_factors(A, svd, blocks, np.random.default_rng([seed, 1]))
                return _record(f.scaled(unit), settings, rng)
            run = _from_svd(A, svd, method, rounding, normalize, seed)
        results = [run(plan) for plan in plans]
        # The error costs a product of its own: measured only where there is a choice.
        best = min(results, key=lambda f: f.relative_error(A)) if len(results) > 1 else results[0]
    return _record(best.scaled(unit), settings, rng)


Run = Callable[[budget.Plan], LowRank]


def _sketched(
    A: np.ndarray, sketch: str, power: int, rounding: str, normalize: bool, seed: int
) -> Run:
    """Algorithm 1 of paper 1: L from a sketch of A."""

    def run(plan: budget.Plan) -> LowRank:
        rng = np.random.default_rng(seed)
        if power:
            Y = range_finder(A, plan.rank, sketch=sketch, n_power_iter=power, rng=rng)
        else:
            Y = Sketch(sketch, A.shape[1], plan.rank).sample(rng, A.dtype).apply(A)
        return solved_factors(A, Y, plan.books, rounding, normalize, rng)

    return run


def _from_svd(
    A: np.ndarray, svd: SVD, method: str, rounding: str, normalize: bool, seed: int
) -> Run:
    """The methods that start from the leading part of one SVD."""

    def run(plan: budget.Plan) -> LowRank:
        rng = np.random.default_rng([seed, 1])  # not the stream of the range finder
        U, s, Vt = svd[0][:, : plan.rank], svd[1][: plan.rank], svd[2][: plan.rank]
        if method == "feedback":
            return feedback_factors(A, (U, s, Vt), plan.books, rng)
        if method == "lplr-svd":
            return solved_factors(A, U * s, plan.books, rounding, normalize, rng)
        return rounded_factors(A, U, s[:, None] * Vt, plan.books, rounding, normalize, rng)

    return run


def codebook_pairs(method: str, quantizer: Any, bits: Any, *, searched: bool) -> list[budget.Books]:
    """The pairs of codebooks that the arguments of `factorize` leave open.

    Parameters
    ----------
    method, quantizer, bits
        As in `factorize`.
    searched : bool
        Whether ``bits`` that are not given are searched for, or 4.

    Returns
    -------
    list of (Codebook, Codebook)

    Raises
    ------
    InputError
        If an argument is outside what is offered.
    """
    if quantizer is None:
        names = None if method == "feedback" else ("uniform", "uniform")
    else:
        left, right = check_pair(quantizer, "quantizer")
        names = (
            check_choice(left, "quantizer", tuple(QUANTIZERS)),
            check_choice(right, "quantizer", tuple(QUANTIZERS)),
        )
    if bits is None and searched:
        # The paper's methods use one width for both factors.
        return budget.candidate_books(names, equal=method != "feedback")
    left, right = (check_bits(b, "bits") for b in check_pair(4 if bits is None else bits, "bits"))
    return [budget.pair(names, (left, right))]


def _record(f: LowRank, settings: dict[str, Any], rng: Any) -> LowRank:
    """The factors with a record of how they were made."""
    return replace(f, meta={**f.meta, **settings, **provenance(rng)})
