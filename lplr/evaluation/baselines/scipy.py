"""SciPy's interpolative decomposition, stored as float16 or as int8."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.evaluation.baselines.sklearn import largest_rank, side_nbytes, store
from lplr.evaluation.baselines.stored import Selected, pack_words, word_width
from lplr.validation import check_choice, check_matrix, check_real

__all__ = ["interpolative"]

_MANY = 8192  # rows


def interpolative(A: Any, bits_per_entry: float, rng: int | None = None, *, dtype: str) -> Selected:
    """`scipy.linalg.interpolative.interp_decomp`: some columns, and what makes the others of them.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
        Decides the rank, the largest that fits.
    rng : int, optional
    dtype : {"float16", "int8"}
        Of the columns and of the coefficients.

    Returns
    -------
    Selected

    Raises
    ------
    BudgetError
        If not even one column fits.

    Notes
    -----
    Of a matrix with many rows a Gaussian sketch of them chooses the columns, and the coefficients
    are the least squares solution: SciPy alone takes minutes there, on one thread, and its
    coefficients are no better.

    References
    ----------
    Cheng, Gimbutas, Martinsson, Rokhlin, "On the compression of low rank matrices", SIAM J. Sci.
    Comput. 26, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.baselines.scipy import interpolative
    >>> A = np.outer(np.arange(1.0, 65.0), np.ones(64))
    >>> f = interpolative(A, 1.0, rng=0, dtype="float16")
    >>> f.bits_per_entry <= 1, f.relative_error(A) < 1e-3
    (True, True)
    """
    from scipy.linalg.interpolative import interp_decomp

    A = check_matrix(A)
    check_choice(dtype, "dtype", ("float16", "int8"))
    n, d = A.shape
    width = word_width(d)

    def nbytes(k: int) -> int:
        rest = side_nbytes(d - k, k, dtype) if k < d else 0
        return side_nbytes(n, k, dtype) + rest + -(-k * width // 8)

    budget = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    rank = largest_rank(min(n, d), nbytes, budget)
    generator = np.random.default_rng(rng)
    sketched = n > _MANY
    X = generator.standard_normal((2 * rank + 50, n), dtype=np.float32) @ A if sketched else A
    order, coefficients = interp_decomp(X.astype(np.float64), rank, rng=generator)
    chosen, others = order[:rank], order[rank:]
    if sketched:
        products = A[:, chosen].T @ A
        gram = products[:, chosen].astype(np.float64)
        coefficients = np.linalg.lstsq(gram, products[:, others].astype(np.float64))[0]
    return Selected(
        columns=store(A[:, chosen], dtype, "column"),
        coefficients=store(coefficients[:, np.argsort(others)], dtype, "row") if rank < d else None,
        chosen=pack_words(chosen, width),
        meta={"method": f"interpolative {dtype}", "rank": rank},
    )
