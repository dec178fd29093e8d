"""What people use today, brought to the same stored bits and the same files."""

from __future__ import annotations

from typing import Any

from lplr.exceptions import BudgetError
from lplr.factors import LowRank
from lplr.quantized import Quantized
from lplr.validation import check_integer, check_matrix, check_real

__all__ = ["float16_svd", "naive"]


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
    from sklearn.decomposition import TruncatedSVD

    from lplr.algorithms.budget import largest_rank
    from lplr.algorithms.rounding import round_matrix
    from lplr.parallel import single_threaded_blas
    from lplr.quantizers import get_codebook

    A = check_matrix(A)
    nbytes = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    book = get_codebook("uniform", 16)
    rank = largest_rank(A.shape, nbytes, (book, book), per_rank=0, once=2)
    if rank == 0:
        raise BudgetError(
            f"bits_per_entry: {bits_per_entry} is too small for rank 1 in float16 at {A.shape}"
        )
    svd = TruncatedSVD(rank, random_state=rng)
    with single_threaded_blas():  # the same bits on any number of cores
        L = svd.fit_transform(A).astype("f4", copy=False)
    R = svd.components_.astype("f4", copy=False)
    return LowRank(round_matrix(L, book), round_matrix(R, book), meta={"method": "float16 SVD"})


def naive(A: Any, bits: int) -> Quantized:
    """Uniform quantization of the matrix as it is, at the better of two ranges.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits : int
        1 to 8.

    Returns
    -------
    Quantized
        With the range of the extrema, as in the LPLR paper, or with the one of least squared
        error, whichever leaves less.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.baselines import naive
    >>> A = np.random.default_rng(0).standard_normal((50, 40))
    >>> round(naive(A, 2).relative_error(A), 1)
    0.3
    """
    import lplr

    A = check_matrix(A)
    bits = check_integer(bits, "bits", 1, 8)
    tried = [lplr.quantize(A, bits, scaling=scaling) for scaling in ("minmax", "mse")]
    return min(tried, key=lambda q: q.relative_error(A))
