"""What a transformer takes as data: arrays, sparse matrices, operators, and rows in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from lplr.exceptions import InputError
from lplr.linalg.input_operators import as_matrix, kept_dtype
from lplr.parallel import matmul
from lplr.sources import Source, is_source, loaded
from lplr.streaming.limits import streamed_source
from lplr.validation.matrices import check_block, is_operator, is_sparse

__all__ = ["DTYPES", "checked_data", "projected", "refusing"]

DTYPES = [np.float64, np.float32]
_BLOCK = 1 << 22  # bytes of a source that are projected at a time


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Inside, what scikit-learn refuses is an InputError that names the argument."""
    try:
        yield
    except InputError:
        raise
    except (OverflowError, ValueError) as error:
        raise InputError(f"{name}: {error}") from None


def checked_data(model: Any, X: Any, memory_limit: int | str | None, *, reset: bool) -> Any:
    """X as scikit-learn checks it: an array, CSR or CSC; operators and large sources too."""
    if is_source(X):
        streamed = streamed_source(X, memory_limit, name="X")
        X = loaded(X, "X") if streamed is None else streamed[0]
    if not (is_operator(X) or isinstance(X, Source)):
        sparse = is_sparse(X)  # whose entries `as_matrix` checks
        with refusing("X"):
            X = validate_data(
                model, X, reset=reset, dtype=DTYPES, accept_sparse=["csr", "csc"],
                ensure_all_finite=not sparse,
            )  # fmt: skip
        return as_matrix(X, "X", dtype=X.dtype) if sparse else X
    if not isinstance(X, Source):
        X = as_matrix(X, "X", dtype=kept_dtype(X))
    if reset:
        model.n_features_in_ = X.shape[1]
        model.__dict__.pop("feature_names_in_", None)
    elif X.shape[1] != model.n_features_in_:
        raise InputError(
            f"X: must have n_features_in_={model.n_features_in_} columns, found {X.shape[1]}"
        )
    return X


def projected(X: Source, components: np.ndarray) -> np.ndarray:
    """X components^T, a block of rows at a time."""
    (n, d), V = X.shape, components.T.astype(X.row_dtype, copy=False)
    out = np.empty((n, V.shape[1]), V.dtype)
    step = max(1, _BLOCK // (d * V.itemsize))
    for start in range(0, n, step):
        rows = X.rows(start, min(start + step, n))
        check_block(rows, X.name, start)
        matmul(rows, V, out=out[start : start + step])
    return out
