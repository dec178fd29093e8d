"""Decompositions of scikit-learn and SciPy, their factors stored as float16 or as int8.

A user of these libraries who wants a smaller file casts the arrays: to float16, or to 8-bit
integers with a scale and an offset for each component. The rank is the largest that fits.
"""

from __future__ import annotations

import numpy as np

from lplr.evaluation.baselines.stored import (
    Baseline,
    Parts,
    half,
    index_width,
    largest_size,
    pack_indices,
    projected,
    shifted,
    unpack_indices,
)
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.parallel import reproducible

__all__ = ["interpolative", "pca", "random_projection", "randomized_svd", "truncated_svd"]

_MANY = 8192  # rows, from which SciPy alone takes minutes


def truncated_svd(A: np.ndarray, budget: float, rng: int | None, *, dtype: str) -> LowRank:
    """`sklearn.decomposition.TruncatedSVD`: ``transform(A)`` and ``components_``."""
    from sklearn.decomposition import TruncatedSVD

    svd = TruncatedSVD(_rank(A.shape, budget, dtype), random_state=rng)
    return _low_rank(svd.fit_transform(A), svd.components_, dtype, "TruncatedSVD")


def randomized_svd(A: np.ndarray, budget: float, rng: int | None, *, dtype: str) -> LowRank:
    """`sklearn.utils.extmath.randomized_svd`: ``U`` and ``s Vt``."""
    from sklearn.utils.extmath import randomized_svd as decompose

    U, s, Vt = decompose(A, _rank(A.shape, budget, dtype), random_state=rng)
    return _low_rank(U, s[:, None] * Vt, dtype, "randomized_svd")


def pca(A: np.ndarray, budget: float, rng: int | None, *, dtype: str) -> Baseline:
    """`sklearn.decomposition.PCA`: ``transform(A)``, ``components_``, and the mean in float16."""
    from sklearn.decomposition import PCA

    mean = half(A.mean(axis=0, keepdims=True, dtype=np.float64))
    rank = _rank(A.shape, budget, dtype, mean.nbytes)
    model = PCA(rank, svd_solver="randomized", random_state=rng)
    L = model.fit_transform(A)
    return shifted(_low_rank(L, model.components_, dtype, "PCA"), mean)


def random_projection(A: np.ndarray, budget: float, rng: int | None, *, dtype: str) -> PackedMatrix:
    """`sklearn.random_projection.GaussianRandomProjection`: ``transform(A)`` and the seed.

    Decoded to ``inverse_transform`` of the stored coordinates; the pseudo-inverse is made again
    from the seed.
    """
    from sklearn.random_projection import GaussianRandomProjection

    n, d = A.shape
    rank = largest_size(d, lambda k: _side_nbytes(n, k, dtype) + 8, budget)
    seed = int(rng or 0)
    Y = GaussianRandomProjection(rank, random_state=seed).fit_transform(A)
    meta = {"method": f"GaussianRandomProjection {dtype}"}
    return projected(_store(Y, dtype, "column"), d, seed, _pseudo_inverse, meta)


def _pseudo_inverse(k: int, d: int, seed: int) -> np.ndarray:
    """The transposed pseudo-inverse of the projection that ``seed`` makes, shape (k, d)."""
    from sklearn.random_projection import GaussianRandomProjection

    model = GaussianRandomProjection(k, random_state=seed, compute_inverse_components=True)
    with reproducible():
        model.fit(np.zeros((1, d), np.float32))  # only its shape counts
    return np.ascontiguousarray(model.inverse_components_.T, np.float32)


def interpolative(A: np.ndarray, budget: float, rng: int | None, *, dtype: str) -> Baseline:
    """`scipy.linalg.interpolative.interp_decomp`: some columns, and what makes the others of them.

    Notes
    -----
    In a matrix with many rows, a Gaussian sketch of the rows chooses the columns, and the
    coefficients are the least squares solution: SciPy alone takes minutes there, on one thread,
    and its coefficients are no better.

    References
    ----------
    Cheng, Gimbutas, Martinsson, Rokhlin, "On the compression of low rank matrices", SIAM J. Sci.
    Comput. 26, 2005.
    """
    from scipy.linalg.interpolative import interp_decomp

    n, d = A.shape
    width = index_width(d)

    def nbytes(k: int) -> int:
        rest = _side_nbytes(d - k, k, dtype) if k < d else 0
        return _side_nbytes(n, k, dtype) + rest + -(-k * width // 8)

    # The coefficients make the size of a high rank fall again: every rank is looked at.
    fitting = [k for k in range(1, min(n, d) + 1) if nbytes(k) <= budget]
    rank = fitting[-1] if fitting else largest_size(1, nbytes, budget)
    generator = np.random.default_rng(rng)
    sketched = n > _MANY
    X = generator.standard_normal((2 * rank + 50, n), dtype=np.float32) @ A if sketched else A
    order, coefficients = interp_decomp(X.astype(np.float64), rank, rng=generator)
    chosen, others = order[:rank], order[rank:]
    if sketched:
        products = A[:, chosen].T @ A
        gram = products[:, chosen].astype(np.float64)
        coefficients = np.linalg.lstsq(gram, products[:, others].astype(np.float64))[0]
    parts = {
        "columns": _store(A[:, chosen], dtype, "column"),
        "chosen": pack_indices(chosen, width),
    }
    if rank < d:  # in the order of the columns
        parts["coefficients"] = _store(coefficients[:, np.argsort(others)], dtype, "row")

    def decode(parts: Parts) -> ReadRows:
        k = parts["columns"].shape[1]
        where = unpack_indices(parts["chosen"], width, k)
        matrix = np.zeros((k, d), np.float32)
        matrix[:, where] = np.eye(k, dtype=np.float32)
        if "coefficients" in parts:
            matrix[:, np.setdiff1d(np.arange(d), where)] = parts["coefficients"].to_dense()
        columns = parts["columns"]._row_reader()
        return lambda start, stop: columns(start, stop) @ matrix

    return Baseline((n, d), parts, decode, {"method": f"interpolative {dtype}", "rank": rank})


def _low_rank(L: np.ndarray, R: np.ndarray, dtype: str, name: str) -> LowRank:
    left, right = _store(L, dtype, "column"), _store(R, dtype, "row")
    return LowRank(left, right, meta={"method": f"{name} {dtype}"})


def _store(X: np.ndarray, dtype: str, granularity: str) -> Quantized:
    """A factor as float16, or as int8 with a scale and an offset for each component."""
    from lplr.coding.rounding import round_matrix
    from lplr.quantizers import get_codebook

    if dtype == "float16":
        return half(X)
    return round_matrix(
        np.ascontiguousarray(X, np.float32), get_codebook("uniform", 8), granularity
    )


def _side_nbytes(length: int, rank: int, dtype: str) -> int:
    """Bytes of a factor of ``rank`` components of some length."""
    return 2 * length * rank + 4 if dtype == "float16" else (length + 8) * rank


def _rank(shape: tuple[int, int], budget: float, dtype: str, extra: int = 0) -> int:
    """The largest rank whose two factors fit the budget, in bytes, beside ``extra`` ones."""

    def nbytes(k: int) -> int:
        return extra + sum(_side_nbytes(side, k, dtype) for side in shape)

    return largest_size(min(shape), nbytes, budget)
