"""Vector quantization: rows cut into sub-vectors, each the index of a word of a codebook.

Here by scikit-learn's k-means; `lplr.evaluation.baselines.faiss` makes codebooks of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.evaluation.baselines.stored import (
    Baseline,
    Parts,
    half,
    index_width,
    largest_size,
    pack_indices,
    unpack_indices,
)
from lplr.exceptions import BudgetError
from lplr.matrices.errors import ReadRows

__all__ = ["cut", "kmeans_rows", "kmeans_subvectors", "subvector_plans", "vector_quantized"]

_SAMPLE = 1 << 15  # sub-vectors that a codebook is trained on
_BLOCK = 1 << 19  # sub-vectors labelled at a time


def vector_quantized(
    shape: tuple[int, int], indices: np.ndarray, centres: np.ndarray, meta: Mapping[str, Any]
) -> Baseline:
    """A matrix of codebook words.

    Parameters
    ----------
    shape : (n, d)
    indices : ndarray of shape (n, pieces)
        The last piece of a row is padded with zeros.
    centres : ndarray of shape (size, length) or (pieces, size, length)
        One codebook for all pieces, or one for each.
    meta : mapping
    """
    (n, d), pieces = shape, indices.shape[1]
    size, length = centres.shape[-2:]
    width, shared = index_width(size), centres.ndim == 2

    def decode(parts: Parts) -> ReadRows:
        codes = unpack_indices(parts["indices"], width, n * pieces).reshape(n, pieces)
        book = parts["codebook"].to_dense()
        first = 0 if shared else np.arange(pieces) * size

        def rows(start: int, stop: int) -> np.ndarray:
            vectors = book[codes[start:stop].astype(np.intp) + first]
            return np.ascontiguousarray(vectors.reshape(stop - start, -1)[:, :d])

        return rows

    parts = {
        "indices": pack_indices(indices, width),
        "codebook": half(centres.reshape(-1, length)),
    }
    return Baseline(shape, parts, decode, meta)


def cut(A: np.ndarray, length: int) -> np.ndarray:
    """ReadRows padded with zeros to a multiple of ``length``, of shape (n, pieces * length)."""
    return np.pad(A, ((0, 0), (0, -A.shape[1] % length)))


def subvector_plans(
    shape: tuple[int, int], budget: float, *, shared: bool
) -> list[tuple[int, int]]:
    """Two ways, as (width of an index, length of a piece), that use most of a budget.

    For each width from 1 to 8 bits, the shortest length that fits is looked at. There must be a
    training vector for each word of a codebook.

    Parameters
    ----------
    shape : (n, d)
    budget : float
        Bytes.
    shared : bool
        One codebook for all pieces of a row, or one for each.

    Raises
    ------
    BudgetError
        If nothing fits.
    """
    n, d = shape
    plans = []
    for width in range(1, 9):
        for length in range(1, d + 1):
            pieces = -(-d // length)
            book = 2 * 2**width * length * (1 if shared else pieces) + 4
            if -(-n * pieces * width // 8) + book <= budget:
                if n * (pieces if shared else 1) >= 2**width:
                    plans.append((pieces * width, width, length))
                break
    if not plans:
        raise BudgetError(f"bits_per_entry: no codebook and its indices fit {budget:.0f} bytes")
    return [(width, length) for _, width, length in sorted(plans)[-2:]]


def kmeans_rows(A: np.ndarray, budget: float, rng: int | None) -> Baseline:
    """`sklearn.cluster.MiniBatchKMeans` over rows: float16 centres, and a label for each row."""
    from sklearn.cluster import MiniBatchKMeans

    n, d = A.shape

    def nbytes(k: int) -> int:
        return -(-n * index_width(k) // 8) + 2 * d * k + 4

    count = largest_size(n, nbytes, budget, least=2, what="a codebook of two rows")
    model = MiniBatchKMeans(
        count,
        init="random",
        n_init=1,
        max_iter=3,
        batch_size=4096,
        reassignment_ratio=0.0,
        compute_labels=False,
        random_state=rng,
    )
    labels = _fit(model, A).predict(A)
    meta = {"method": "KMeans rows", "centres": count}
    return vector_quantized((n, d), labels[:, None], model.cluster_centers_, meta)


def kmeans_subvectors(A: np.ndarray, budget: float, rng: int | None) -> Baseline:
    """`sklearn.cluster.KMeans` over consecutive pieces of rows, one codebook for all of them."""
    plans = subvector_plans(A.shape, budget, shared=True)
    return min((_subvectors(A, *plan, rng) for plan in plans), key=lambda f: f.relative_error(A))


def _subvectors(A: np.ndarray, width: int, length: int, rng: int | None) -> Baseline:
    from sklearn.cluster import KMeans

    vectors = cut(A, length).reshape(-1, length)
    size = min(_SAMPLE, len(vectors))
    chosen = np.random.default_rng(rng).choice(len(vectors), size, replace=False)
    model = _fit(
        KMeans(2**width, n_init=1, max_iter=30, random_state=rng), vectors[np.sort(chosen)]
    )
    labels = np.empty(len(vectors), np.uint8)
    for start in range(0, len(vectors), _BLOCK):
        labels[start : start + _BLOCK] = model.predict(vectors[start : start + _BLOCK])
    meta = {"method": "KMeans sub-vectors", "length": length}
    return vector_quantized(A.shape, labels.reshape(len(A), -1), model.cluster_centers_, meta)


def _fit(model: Any, X: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Fewer distinct vectors than centres: some centres then coincide, which costs nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)
