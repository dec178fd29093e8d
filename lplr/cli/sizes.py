"""What ``lplr compress --dry-run`` says: the size of what a call could store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lplr.cli.compress_call import Call

__all__ = ["possible_sizes"]


def possible_sizes(call: Call, A: Any, hessian: Any) -> list[dict[str, Any]]:
    """Everything that the data decide among, with its size.

    Parameters
    ----------
    call : Call
    A : ndarray of shape (n, d)
    hessian : ndarray or None

    Returns
    -------
    list of dict
        JSON-able, with ``nbytes`` and ``bits_per_entry``; of `lplr.compress` the best first, with
        the predicted errors.
    """
    if call.function == "compress":
        from lplr.algorithms.compress import predictions

        return predictions(A, hessian=hessian, **call.arguments)
    arguments = {name: value for name, value in call.arguments.items() if name != "rng"}
    found = _SIZES[call.function](A.shape, **arguments)
    return [{**size, "bits_per_entry": 8 * size["nbytes"] / A.size} for size in found]


def _of_quantize(shape: tuple[int, int], bits: int, quantizer: str) -> list[dict[str, Any]]:
    from lplr.quantizers import get_codebook

    book = get_codebook(quantizer, bits)
    return [{"bits": [bits], "nbytes": book.nbytes(shape[1], shape[0]) + 8}]


def _of_factorize(
    shape: tuple[int, int],
    rank: int | None = None,
    bits_per_entry: float | None = None,
    method: str = "feedback",
    bits: Any = None,
    quantizer: Any = None,
    **_: Any,
) -> list[dict[str, Any]]:
    from lplr.algorithms.factorize import STORED_SCALES, codebook_pairs
    from lplr.planning import budget
    from lplr.validation import check_rank

    pairs = codebook_pairs(method, quantizer, bits, searched=rank is None)
    scales = STORED_SCALES[method]
    if rank is not None or bits_per_entry is None:
        plans = [budget.Plan(check_rank(rank, shape), pairs[0])]
    else:
        nbytes = bits_per_entry * shape[0] * shape[1] / 8
        plans = budget.feasible_plans(shape, nbytes, pairs, **scales)
        if method == "feedback" and len(pairs) > 1:
            return [{"rank": None, "nbytes": int(nbytes)}]  # a width for each component
    return [
        {
            "rank": plan.rank,
            "quantizers": [book.name for book in plan.books],
            "bits": [book.bits for book in plan.books],
            "nbytes": budget.factor_nbytes(
                shape, plan.rank, plan.books, scales["once"] + scales["per_rank"] * plan.rank
            ),
        }
        for plan in plans
    ]


def _of_caldera(
    shape: tuple[int, int],
    rank: int = 64,
    q_bits: float = 2,
    quantizer: str | None = None,
    factor_bits: Any = 4,
    mode: str = "default",
    **_: Any,
) -> list[dict[str, Any]]:
    from lplr.algorithms.caldera import codebooks
    from lplr.planning.budget import factor_nbytes
    from lplr.validation import check_rank

    n, d = shape
    rank = check_rank(rank, shape, low=0)
    q_book, books = codebooks(q_bits, quantizer, factor_bits, mode)
    nbytes = (q_book.nbytes(d, n) if mode == "faithful" else q_book.nbytes(n, d)) + 4 + 16
    nbytes += factor_nbytes(shape, rank, books, 1 + rank) if rank else 0
    return [
        {
            "rank": rank,
            "quantizers": [book.name for book in (q_book, *books)],
            "bits": [book.bits for book in (q_book, *books)],
            "nbytes": nbytes,
        }
    ]


_SIZES: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "quantize": _of_quantize,
    "factorize": _of_factorize,
    "caldera": _of_caldera,
}
