"""Arrays in chunks (h5py, zarr, dask): each chunk is decoded, or computed, once in a pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.inputs.forward import Forward
from lplr.validation.matrices import as_array

__all__ = ["by_chunks"]

_PIECE = 1 << 24  # bytes read together, at least one row of chunks
_MOST = 1 << 28  # bytes of a row of chunks that are kept


def by_chunks(A: Any, name: str) -> Any:
    """The rows of an array that has ``chunks``, read by whole chunks; any other object itself.

    The chunks of dask arrays may have any heights. Where a row of stored chunks takes more than
    256 MB, blocks of rows are read directly, which decodes a chunk for each of them.

    Raises
    ------
    InputError
        If chunks of a dask array have no known heights.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.sources.chunks import by_chunks
    >>> by_chunks(np.eye(3), "A")[1:2]
    array([[0., 1., 0.]])
    """
    chunks = getattr(A, "chunks", None)
    if not isinstance(chunks, tuple) or len(chunks) != 2 or 0 in A.shape:
        return A
    row_nbytes = A.shape[1] * np.dtype(A.dtype).itemsize
    if isinstance(chunks[0], tuple):  # of dask: the height of each
        if not all(isinstance(size, (int, np.integer)) for axis in chunks for size in axis):
            raise InputError(
                f"{name}: has chunks of unknown size; call {name}.compute_chunk_sizes() first"
            )
        edges = np.cumsum([0, *chunks[0]])
    else:
        height = int(chunks[0])
        if height * row_nbytes > _MOST:
            return A
        edges = np.append(np.arange(0, A.shape[0], height), A.shape[0])
    # Small chunks are read together.
    together = max(1, _PIECE // row_nbytes)
    kept = [0]
    for edge, following in zip(edges[1:], [*edges[2:], np.inf], strict=True):
        if following - kept[-1] > together:
            kept.append(int(edge))

    def begin(row: int) -> tuple[int, Iterator[np.ndarray]]:
        i = int(np.searchsorted(kept, row, "right")) - 1
        return kept[i], pieces(i)

    def pieces(i: int) -> Iterator[np.ndarray]:
        for start, stop in zip(kept[i:-1], kept[i + 1 :], strict=True):
            rows = A[start:stop]
            # Dask makes of its own rows an ndarray that has lost its mask.
            rows = rows.compute() if hasattr(rows, "compute") else rows
            piece = as_array(rows, f"{name}: rows {start} to {stop}")
            if piece.shape != (stop - start, A.shape[1]):
                raise InputError(
                    f"{name}: the chunks of rows {start} to {stop} have the shape {piece.shape} "
                    f"where the array declares {(stop - start, A.shape[1])}; give it the right "
                    "chunks"
                )
            yield piece

    height = int(np.diff(kept).max())
    return Forward(A.shape, np.dtype(A.dtype), height, begin, (by_chunks, A, name))
