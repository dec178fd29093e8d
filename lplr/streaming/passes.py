"""Passes over the rows of a source, in tiles that depend on its shape alone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from lplr.cluster import map_on_workers, present_client, workers
from lplr.exceptions import InputError
from lplr.linalg.transforms import RandomizedTransform
from lplr.parallel import n_threads
from lplr.progress import parts
from lplr.quantizers.trellis_codebook import segment_length
from lplr.sources import DaskSource, Source
from lplr.streaming.fingerprint import fingerprint
from lplr.streaming.mixed_rows import MixedRows, needed_rows
from lplr.streaming.tiles import Done, MixedTiles, Tiles

__all__ = ["Passes", "tile_rows"]

_ROWS = 2048  # of a tile, about
_WAITING = 2  # tiles for each thread that are read together
_IN_A_TASK = 4  # tiles of a task, at most, unless its chunks have more

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
        self._room = room // tile_nbytes  # tiles
        self._fingerprints: dict[int, int] = {}
        self._machines = {socket.gethostname()}  # that read what this one does

    def each(
        self,
        work: Callable[[int, np.ndarray], _Result],
        take: Callable[[_Result], None],
        what: str,
    ) -> None:
        """Call ``take(work(start, X))`` for each tile X, float32, whose first row is ``start``.

        The work is done in threads, or by the workers of the client that `lplr.cluster.using`
        names, which get copies of ``work``; so it changes nothing. Its results are taken one by
        one, in the order of the tiles. InputError says that rows are not what an earlier pass read.
        """
        tiles = Tiles(self.source.name, self.tile, work)
        client = present_client()
        groups = self._groups(client)
        done: Iterator[Done]
        if client is None:
            rows = self.source.rows
            done = (tiles.of(i, rows(i, j), self._known(i, j)) for i, j in groups)
        else:
            done = self._by_workers(client, tiles, [(i, j) for i, j in groups])
        for first, _ in parts(groups, what=what):
            found, results = next(done)
            self._remember(first, found)
            for result in results:
                take(result)

    def each_mixed(
        self,
        V: RandomizedTransform | None,
        turn: Callable[[int, np.ndarray], np.ndarray],
        work: Callable[[int, np.ndarray], _Result],
        take: Callable[[_Result], None],
        what: str,
    ) -> None:
        """The same for the tiles of ``V B``, B being what ``turn(start, X)`` makes of tiles of A.

        V mixes blocks of rows. In this process one tile is worked on at a time.
        """
        client, n = present_client(), self.shape[0]
        if client is None:
            mixed = MixedRows(V, n, self.tile, lambda start, Z: take(work(start, Z)))
            self.each(turn, mixed.add, what)
            return
        groups = self._groups(client)
        read = []
        for i, j in groups:
            first, stop = (i, j) if V is None else needed_rows(V, i, j)
            read.append((first - first % self.tile, min(-(-stop // self.tile) * self.tile, n)))
        tiles = MixedTiles(self.source.name, self.tile, turn, V=V, code=work)
        done = self._by_workers(
            client, tiles, [(*a, *b) for a, b in zip(read, groups, strict=True)]
        )
        for first, _ in parts(read, what=what):
            found, results = next(done)
            self._remember(first, found)
            for result in results:
                take(result)

    def _groups(self, client: Any) -> list[tuple[int, int]]:
        """The rows of tiles that are read together."""
        n = self.shape[0]
        if client is None:
            wanted = _WAITING * n_threads()
        else:  # for every thread of the workers some tasks
            wanted = min(_IN_A_TASK, -(-n // (self.tile * _WAITING * workers(client))))
        wanted = max(wanted, -(-self.source.chunk_rows // self.tile))
        step = self.tile * max(1, min(wanted, self._room))
        return [(first, min(first + step, n)) for first in range(0, n, step)]

    def _known(self, first: int, stop: int) -> list[int | None]:
        """The fingerprints of an earlier pass."""
        return [self._fingerprints.get(start) for start in range(first, stop, self.tile)]

    def _remember(self, first: int, found: list[int]) -> None:
        for i, one in enumerate(found):
            self._fingerprints[first + i * self.tile] = one

    def _by_workers(
        self, client: Any, tiles: Tiles, groups: list[tuple[int, ...]]
    ) -> Iterator[Done]:
        """What is done of each group: workers read files themselves, and get all other rows."""
        source: Source = self.source
        rows: Callable[[int, int], Any] = source.rows
        if source.is_elsewhere:
            tiles, rows = replace(tiles, source=source), _nothing
        elif isinstance(source, DaskSource):
            rows = source.piece
        items = ((i, j, self._known(i, j), rows(i, j), *more) for i, j, *more in groups)
        results = map_on_workers(client, tiles.task, items)
        for (first, *_), (machine, done) in zip(groups, results, strict=True):
            if source.is_elsewhere and machine not in self._machines:
                X = source.rows(first, min(first + self.tile, self.shape[0]))
                if fingerprint(X) != done[0][0]:
                    raise InputError(
                        f"{source.name}: rows {first} to {first + len(X)} are others on {machine} "
                        "than here; all workers must see the same file, on a disk that they share"
                    )
                self._machines.add(machine)
            yield done


def _nothing(first: int, stop: int) -> None:
    """What is sent of rows that workers read."""
