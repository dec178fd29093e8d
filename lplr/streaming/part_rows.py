"""How many rows the parts of a result have: it follows from its shape and size alone.

All parts but the last have as many, a power of two, so that tiles, segments of trellis codes and
blocks of rows that a backbone mixes are whole in each; the last one has the rest as well. A part
holds enough codes for what all parts repeat to be small beside them, and few enough to be written
from memory and to be worth repeating after a kill.
"""

from __future__ import annotations

from itertools import pairwise

__all__ = ["part_rows", "part_slices"]

_NBYTES = 1 << 25  # of the codes of a part, at most; of the last one twice as many
_ENTRIES = 1 << 27  # of the matrix, at most
_LEAST = 4096  # rows, from which on they are mixed in blocks


def part_rows(shape: tuple[int, int], nbytes: float) -> int:
    """Rows of a part of a matrix of some shape that takes ``nbytes``.

    >>> part_rows((4_000_000, 256), 128e6), part_rows((60_000, 784), 6e6)
    (524288, 60000)
    """
    n, d = shape
    rows = _LEAST
    while 2 * rows * nbytes <= _NBYTES * n and 2 * rows * d <= _ENTRIES:
        rows *= 2
    return min(rows, n)


def part_slices(n: int, rows: int) -> list[slice]:
    """The rows of each part: as many, and in the last one what is left.

    >>> part_slices(10, 4)
    [slice(0, 4, None), slice(4, 10, None)]
    """
    edges = [i * rows for i in range(max(1, n // rows))] + [n]
    return [slice(start, stop) for start, stop in pairwise(edges)]
