"""Passes over the rows of a source, in tiles that depend on its shape alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from lplr.exceptions import InputError
from lplr.parallel import n_threads, run_blocks
from lplr.progress import parts
from lplr.quantizers.trellis_codebook import segment_length
from lplr.sources import Source
from lplr.streaming.fingerprint import fingerprint
from lplr.validation import check_block, check_magnitude

__all__ = ["Passes", "tile_rows"]

_ROWS = 2048  # of a tile, about
_WAITING = 2  # tiles for each thread that are read together

_Result = TypeVar("_Result")


def tile_rows(n: int) -> int:
    """Rows of the tiles of a matrix of n rows: whole segments of trellis codes.

    >>> tile_rows(100), tile_rows(4_000_000)
    (2048, 1632)
    """
    segment = segment_length(n)
    return segment * max(1, _ROWS // segment)


class Passes:
    """Reads a source tile by tile, as often as asked, and sees to it that it stays the same.

    Parameters
    ----------
    source : Source
    room : int
        Bytes that tiles, and what is made of them, may take at a time.
    tile_nbytes : int
        What a tile and all that is made of it takes.
    """

    def __init__(self, source: Source, room: int, tile_nbytes: int) -> None:
        self.source, self.shape = source, source.shape
        self.tile = tile_rows(self.shape[0])
        wanted = max(_WAITING * n_threads(), -(-source.chunk_rows // self.tile))
        self._at_once = max(1, min(wanted, room // tile_nbytes))
        self._fingerprints: dict[int, int] = {}

    def each(
        self,
        work: Callable[[int, np.ndarray], _Result],
        take: Callable[[_Result], None],
        what: str,
    ) -> None:
        """Call ``take(work(start, X))`` for each tile X, float32, whose first row is ``start``.

        The work is done in threads; its results are taken one by one, in the order of the tiles.
        InputError says that rows are not what an earlier pass read.
        """
        n = self.shape[0]
        step = self._at_once * self.tile
        for first in parts(range(0, n, step), what=what):
            block = self.source.rows(first, min(first + step, n))
            starts = range(0, len(block), self.tile)
            results: list[_Result | None] = [None] * len(starts)

            def tile(i: int, _: int, block: np.ndarray = block, first: int = first) -> None:
                X = block[starts[i] : starts[i] + self.tile]  # noqa: B023
                start = first + starts[i]  # noqa: B023
                self._compare(start, X)
                with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                    single = X.astype(np.float32, copy=False)
                try:
                    results[i] = work(start, single)  # noqa: B023
                except InputError:  # float64 that float32 cannot hold is told as it is
                    check_magnitude(check_block(X, self.source.name, start), self.source.name)
                    raise

            run_blocks(tile, len(starts), 1)
            for result in results:
                take(result)  # type: ignore[arg-type]

    def _compare(self, start: int, X: np.ndarray) -> None:
        """Refuse a tile that is not what an earlier pass read."""
        found = fingerprint(X)
        if self._fingerprints.setdefault(start, found) != found:
            raise InputError(
                f"{self.source.name}: rows {start} to {start + len(X)} changed while they were "
                "used: a second pass reads other values than the first; start again when nothing "
                "writes to the data"
            )
