"""How a backbone spends its bytes under weights on both sides, and what it then loses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from lplr.coding.backbone import RowBlock
from lplr.planning.column_rates import ColumnRates
from lplr.planning.curves import Curve
from lplr.planning.row_weights import RowWeights
from lplr.planning.sizes import backbone_nbytes
from lplr.quantizers.base import Codebook

__all__ = ["BackboneRates"]

_BITS = np.geomspace(0.1, 8.0, 18)  # per entry, at which a row is looked at
_FINE = 400  # points between them


class BackboneRates:
    """Rates of blocks of rows and of groups of columns in them.

    ``books`` begin with that of columns left out and go on with those of
    `lplr.planning.codebooks.codebooks_by_size`.
    """

    def __init__(self, columns: ColumnRates, rows: RowWeights, books: Sequence[Codebook]) -> None:
        self.columns, self.rows, self.books = columns, rows, books

    def curve(self, sizes: np.ndarray) -> Curve:
        """Loss ``tr(G E H E^T)`` over bytes, for W of unit mean square.

        Sizes at which even the coarsest code does not fit are dropped; the others rise.
        """
        rows = self.rows.edges[-1]
        fit = sizes[sizes >= self.books[0].nbytes(rows, self.columns.weights.d) + self._scales]
        if len(fit) and len(self.rows.sizes) == 1:
            choices = [self.columns.groups(rows, self.books, float(size)) for size in fit]
            found = self.columns.losses(choices)
            return Curve(fit, np.array([self.rows.loss(*each.reshape(2, 1)) for each in found]))
        return Curve(fit, np.array([self._predicted(float(size)) for size in fit], np.float64))

    def blocks(self, nbytes: float) -> tuple[RowBlock, ...]:
        """The blocks of rows of least predicted loss that fit; BudgetError if none does."""
        ends = list(pairwise(self.rows.edges))
        found: list[RowBlock] = []
        rest = 0.0
        for (i, j), size in zip(ends[::-1], self._divided(nbytes)[::-1], strict=True):
            groups = tuple(self.columns.groups(j - i, self.books, size + rest))
            rest += size - backbone_nbytes(groups, j - i)
            found.insert(0, RowBlock(i, j, groups))
        return tuple(found)

    @property
    def _scales(self) -> float:
        """Bytes of one scale for each block, if blocks share them by their rows."""
        return 4.0 * self.rows.edges[-1] / self.rows.sizes.min()

    @cached_property
    def _menu(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bytes of a row, rising, with its loss and the mean square of its errors."""
        rows, d = round(float(self.rows.sizes.mean())), self.columns.weights.d
        points = [4.0, *np.maximum(_BITS * rows * d / 8, 4.0)]
        groups = [self.columns.groups(rows, self.books, size) for size in points]
        used = np.array([backbone_nbytes(each, rows) for each in groups]) / rows
        losses, squares = self.columns.losses(groups).T
        used[0] = self._scales / self.rows.edges[-1]
        keep = np.flatnonzero(np.diff(np.maximum.accumulate(used), prepend=-1) > 0)
        fine = np.interp(np.linspace(0, len(keep) - 1, _FINE), np.arange(len(keep)), used[keep])
        loss, square = (
            np.exp(np.interp(fine, used[keep], np.log(np.minimum.accumulate(x)[keep])))
            for x in (losses, squares / d)
        )
        return fine, loss, square

    def _divided(self, nbytes: float) -> np.ndarray:
        """Bytes of each block: where all have the same exchange rate between loss and bytes."""
        if len(self.rows.sizes) == 1:
            return np.array([nbytes])
        bytes_of_row, loss, _ = self._menu
        weighted = self.rows.for_rates[:, None] * loss

        def at(price: float) -> np.ndarray:
            chosen = np.argmin(weighted + np.exp(price) * bytes_of_row, axis=1)
            return self.rows.sizes * bytes_of_row[chosen]

        low, high = -80.0, 40.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if at(middle).sum() <= nbytes else (middle, high)
        fits, more = at(high), at(low)
        share = (nbytes - fits.sum()) / max(float((more - fits).sum()), 1e-9)
        return fits + min(max(share, 0.0), 1.0) * (more - fits)

    def _predicted(self, nbytes: float) -> float:
        bytes_of_row, loss, square = self._menu
        each = self._divided(nbytes) / self.rows.sizes
        return self.rows.loss(
            *(np.exp(np.interp(each, bytes_of_row, np.log(x))) for x in (loss, square))
        )
