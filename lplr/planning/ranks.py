"""Factors with one codebook each: which rank and which pair of codebooks a budget buys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lplr.coding.factor import CodebookPair
from lplr.planning.sizes import (
    BLOCK_SCALES,
    StoredScales,
    budget_error,
    factor_nbytes,
    largest_rank,
)

__all__ = ["CONSTANT_SCALES", "METHOD_SCALES", "RankPlan", "feasible_ranks"]

_ROUNDED_SCALES = StoredScales(per_rank=0, once=6)  # scale and offset of both, and a shift
METHOD_SCALES = {
    "feedback": BLOCK_SCALES,
    "lplr": _ROUNDED_SCALES,
    "lplr-svd": _ROUNDED_SCALES,
    "direct-svd": _ROUNDED_SCALES,
}
CONSTANT_SCALES = StoredScales(per_rank=1, once=3)  # of a constant matrix, whatever the method


@dataclass(frozen=True)
class RankPlan:
    """A rank and a codebook for each factor."""

    rank: int
    books: CodebookPair
    scales: StoredScales

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Bytes that will be stored, at most."""
        return factor_nbytes(shape, self.rank, self.books, self.scales)

    def describe(self, shape: tuple[int, int]) -> dict[str, Any]:
        """What a record says of the plan, JSON-able."""
        nbytes = self.nbytes(shape)
        return {
            "rank": self.rank,
            "quantizers": [book.name for book in self.books],
            "bits": [book.bits for book in self.books],
            "nbytes": nbytes,
            "bits_per_entry": 8 * nbytes / (shape[0] * shape[1]),
        }


def feasible_ranks(
    shape: tuple[int, int], nbytes: float, pairs: list[CodebookPair], scales: StoredScales
) -> list[RankPlan]:
    """For each pair of codebooks the largest rank that fits.

    If not even rank 1 fits, BudgetError names the smallest budget that works.
    """
    plans = [RankPlan(largest_rank(shape, nbytes, b, scales), b, scales) for b in pairs]
    plans = [plan for plan in plans if plan.rank > 0]
    if not plans:
        least = min(factor_nbytes(shape, 1, books, scales) for books in pairs)
        raise budget_error(shape, least, "too small for rank 1")
    return plans
