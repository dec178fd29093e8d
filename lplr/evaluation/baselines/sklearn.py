"""scikit-learn's decompositions, their factors stored as float16 or as int8.

A user of scikit-learn who wants a smaller file casts the arrays: to float16, or to 8-bit integers
with a scale and an offset for each component. The rank is the largest that fits the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.evaluation.baselines.stored import Projected, Shifted, half
from lplr.exceptions import BudgetError
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.parallel import reproducible
from lplr.validation import check_choice, check_matrix, check_real

__all__ = ["float16_svd", "pca", "random_projection", "randomized_svd", "truncated_svd"]

DTYPES = ("float16", "int8")


def float16_svd(A: Any, bits_per_entry: float, *, rng: int | None = None) -> LowRank:
    """scikit-learn's TruncatedSVD with both factors stored as float16.

    Parameters
    ----------
    A : array_like of shape (n, d), n and d at least 2
    bits_per_entry : float
        Decides the rank, the largest that fits.
    rng : int, optional

    Returns
    -------
    LowRank

    Raises
    ------
    BudgetError
        If not even rank 1 fits.

    Notes
    -----
    The factors are ``transform(A)`` and ``components_``, the way the class is used; each has a
    power of two as its scale, so that float16 loses nothing to its range.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.baselines import float16_svd
    >>> f = float16_svd(np.outer(np.arange(64.0), np.ones(64)), bits_per_entry=1, rng=0)
    >>> f.rank, f.bits_per_entry <= 1
    (1, True)
    """
    with reproducible():  # the same bits on any number of cores
        return truncated_svd(A, bits_per_entry, rng, dtype="float16")


def truncated_svd(A: Any, bits_per_entry: float, rng: int | None = None, *, dtype: str) -> LowRank:
    """`sklearn.decomposition.TruncatedSVD`: ``transform(A)`` and ``components_``.

    Parameters
    ----------
    A : array_like of shape (n, d), n and d at least 2
    bits_per_entry : float
    rng : int, optional
    dtype : {"float16", "int8"}

    Returns
    -------
    LowRank

    Raises
    ------
    BudgetError
        If not even rank 1 fits.
    """
    from sklearn.decomposition import TruncatedSVD

    A = check_matrix(A)
    rank = _rank(A.shape, bits_per_entry, dtype)
    svd = TruncatedSVD(rank, random_state=rng)
    L = svd.fit_transform(A)
    return _low_rank(L, svd.components_, dtype, f"TruncatedSVD {dtype}")


def randomized_svd(A: Any, bits_per_entry: float, rng: int | None = None, *, dtype: str) -> LowRank:
    """`sklearn.utils.extmath.randomized_svd`: ``U`` and ``s Vt``.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional
    dtype : {"float16", "int8"}

    Returns
    -------
    LowRank

    Raises
    ------
    BudgetError
        If not even rank 1 fits.
    """
    from sklearn.utils.extmath import randomized_svd as decompose

    A = check_matrix(A)
    rank = _rank(A.shape, bits_per_entry, dtype)
    U, s, Vt = decompose(A, rank, random_state=rng)
    return _low_rank(U, s[:, None] * Vt, dtype, f"randomized_svd {dtype}")


def pca(A: Any, bits_per_entry: float, rng: int | None = None, *, dtype: str) -> Shifted:
    """`sklearn.decomposition.PCA`: ``transform(A)``, ``components_`` and ``mean_``.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional
    dtype : {"float16", "int8"}
        The mean is float16.

    Returns
    -------
    Shifted

    Raises
    ------
    BudgetError
        If not even rank 1 fits.
    """
    from sklearn.decomposition import PCA

    A = check_matrix(A)
    mean = half(A.mean(axis=0, keepdims=True, dtype=np.float64))
    rank = _rank(A.shape, bits_per_entry, dtype, mean.nbytes)
    model = PCA(rank, svd_solver="randomized", random_state=rng)
    L = model.fit_transform(A)
    return Shifted(_low_rank(L, model.components_, dtype, f"PCA {dtype}"), mean)


def random_projection(
    A: Any, bits_per_entry: float, rng: int | None = None, *, dtype: str
) -> Projected:
    """`sklearn.random_projection.GaussianRandomProjection`: ``transform(A)`` and the seed.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional
    dtype : {"float16", "int8"}

    Returns
    -------
    Projected
        ``inverse_transform`` of the stored coordinates, the pseudo-inverse being recomputed
        from the seed.

    Raises
    ------
    BudgetError
        If not even one component fits.
    """
    from sklearn.random_projection import GaussianRandomProjection

    A = check_matrix(A)
    n, d = A.shape
    budget = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    rank = largest_rank(d, lambda k: side_nbytes(n, k, dtype) + Projected.seed_nbytes, budget)
    seed = int(rng or 0)
    Y = GaussianRandomProjection(rank, random_state=seed).fit_transform(A)
    meta = {"method": f"GaussianRandomProjection {dtype}"}
    return Projected(store(Y, dtype, "column"), d, seed, _way_back, meta)


def _way_back(k: int, d: int, seed: int) -> np.ndarray:
    """The transposed pseudo-inverse of the projection that ``seed`` makes, shape (k, d)."""
    from sklearn.random_projection import GaussianRandomProjection

    model = GaussianRandomProjection(k, random_state=seed, compute_inverse_components=True)
    with reproducible():
        model.fit(np.zeros((1, d), np.float32))  # only its shape counts
    return np.ascontiguousarray(model.inverse_components_.T, np.float32)


def _low_rank(L: np.ndarray, R: np.ndarray, dtype: str, name: str) -> LowRank:
    left, right = store(L, dtype, "column"), store(R, dtype, "row")
    return LowRank(left, right, meta={"method": name})


def store(X: np.ndarray, dtype: str, granularity: str) -> Quantized:
    """A factor as float16, or as int8 with a scale and an offset for each component."""
    from lplr.coding.rounding import round_matrix
    from lplr.quantizers import get_codebook

    if dtype == "float16":
        return half(X)
    X = np.ascontiguousarray(X, np.float32)
    return round_matrix(X, get_codebook("uniform", 8), granularity)


def side_nbytes(length: int, rank: int, dtype: str) -> int:
    """Bytes of a factor of ``rank`` components of some length."""
    return 2 * length * rank + 4 if dtype == "float16" else (length + 8) * rank


def _rank(shape: tuple[int, int], bits_per_entry: float, dtype: str, extra: int = 0) -> int:
    """The largest rank whose two factors fit the budget."""
    check_choice(dtype, "dtype", DTYPES)
    budget = check_real(bits_per_entry, "bits_per_entry") * shape[0] * shape[1] / 8

    def nbytes(k: int) -> int:
        return extra + sum(side_nbytes(side, k, dtype) for side in shape)

    return largest_rank(min(shape), nbytes, budget)


def largest_rank(most: int, nbytes: Callable[[int], int], budget: float) -> int:
    """The largest rank up to ``most`` of at most ``budget`` bytes."""
    fitting = [k for k in range(1, most + 1) if nbytes(k) <= budget]
    if not fitting:
        raise BudgetError(
            f"bits_per_entry: rank 1 takes {nbytes(1)} bytes, the budget is {budget:.0f}"
        )
    return fitting[-1]
