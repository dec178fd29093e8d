"""The work on neighbouring tiles, in threads of this process or as a task of a cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.transforms import RandomizedTransform
from lplr.parallel import run_blocks
from lplr.sources import Source, open_source
from lplr.streaming.fingerprint import fingerprint
from lplr.streaming.mixed_rows import mixed_range
from lplr.validation.matrices import check_block, check_magnitude

__all__ = ["Done", "MixedTiles", "Tiles"]

Done = tuple[list[int], list[Any]]  # the fingerprints of tiles that were read, and the results


@dataclass(frozen=True)
class Tiles:
    """``work(start, X)`` on the tiles of some rows, float32, whose first row is ``start``.

    The ``source`` is there if a task reads it where it is done.
    """

    name: str
    tile: int
    work: Callable[[int, np.ndarray], Any]
    advice: str
    source: Source | None = None

    def of(self, first: int, block: np.ndarray, known: Sequence[int | None]) -> Done:
        """The tiles of the rows from ``first`` on.

        InputError says that one has not the fingerprint that is ``known``.
        """
        found, results = [0] * len(known), [None] * len(known)

        def one(i: int, _: int) -> None:
            X = block[i * self.tile : (i + 1) * self.tile]
            start = first + i * self.tile
            found[i] = fingerprint(X)
            if known[i] not in (None, found[i]):
                raise InputError(
                    f"{self.name}: rows {start} to {start + len(X)} changed while they were used: "
                    f"a second pass reads other values than the first; {self.advice}"
                )
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                single = X.astype(np.float32, copy=False)
            try:
                results[i] = self.work(start, single)
            except InputError:  # float64 that float32 cannot hold is told as it is
                check_magnitude(check_block(X, self.name, start), self.name)
                raise

        run_blocks(one, len(known), 1)
        return found, results

    def task(
        self, first: int, stop: int, known: Sequence[int | None], rows: np.ndarray | None
    ) -> tuple[str, Done]:
        """What a worker does, with rows that were sent to it or that it reads: on what machine."""
        if rows is None:
            assert self.source is not None
            block = self.source.rows(first, stop)
        else:
            block = open_source(rows, self.name).rows(0, len(rows))
        if len(block) != stop - first:
            raise InputError(
                f"{self.name}: the chunks of rows {first} to {stop} have {len(block)} rows; give "
                "the array the right chunks"
            )
        return socket.gethostname(), self.of(first, block, known)


@dataclass(frozen=True)
class MixedTiles(Tiles):
    """``code(start, Z)`` on tiles of the rows of ``V A``, once ``work`` was done on those of A.

    Rows of V A are counted from the row ``offset`` of A on, where a part begins.
    """

    V: RandomizedTransform | None = None
    code: Callable[[int, np.ndarray], Any] | None = None
    offset: int = 0

    def task(  # type: ignore[override]
        self,
        first: int,
        stop: int,
        known: Sequence[int | None],
        rows: np.ndarray | None,
        low: int,
        high: int,
    ) -> tuple[str, Done]:
        """For the rows ``low`` to ``high`` of V A, which those of A from ``first`` on make."""
        assert self.code is not None
        machine, (found, turned) = super().task(first, stop, known, rows)
        Z = mixed_range(self.V, np.concatenate(turned), first - self.offset, low, high)
        starts = range(low, high, self.tile)
        return machine, (found, [self.code(i, Z[i - low : i - low + self.tile]) for i in starts])
