"""Embeddings in few bits: rows that are looked up one by one, and multiplied as they are."""

from __future__ import annotations

import numpy as np

from lplr.algorithms.quantize import quantize
from lplr.matrices.quantized import Quantized

__all__ = ["quantize_rows"]


def quantize_rows(E: np.ndarray, bits: int) -> Quantized:
    """Rows with a scale and an offset each."""
    return quantize(E, bits=bits, granularity="row", scaling="mse" if bits < 8 else "minmax")
