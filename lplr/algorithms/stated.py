"""Whether the error that a result states of itself is what coding found, or has to be measured."""

from __future__ import annotations

from typing import Any

from lplr.linalg.operators import InputOperator
from lplr.matrices.base import PackedMatrix
from lplr.validation.matrices import is_sparse

__all__ = ["is_precise"]

# Relative error from which on coding tells it to 1e-6. Residuals are float32, where rounding leaves
# up to 1e-5 of a smaller one; products with a sparse matrix are off by 1e-7 of its squared norm.
_TELLING, _OF_PRODUCTS = 0.03, 0.3
_FEW = 1 << 12  # entries up to which rounding of single ones does not average out


def is_precise(f: PackedMatrix, A: Any, error: float) -> bool:
    """Whether a relative error that coding found is right to 1e-6; else it has to be measured."""
    telling = _OF_PRODUCTS if is_sparse(A) or isinstance(A, InputOperator) else _TELLING
    return error >= telling and f.shape[0] * f.shape[1] > _FEW
