"""What people use today, brought to the same stored bits, beside this project's methods.

Every method is a function of a matrix, a budget in bits an entry and a seed, and returns an
`lplr.matrices.base.Artefact`: `nbytes` counts what its decoder reads, and nothing is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from lplr.evaluation.baselines import faiss, kmeans, own, scipy, sklearn
from lplr.evaluation.baselines.naive import naive, naive_at
from lplr.evaluation.baselines.sklearn import float16_svd
from lplr.matrices.base import Artefact

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
        where it cannot meet the budget and `MissingPackageError` where its library is not there.
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
    run: Callable[..., Artefact]
    stores: str
    seeded: bool = True
    weighted: bool = False
    cost: tuple[float, float] = (0.05, 0.1)


def _naive(A: Any, bits_per_entry: float, rng: int | None = None) -> Artefact:
    return naive_at(A, bits_per_entry)


def _all() -> list[Method]:
    methods = [
        Method(
            DEFAULT,
            "lplr",
            own.compress,
            "codes of factors, of a backbone, or of both; their scales and sign seeds",
            weighted=True,
            cost=(0.7, 1.2),
        ),
        Method(
            "feedback",
            "lplr",
            partial(own.factorize, method="feedback"),
            own.STORES,
            cost=(0.3, 0.4),
        ),
    ]
    for name in ("lplr", "lplr-svd", "direct-svd"):
        methods.append(Method(name, "paper", partial(own.factorize, method=name), own.STORES))
    methods.append(Method("naive", "naive", _naive, "codes; one scale, one offset", seeded=False))
    for dtype, constants in (
        ("float16", "a scale a factor"),
        ("int8", "scale, offset a component"),
    ):
        two = f"two factors in {dtype}, {constants}"
        methods += [
            Method(f"TruncatedSVD {dtype}", "sklearn", _with(sklearn.truncated_svd, dtype), two),
            Method(f"PCA {dtype}", "sklearn", _with(sklearn.pca, dtype), f"{two}; mean"),
            Method(f"randomized_svd {dtype}", "sklearn", _with(sklearn.randomized_svd, dtype), two),
            Method(
                f"GaussianRandomProjection {dtype}",
                "sklearn",
                _with(sklearn.random_projection, dtype),
                f"coordinates in {dtype}; seed of the projection, 8 bytes",
            ),
            Method(
                f"interpolative {dtype}",
                "scipy",
                _with(scipy.interpolative, dtype),
                f"columns and coefficients in {dtype}, {constants}; indices of the columns",
                cost=(0.1, 0.4),
            ),
        ]
    books = "labels of ceil(log2 k) bits; centres in float16"
    return [
        *methods,
        Method("KMeans rows", "sklearn", kmeans.kmeans_rows, books, cost=(0.2, 0.3)),
        Method("KMeans sub-vectors", "sklearn", kmeans.kmeans_subvectors, books, cost=(1.0, 0.1)),
        Method(
            "ScalarQuantizer",
            "faiss",
            faiss.scalar,
            "codes; ranges or levels; float16 scale and mean a column",
            seeded=False,
        ),
        Method("PQ", "faiss", faiss.product, "indices; codebooks in float16", cost=(0.3, 0.4)),
        Method("OPQ", "faiss", faiss.optimized_product, "indices; codebooks, rotation in float16"),
        Method(
            "RaBitQ",
            "faiss",
            faiss.rabitq,
            "codes; a float16 a row; centre in float16; seed of the rotation, 8 bytes",
        ),
    ]


def _with(function: Callable[..., Artefact], dtype: str) -> Callable[..., Artefact]:
    return partial(function, dtype=dtype)


METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _all()})
