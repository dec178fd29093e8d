"""Vector quantization by scikit-learn's k-means: of whole rows, or of pieces of rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lplr.evaluation.baselines.stored import VectorQuantized, half, pack_words, word_width
from lplr.exceptions import BudgetError
from lplr.validation import check_matrix, check_real

__all__ = ["kmeans_rows", "kmeans_subvectors"]

_SAMPLE = 1 << 15  # sub-vectors that a codebook is trained on
_TRIED = 2  # codebook sizes
_BLOCK = 1 << 19  # sub-vectors labelled at a time


def kmeans_rows(A: Any, bits_per_entry: float, rng: int | None = None) -> VectorQuantized:
    """`sklearn.cluster.MiniBatchKMeans` over rows: float16 centres, and a label for each row.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
        Decides the number of centres, about n b / 16.
    rng : int, optional

    Returns
    -------
    VectorQuantized

    Raises
    ------
    BudgetError
        If not even two centres fit.
    """
    from sklearn.cluster import MiniBatchKMeans

    A = check_matrix(A)
    n, d = A.shape
    budget = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    count = min(int(budget // (2 * d)), n)
    while count > 1 and -(-n * word_width(count) // 8) + 2 * d * count + 4 > budget:
        count -= 1
    if count < 2:
        raise BudgetError(
            f"bits_per_entry: two centres and a label a row exceed {budget:.0f} bytes"
        )
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
    width = word_width(count)
    meta = {"method": "KMeans rows", "centres": count}
    codes, book = pack_words(labels, width), half(model.cluster_centers_)
    return VectorQuantized(A.shape, 1, width, codes, book, meta)


def kmeans_subvectors(A: Any, bits_per_entry: float, rng: int | None = None) -> VectorQuantized:
    """`sklearn.cluster.KMeans` over consecutive pieces of rows, one codebook for all of them.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
        Of the sizes 2 to 256 of the codebook with the length that then fits, the two that use
        most of the budget are tried.
    rng : int, optional

    Returns
    -------
    VectorQuantized

    Raises
    ------
    BudgetError
        If no codebook fits.
    """
    A = check_matrix(A)
    budget = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    plans = []
    for width in range(1, 9):
        length = next((g for g in range(1, A.shape[1] + 1) if _fits(A, width, g, budget)), 0)
        if length and A.shape[0] * -(-A.shape[1] // length) >= 2**width:
            plans.append((width * -(-A.shape[1] // length), width, length))
    if not plans:
        raise BudgetError(f"bits_per_entry: no codebook and its indices fit {budget:.0f} bytes")
    tried = [_subvectors(A, width, g, rng) for _, width, g in sorted(plans)[-_TRIED:]]
    return min(tried, key=lambda f: f.relative_error(A))


def _fits(A: np.ndarray, width: int, length: int, budget: float) -> bool:
    words = A.shape[0] * -(-A.shape[1] // length)
    return -(-words * width // 8) + 2 * length * 2**width + 4 <= budget


def _subvectors(A: np.ndarray, width: int, length: int, rng: int | None) -> VectorQuantized:
    from sklearn.cluster import KMeans

    d = A.shape[1]
    words = -(-d // length)
    vectors = np.pad(A, ((0, 0), (0, words * length - d))).reshape(-1, length)
    generator = np.random.default_rng(rng)
    size = min(_SAMPLE, len(vectors))
    sample = vectors[np.sort(generator.choice(len(vectors), size, replace=False))]
    model = KMeans(2**width, n_init=1, max_iter=30, random_state=rng)
    _fit(model, sample)
    labels = np.empty(len(vectors), np.uint8)
    for start in range(0, len(vectors), _BLOCK):
        labels[start : start + _BLOCK] = model.predict(vectors[start : start + _BLOCK])
    meta = {"method": "KMeans sub-vectors", "length": length}
    codes, book = pack_words(labels, width), half(model.cluster_centers_)
    return VectorQuantized(A.shape, words, width, codes, book, meta)


def _fit(model: Any, X: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Fewer distinct vectors than centres: some centres then coincide, which costs nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)
