"""What a computation in passes takes, before it begins: the room for tiles, or a refusal."""

from __future__ import annotations

from lplr.exceptions import InputError
from lplr.sources import Source
from lplr.streaming.limits import in_words
from lplr.streaming.moments import sample_rows
from lplr.streaming.part_rows import part_slices
from lplr.streaming.passes import Passes, tile_rows
from lplr.streaming.results import Results

__all__ = ["open_passes"]

# Bytes, counted from the arrays that are there at the same time, and rounded up.
_OF_GRAM = 56  # for each entry of a Gram matrix: its sum, vectors, and the workspace of LAPACK
_OF_SAMPLE = 48  # for each entry of the sample: the stand-in, what it comes from, and its factors
_OF_ENTRY = 20  # for each entry of a tile: as read, in float32 and in float64
_OF_COMPONENT = 40  # for each entry of L in a tile: targets, errors and codes
_OF_TRIAL = 32  # for each entry of the sample, where whole plans are tried on the stand-in
_OF_MIXED = 16  # for each entry of a tile, and of a block of rows, where rows are mixed
_MIXED = 2048  # rows of the largest of these blocks
_OF_SIGN = 3  # for each row: the signs of the transform that mixes them
_CHUNKS = 2  # of a source that decodes them as a whole: the one that is kept, and the next one
_OF_ALLOCATOR = 1 << 22  # what the C library keeps, of each thread, of what was freed
_OF_LIBRARY = 1 << 22  # what decodes chunks: those of HDF5 lie in a cache of 1 MB, as stored beside


def open_passes(
    source: Source,
    limit: int,
    *,
    rank: int,
    stored: float,
    results: Results | None = None,
    with_gram: bool = True,
    mixed: bool = False,
    of_row: int = 0,
) -> Passes:
    """Passes over a source that keep within ``limit`` bytes.

    ``rank`` is the most components there will be, ``stored`` the bytes of the result, which grows
    in memory or is kept in parts by ``results``, and ``of_row`` the bytes that are there beside it
    for each of its rows; rows are ``mixed`` for a backbone. InputError names the least limit that
    works.
    """
    n, d = source.shape
    results = results or Results()
    rows = results.rows(source.shape, stored)
    held = results.held(source.shape, stored)
    fixed = held + _OF_ALLOCATOR
    if source.chunk_rows > 1:
        chunk = min(source.chunk_rows, n) * d * source.dtype.itemsize
        fixed += _CHUNKS * chunk + _OF_LIBRARY
    lengths = [part.stop - part.start for part in part_slices(n, rows)]
    fixed += of_row * max(lengths)
    tile = min(max(map(tile_rows, lengths)), n)
    sums = 8 * (d * d * with_gram + rank * rank + rank * d)
    fixed += _OF_SAMPLE * len(sample_rows(source.shape)) * (d if with_gram else rank)
    fixed += _OF_GRAM * (d * d * with_gram + rank * rank)
    if mixed:
        fixed += _OF_TRIAL * len(sample_rows(source.shape)) * d + _OF_SIGN * n
        fixed += _OF_MIXED * (tile + _MIXED) * d
    tile_nbytes = tile * (_OF_ENTRY * d + _OF_COMPONENT * rank) + sums
    least = fixed + tile_nbytes
    if limit < least:
        raise InputError(
            f"memory_limit: {limit:,} bytes are too few for {n:,} x {d} with {rank} components, of "
            f"which {held:,} bytes are held; use at least {in_words(least)}"
        )
    return Passes(source, limit - fixed, tile_nbytes, rows, results.advice)
