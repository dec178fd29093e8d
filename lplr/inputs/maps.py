"""Arrays that are mapped from files."""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np

__all__ = ["mapped"]


def mapped(
    file: Any, dtype: Any, offset: int, shape: tuple[int, ...], order: Any = "C"
) -> np.memmap:
    """The array at some place of a file, read-only; MemoryError if there is no room to map it."""
    try:
        return np.memmap(file, dtype, "r", offset, shape, order)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        name = os.fspath(getattr(file, "name", file))
        raise MemoryError(f"{name}: no room to map an array of shape {shape}") from None
