"""Rows whose reading is the work that `lplr.progress` counts."""

from __future__ import annotations

import numpy as np

from lplr.matrices.rows import RowReader
from lplr.progress import counter

__all__ = ["counted"]


def counted(rows: RowReader) -> RowReader:
    """The same rows; once all have been read, the present part of the work is done."""
    count = counter(rows.shape[0])

    def read(start: int, stop: int) -> np.ndarray:
        block = rows.read(start, stop)
        count(stop - start)
        return block

    return RowReader(rows.shape, read, rows.block)
