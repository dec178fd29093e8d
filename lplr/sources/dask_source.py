"""Arrays of dask, computed a row of chunks at a time here, or by the workers of a cluster."""

from __future__ import annotations

from typing import Any

from lplr.sources.base import Source
from lplr.sources.chunks import by_chunks

__all__ = ["DaskSource"]


class DaskSource(Source):
    """An array of dask, whose chunks may have any sizes that are known.

    Examples
    --------
    >>> import dask.array
    >>> from lplr.sources import open_source
    >>> open_source(dask.array.eye(3, chunks=2), "A").rows(1, 2)
    array([[0., 1., 0.]])
    """

    def __init__(self, array: Any, name: str) -> None:
        super().__init__(by_chunks(array, name), name)
        self.array = array

    def piece(self, start: int, stop: int) -> Any:
        """Rows that a worker is to compute: an object of dask that stands for an ndarray."""
        rows = self.array[start:stop].rechunk((stop - start, self.shape[1]))
        return rows.to_delayed().item()
