"""Sizes in bytes: of what is stored, and of a budget of bits per entry."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lplr.coding.backbone import ColumnGroup, RowBlock
from lplr.coding.blocks import ComponentBlock
from lplr.coding.factor import CodebookPair
from lplr.coding.row_feedback import packed_blocks
from lplr.exceptions import BudgetError
from lplr.quantizers.base import Codebook, get_codebook

__all__ = [
    "BLOCK_SCALES",
    "StoredScales",
    "backbone_nbytes",
    "blocks_nbytes",
    "budget_error",
    "budget_nbytes",
    "factor_nbytes",
    "has_row_blocks",
    "largest_fit",
    "largest_rank",
    "least_nbytes",
    "rounding_nbytes",
    "row_blocks_nbytes",
    "transforms_nbytes",
]

_FLOAT32 = 4  # bytes of a scale or an offset
_TALL = 4096  # rows from which on they are mixed in blocks


@dataclass(frozen=True)
class StoredScales:
    """How many float32 numbers two factors have beside their codes: per component, and once."""

    per_rank: int
    once: int

    def nbytes(self, rank: int) -> int:
        """Bytes beside the codes of a rank."""
        return _FLOAT32 * (self.per_rank * rank + self.once)


BLOCK_SCALES = StoredScales(per_rank=1, once=1)  # of factors that are coded by feedback


def has_row_blocks(rows: int) -> bool:
    """Whether a matrix of so many rows is rotated in blocks of rows."""
    return rows >= _TALL


def transforms_nbytes(rows: int) -> int:
    """Bytes of the seeds of two randomized transforms, and of the size of blocks of rows."""
    return 24 if has_row_blocks(rows) else 16


def budget_nbytes(bits_per_entry: float, shape: tuple[int, int]) -> float:
    """Bytes of a budget; whole where they are but for the rounding of ``8 * nbytes / entries``.

    So a size in bytes that was told as bits per entry buys just that size:

    >>> bits = 8 * 13 / 90
    >>> bits * 90 / 8, budget_nbytes(bits, (3, 30))
    (12.999999999999998, 13.0)
    """
    nbytes = bits_per_entry * shape[0] * shape[1] / 8
    whole = float(round(nbytes))
    return whole if abs(nbytes - whole) <= 1e-12 * whole else nbytes


def budget_error(shape: tuple[int, int], least: float, what: str = "nothing fits") -> BudgetError:
    """The refusal of a budget that names the smallest one that works."""
    enough = 1.001 * 8 * least / (shape[0] * shape[1])  # still enough with four digits
    return BudgetError(f"bits_per_entry: {what} at shape {shape}; use at least {enough:.4g}")


def factor_nbytes(
    shape: tuple[int, int],
    rank: int,
    books: CodebookPair,
    scales: StoredScales,
    *,
    in_blocks: bool = False,
) -> int:
    """Bytes of two packed factors; codes run down the columns of L and along the rows of R.

    ``in_blocks``: the rows of L are coded with feedback between them.
    """
    left, right = books
    rows = [b.stop - b.start for b in packed_blocks(left, shape[0])] if in_blocks else [shape[0]]
    codes = sum(left.nbytes(each, rank) for each in rows) + right.nbytes(shape[1], rank)
    return codes + scales.nbytes(rank) + _FLOAT32 * (len(rows) - 1)


def largest_fit(sizes: range, nbytes: Callable[[int], int], budget: float) -> int:
    """The last of some sizes that takes at most ``budget`` bytes, which grow with the size.

    The result is ``sizes.start - 1`` where not even the first size fits.
    """
    return sizes.start - 1 + bisect_right(sizes, budget, key=nbytes)


def largest_rank(
    shape: tuple[int, int], nbytes: float, books: CodebookPair, scales: StoredScales
) -> int:
    """The largest rank whose factors fit into ``nbytes``, at most min(shape); 0 if none does."""
    ranks = range(1, min(shape) + 1)
    return largest_fit(ranks, lambda rank: factor_nbytes(shape, rank, books, scales), nbytes)


def blocks_nbytes(
    blocks: Sequence[ComponentBlock], shape: tuple[int, int], *, in_blocks: bool = False
) -> int:
    """Bytes of factors in blocks of components, scales included."""
    return sum(
        factor_nbytes(shape, b.stop - b.start, b.books, BLOCK_SCALES, in_blocks=in_blocks)
        for b in blocks
    )


def backbone_nbytes(groups: Sequence[ColumnGroup], rows: int) -> int:
    """Bytes of a backbone in groups of columns, one scale for each group."""
    return sum(g.book.nbytes(rows, g.stop - g.start) + _FLOAT32 for g in groups)


def row_blocks_nbytes(blocks: Sequence[RowBlock]) -> int:
    """Bytes of a backbone in blocks of rows."""
    return sum(backbone_nbytes(b.groups, b.stop - b.start) for b in blocks)


def rounding_nbytes(shape: tuple[int, int], book: Codebook, granularity: str) -> int:
    """Bytes of a rounded matrix: codes, and a scale and an offset for all, a row or a column."""
    n, d = shape
    scales = {"tensor": 1, "row": n, "column": d}[granularity]
    return book.nbytes(d, n) + 2 * _FLOAT32 * scales


def least_nbytes(shape: tuple[int, int]) -> int:
    """The least bytes that a matrix of a shape takes: rank 1, or all columns, at one bit."""
    n, d = shape
    book = get_codebook("lloyd-max", 1)
    return min(
        factor_nbytes(shape, 1, (book, book), BLOCK_SCALES),
        backbone_nbytes([ColumnGroup(0, d, book)], n),
    )
