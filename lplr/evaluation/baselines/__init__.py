"""What people use today, brought to the same stored bits, beside this project's methods.

Every method is a function of a matrix, a budget in bits per entry and a seed, and returns a packed
matrix: its `nbytes` counts what its decoder reads, and nothing is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from lplr.evaluation.baselines import decompositions, faiss, vectors
from lplr.exceptions import BudgetError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.validation.arguments import check_integer, check_real
from lplr.validation.matrices import check_matrix

__all__ = ["DEFAULT", "METHODS", "Method", "float16_svd", "naive"]

DEFAULT = "compress"  # what the others are compared with


@dataclass(frozen=True)
class Method:
    """A way to compress a matrix to a budget.

    Parameters
    ----------
    name : str
    family : str
        ``"lplr"`` for this project's own, ``"paper"`` for those of the LPLR paper, else the
        library that does the work.
    run : callable
        ``run(A, bits_per_entry, rng)``, and ``hessian=`` where `weighted`; raises `BudgetError`
        where it cannot meet the budget and `MissingPackageError` where its library is missing.
    stores : str
        Everything that its size counts.
    seeded : bool
        Whether the seed makes a difference.
    weighted : bool
        Whether it can use a Hessian.
    cost : (float, float)
        Roughly its seconds for any matrix, and for each million entries at one bit: for an estimate
        of the time that is left.

    Examples
    --------
    >>> from lplr import datasets
    >>> from lplr.evaluation.baselines import METHODS
    >>> A = datasets.synthetic(200, 100, "power", exponent=1.0, rng=0)
    >>> METHODS["PCA int8"].run(A, 2.0, 0).bits_per_entry <= 2
    True
    """

    name: str
    family: str
    run: Callable[..., PackedMatrix]
    stores: str
    seeded: bool = True
    weighted: bool = False
    cost: tuple[float, float] = (0.05, 0.1)


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
    tried = [lplr.quantize(A, bits=bits, scaling=scaling) for scaling in ("minmax", "mse")]
    return min(tried, key=lambda q: q.relative_error(A))


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
    from lplr.parallel import reproducible

    with reproducible():  # the same bits on any number of cores
        return METHODS["TruncatedSVD float16"].run(A, bits_per_entry, rng)


def _run(
    function: Callable[..., PackedMatrix],
    A: Any,
    bits_per_entry: float,
    rng: int | None = None,
    **options: Any,
) -> PackedMatrix:
    """A baseline, which is given a checked matrix and its budget in bytes."""
    A = check_matrix(A)
    budget = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    return function(A, budget, rng, **options)


def _compress(
    A: Any, bits_per_entry: float, rng: int | None = None, *, hessian: Any = None
) -> PackedMatrix:
    import lplr

    return lplr.compress(A, bits_per_entry=bits_per_entry, hessian=hessian, rng=rng)


def _factorize(A: Any, bits_per_entry: float, rng: int | None = None, *, method: str) -> LowRank:
    import lplr

    return lplr.factorize(A, bits_per_entry=bits_per_entry, method=method, rng=rng)


def _naive(A: Any, bits_per_entry: float, rng: int | None = None) -> Quantized:
    """`naive` at a budget of whole bits; its scale and offset, 8 bytes, come on top."""
    bits = check_real(bits_per_entry, "bits_per_entry")
    if bits not in range(1, 9):
        raise BudgetError(f"bits_per_entry: rounding entries takes 1 to 8 whole bits, not {bits:g}")
    return naive(A, int(bits))


def _all() -> list[Method]:
    factors = "codes of two factors; their scales"
    books = "labels of ceil(log2 k) bits; centres in float16"

    def lplr(name: str, family: str, **more: Any) -> Method:
        return Method(name, family, partial(_factorize, method=name), factors, **more)

    def baseline(
        name: str, family: str, function: Callable[..., PackedMatrix], stores: str, **more: Any
    ) -> Method:
        return Method(name, family, partial(_run, function), stores, **more)

    methods = [
        Method(
            DEFAULT,
            "lplr",
            _compress,
            "codes of factors, of a backbone, or of both; their scales and sign seeds",
            weighted=True,
            cost=(0.7, 1.2),
        ),
        lplr("feedback", "lplr", cost=(0.3, 0.4)),
        *(lplr(name, "paper") for name in ("lplr", "lplr-svd", "direct-svd")),
        Method("naive", "naive", _naive, "codes; one scale, one offset", seeded=False),
    ]
    for dtype, constants in (
        ("float16", "a scale a factor"),
        ("int8", "scale, offset a component"),
    ):
        two = f"two factors in {dtype}, {constants}"
        projection = f"coordinates in {dtype}; seed of the projection, 8 bytes"
        columns = f"columns and coefficients in {dtype}, {constants}; indices of the columns"
        for name, family, function, stores, cost in (
            ("TruncatedSVD", "sklearn", decompositions.truncated_svd, two, 0.1),
            ("PCA", "sklearn", decompositions.pca, f"{two}; mean", 0.1),
            ("randomized_svd", "sklearn", decompositions.randomized_svd, two, 0.1),
            (
                "GaussianRandomProjection",
                "sklearn",
                decompositions.random_projection,
                projection,
                0.1,
            ),
            ("interpolative", "scipy", decompositions.interpolative, columns, 0.4),
        ):
            made = partial(function, dtype=dtype)
            methods.append(baseline(f"{name} {dtype}", family, made, stores, cost=(0.1, cost)))
    return [
        *methods,
        baseline("KMeans rows", "sklearn", vectors.kmeans_rows, books, cost=(0.2, 0.3)),
        baseline(
            "KMeans sub-vectors", "sklearn", vectors.kmeans_subvectors, books, cost=(1.0, 0.1)
        ),
        baseline(
            "ScalarQuantizer",
            "faiss",
            faiss.scalar,
            "codes; ranges or levels; float16 scale and mean a column",
            seeded=False,
        ),
        baseline("PQ", "faiss", faiss.product, "indices; codebooks in float16", cost=(0.3, 0.4)),
        baseline(
            "OPQ", "faiss", faiss.optimized_product, "indices; codebooks, rotation in float16"
        ),
        baseline(
            "RaBitQ",
            "faiss",
            faiss.rabitq,
            "codes; a float16 a row; centre in float16; seed of the rotation, 8 bytes",
        ),
    ]


METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _all()})
