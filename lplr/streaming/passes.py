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
from lplr.streaming.part_rows import part_slices
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
    rows : int, optional
        Of a part of the result; by default there is one.
    advice : str
        What to do where the data change.

    Attributes
    ----------
    parts : list of slice
        The rows of each part of the result. Tiles begin anew in each of them.
    """

    def __init__(
        self,
        source: Source,
        room: int,
        tile_nbytes: int,
        rows: int | None = None,
        advice: str = "start again when nothing writes to the data",
    ) -> None:
        self.source, self.shape, self._advice = source, source.shape, advice
        self.parts = part_slices(self.shape[0], rows or self.shape[0])
        self._room = room // tile_nbytes  # tiles
        self._fingerprints: dict[int, int] = {}
        self._machines = {socket.gethostname()}  # that read what this one does

    def each(
        self,
        work: Callable[[int, np.ndarray], _Result],
        take: Callable[[_Result], None],
        what: str,
        part: slice | None = None,
    ) -> None:
        """Call ``take(work(start, X))`` for each tile X, float32, whose first row is ``start``.

        The work is done in threads, or by the workers of the client that `lplr.cluster.using`
        names, which get copies of ``work``; so it changes nothing. Its results are taken one by
        one, in the order of the tiles, of all parts or of one. InputError says that rows are not
        what an earlier pass read.
        """
        client = present_client()
        some = [part] if part else self.parts
        for one in parts(some, [of.stop - of.start for of in some], lambda _: what):
            tile, groups = self._groups(one, client)
            tiles = Tiles(self.source.name, tile, work, self._advice)
            done: Iterator[Done]
            if client is None:
                rows = self.source.rows
                done = (tiles.of(i, rows(i, j), self._known(i, j, tile)) for i, j in groups)
            else:
                done = self._by_workers(client, tiles, [(i, j) for i, j in groups])
            for first, _ in parts(groups, what=what):
                found, results = next(done)
                self._remember(first, found, tile)
                for result in results:
                    take(result)

    def each_mixed(
        self,
        V: RandomizedTransform | None,
        turn: Callable[[int, np.ndarray], np.ndarray],
        work: Callable[[int, np.ndarray], _Result],
        take: Callable[[_Result], None],
        what: str,
        part: slice,
    ) -> None:
        """The same for the tiles of ``V B``, B being what ``turn(start, X)`` makes of tiles of A.

        V mixes blocks of rows of a part, in which ``work`` gets the first row of each tile. In this
        process one tile is worked on at a time.
        """
        client, n = present_client(), part.stop - part.start
        tile, groups = self._groups(part, client)
        if client is None:
            mixed = MixedRows(V, n, tile, lambda start, Z: take(work(start, Z)))
            self.each(turn, mixed.add, what, part)
            return
        inside = [(i - part.start, j - part.start) for i, j in groups]
        read = []
        for i, j in inside:
            first, stop = (i, j) if V is None else needed_rows(V, i, j)
            first, stop = first - first % tile, min(-(-stop // tile) * tile, n)
            read.append((part.start + first, part.start + stop))
        tiles = MixedTiles(
            self.source.name, tile, turn, self._advice, V=V, code=work, offset=part.start
        )
        done = self._by_workers(
            client, tiles, [(*a, *b) for a, b in zip(read, inside, strict=True)]
        )
        for first, _ in parts(read, what=what):
            found, results = next(done)
            self._remember(first, found, tile)
            for result in results:
                take(result)

    def _groups(self, part: slice, client: Any) -> tuple[int, list[tuple[int, int]]]:
        """Rows of a tile of a part, and the rows of tiles that are read together."""
        n = part.stop - part.start
        tile = tile_rows(n)
        if client is None:
            wanted = _WAITING * n_threads()
        else:  # for every thread of the workers some tasks
            wanted = min(_IN_A_TASK, -(-n // (tile * _WAITING * workers(client))))
        wanted = max(wanted, -(-self.source.chunk_rows // tile))
        step = tile * max(1, min(wanted, self._room))
        starts = range(part.start, part.stop, step)
        return tile, [(first, min(first + step, part.stop)) for first in starts]

    def _known(self, first: int, stop: int, tile: int) -> list[int | None]:
        """The fingerprints of an earlier pass."""
        return [self._fingerprints.get(start) for start in range(first, stop, tile)]

    def _remember(self, first: int, found: list[int], tile: int) -> None:
        for i, one in enumerate(found):
            self._fingerprints[first + i * tile] = one

    @property
    def fingerprints(self) -> np.ndarray:
        """The first row and the fingerprint of each tile that a pass has read, uint64."""
        return np.array(sorted(self._fingerprints.items()), np.uint64)

    def expect(self, fingerprints: np.ndarray) -> None:
        """Take these for what an earlier pass read, and compare the first tile of each part."""
        self._fingerprints = {int(start): int(found) for start, found in fingerprints}
        for part in self.parts:
            tile = tile_rows(part.stop - part.start)
            first, stop = part.start, min(part.start + tile, part.stop)
            tiles = Tiles(self.source.name, tile, lambda start, X: None, self._advice)
            tiles.of(first, self.source.rows(first, stop), self._known(first, stop, tile))

    def _by_workers(
        self, client: Any, tiles: Tiles, groups: list[tuple[int, ...]]
    ) -> Iterator[Done]:
        """What is done of each group: workers read files themselves, and get all other rows."""
        source: Source = self.source
        rows: Callable[[int, int], Any] = source.rows
        tile, most = tiles.tile, None
        if source.is_elsewhere:
            tiles, rows = replace(tiles, source=source), _nothing
        elif isinstance(source, DaskSource):
            rows = source.piece
        else:  # so many rows are on their way as may be here
            most = max(1, self._room * tile // (groups[0][1] - groups[0][0]))
        items = ((i, j, self._known(i, j, tile), rows(i, j), *more) for i, j, *more in groups)
        results = map_on_workers(client, tiles.task, items, most)
        for (first, *_), (machine, done) in zip(groups, results, strict=True):
            if source.is_elsewhere and machine not in self._machines:
                X = source.rows(first, min(first + tile, groups[-1][1]))
                if fingerprint(X) != done[0][0]:
                    raise InputError(
                        f"{source.name}: rows {first} to {first + len(X)} are others on {machine} "
                        "than here; all workers must see the same file, on a disk that they share"
                    )
                self._machines.add(machine)
            yield done


def _nothing(first: int, stop: int) -> None:
    """What is sent of rows that workers read."""
