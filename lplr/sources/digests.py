"""Whether data stay the same from one pass over them to the next."""

from __future__ import annotations

import zlib

import numpy as np

from lplr.exceptions import InputError

__all__ = ["Digests", "digest"]


def digest(block: np.ndarray) -> int:
    """A number that another block has by chance once in 2**32: its CRC-32.

    It takes less time than reading the block; zlib lets other threads run meanwhile.

    Parameters
    ----------
    block : ndarray, C-contiguous
        As `Source.rows` gives it.

    Returns
    -------
    int

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.sources import digest
    >>> digest(np.eye(2)) == digest(np.eye(2)), digest(np.eye(2)) == digest(np.zeros((2, 2)))
    (True, False)
    """
    return zlib.crc32(block.data.cast("B"))


class Digests:
    """The digests of a first pass over a source, which a later pass must find again.

    All passes must read the same blocks; they may do so in any order.

    Parameters
    ----------
    name : str
        What messages call the source.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.sources import Digests, digest
    >>> digests = Digests("A")
    >>> digests.compare(0, 2, digest(np.eye(2)))
    >>> digests.compare(0, 2, digest(np.zeros((2, 2))))
    Traceback (most recent call last):
        ...
    lplr.exceptions.InputError: A: rows 0 to 2 changed while ...
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: dict[tuple[int, int], int] = {}

    def compare(self, start: int, stop: int, found: int) -> None:
        """Keep the digest of a block, or compare it with the one that is kept.

        Parameters
        ----------
        start, stop : int
        found : int

        Raises
        ------
        InputError
            If it differs.
        """
        if self._first.setdefault((start, stop), found) != found:
            raise InputError(
                f"{self._name}: rows {start} to {stop} changed while they were used: a second pass "
                "reads other values than the first; start again when nothing writes to the data"
            )
