"""The relative error of a result whose rows are read once more, where coding them did not tell."""

from __future__ import annotations

import numpy as np

from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ratio_of_norms, squared_sums_of_source
from lplr.sources import Source

__all__ = ["stated_error"]

# Relative error from which on what coding sums up tells it to 1e-6: residuals are float32, where
# rounding leaves up to 1e-5 of such an error.
_TELLING = 0.01
_FEW = 1 << 12  # entries up to which rounding of single ones does not average out
_ROWS = 256  # that a thread decodes at a time


def stated_error(
    f: PackedMatrix, source: Source, error: float, H: np.ndarray | None = None
) -> float:
    """``error``, as coding found it; below 0.01 that of what f decodes to, by one more pass."""
    if error >= _TELLING and f.shape[0] * f.shape[1] > _FEW:
        return error
    sums = squared_sums_of_source(source, f._row_reader_by_blocks(), _ROWS, H)
    return ratio_of_norms(*sums.sum(axis=1).tolist())
