"""The error that a result states of itself: measured, where coding it does not tell enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.linalg.operators import InputOperator
from lplr.matrices.base import PackedMatrix
from lplr.validation import is_sparse

__all__ = ["stated_error"]

# Relative error from which on coding tells it to 1e-6. Residuals are float32, where rounding leaves
# up to 1e-5 of a smaller one; products with a sparse matrix are off by 1e-7 of its squared norm.
_TELLING, _OF_PRODUCTS = 0.03, 0.3

_Weights = tuple[np.ndarray | None, np.ndarray | None]


def stated_error(
    f: PackedMatrix, A: Any, error: float, weights: Callable[[], _Weights] = lambda: (None, None)
) -> float:
    """``error``, as coding found it; a small one is that of what f decodes to, in float64.

    ``weights`` makes the second moments H and G of the error, where they are needed.
    """
    telling = _OF_PRODUCTS if is_sparse(A) or isinstance(A, InputOperator) else _TELLING
    return error if error >= telling else f.relative_error(A, *weights())
