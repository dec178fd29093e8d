"""What ``lplr bench scale`` compares: each method reads blocks of rows and stores the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lplr.extras import optional
from lplr.parallel import n_threads
from lplr.sources import Source

__all__ = ["REFERENCE", "SCALE_METHODS", "Job", "Stored"]

REFERENCE = "read twice + product"
_ROWS = 16384  # that are read together
_WIDTH = 64  # of the matrix that the reference multiplies with
_BITS = 4  # of factors at a given rank
_TRAINED = 65536  # rows from which a product quantizer learns 256 centroids: all that faiss uses


@dataclass(frozen=True)
class Job:
    """A matrix, and what may be stored of it.

    Parameters
    ----------
    source : Source
    nbytes : int
        The budget, where no rank is given.
    rank : int or None
        The rank of every method that has one, whatever it then stores.
    memory_limit : str
        Of the methods that take one.
    """

    source: Source
    nbytes: int
    rank: int | None
    memory_limit: str

    @property
    def bits_per_entry(self) -> float:
        """The budget over the entries."""
        n, d = self.source.shape
        return 8 * self.nbytes / (n * d)

    def half_rank(self, fixed: int = 0) -> int:
        """The rank of factors in float16 that fit beside so many bytes."""
        n, d = self.source.shape
        fitting = (self.nbytes - fixed) // (2 * (n + d))
        return self.rank or max(1, min(fitting, d - 1))

    def blocks(self, step: int = _ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """The rows in order: the number of the first one of each block, and the block."""
        n = len(self.source)
        for start in range(0, n, step):
            yield start, self.source.rows(start, min(start + step, n))


@dataclass(frozen=True)
class Stored:
    """What a method keeps: its bytes, and how given rows come back; None for the reference."""

    nbytes: int
    rows: Callable[[np.ndarray], np.ndarray] | None
    rank: int | None = None


def _packed(packed: Any) -> Stored:
    return Stored(packed.nbytes, lambda at: packed[at], getattr(packed, "rank", None))


def _compress(job: Job) -> Stored:
    import lplr

    bits, limit = job.bits_per_entry, job.memory_limit
    return _packed(lplr.compress(job.source, bits_per_entry=bits, memory_limit=limit, rng=0))


def _factorize(job: Job, method: str) -> Stored:
    import lplr

    size: dict[str, Any] = {"bits_per_entry": job.bits_per_entry}
    if job.rank:
        size = {"rank": job.rank, "bits": _BITS}
    how: Any = {"method": method, "memory_limit": job.memory_limit, "rng": 0}
    return _packed(lplr.factorize(job.source, **size, **how))


def _incremental_pca(job: Job) -> Stored:
    from sklearn.decomposition import IncrementalPCA

    n, d = job.source.shape
    rank = job.half_rank(2 * d)
    model = IncrementalPCA(rank)
    step = 5 * d  # what it takes by itself
    for _, X in job.blocks(step):
        if len(X) >= rank:  # it refuses a short rest
            model.partial_fit(X)
    L = np.empty((n, rank), np.float16)
    for start, X in job.blocks():
        L[start : start + len(X)] = model.transform(X)
    R, mean = model.components_.astype(np.float16), model.mean_.astype(np.float16)

    def rows(at: np.ndarray) -> np.ndarray:
        return L[at].astype(np.float32) @ R.astype(np.float32) + mean

    return Stored(L.nbytes + R.nbytes + mean.nbytes, rows, rank)


def _svd_compressed(job: Job) -> Stored:
    da = optional("dask.array", "svd_compressed")
    import dask.base
    import dask.config
    from threadpoolctl import threadpool_limits

    array = da.from_array(_Rows(job.source), chunks=(_ROWS, job.source.shape[1]))
    rank = job.half_rank()
    threads = n_threads()
    # Tasks in threads, and BLAS in one: together they would get into each other's way.
    with dask.config.set(scheduler="threads", num_workers=threads), threadpool_limits(1):
        U, s, V = da.linalg.svd_compressed(array, rank, seed=0)
        U, s, V = dask.base.compute(U.astype(np.float32), s, V)
    L, R = (U * s).astype(np.float16), V.astype(np.float16)

    def rows(at: np.ndarray) -> np.ndarray:
        return L[at].astype(np.float32) @ R.astype(np.float32)

    return Stored(L.nbytes + R.nbytes, rows, rank)


class _Rows:
    """A source as dask takes it."""

    ndim = 2

    def __init__(self, source: Source) -> None:
        self.shape, self.dtype, self._source = source.shape, source.row_dtype, source

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        rows, columns = key
        start, stop, _ = rows.indices(self.shape[0])
        return self._source.rows(start, stop)[:, columns]


def _product_quantizer(job: Job) -> Stored:
    faiss = optional("faiss", "PQ")
    n, d = job.source.shape
    tables = 4 * 256 * d
    most = max(1, (job.nbytes - tables) // n)
    m = max(m for m in range(1, min(most, d) + 1) if d % m == 0)
    faiss.omp_set_num_threads(n_threads())
    index = faiss.IndexPQ(d, m, 8)
    index.pq.cp.min_points_per_centroid = 1  # few rows are no reason to write to the terminal
    step = -(-n // _TRAINED)
    index.train(np.concatenate([X[-start % step :: step] for start, X in job.blocks()]))
    for _, X in job.blocks():
        index.add(X)
    codes = faiss.vector_to_array(index.codes).reshape(n, -1)
    return Stored(codes.nbytes + tables, lambda at: index.sa_decode(codes[at]))


def _reference(job: Job) -> Stored:
    d = job.source.shape[1]
    T = np.random.default_rng(0).standard_normal((d, min(_WIDTH, d)), np.float32)
    for multiplied in (False, True):
        for _, X in job.blocks():
            if multiplied:
                X @ T
    return Stored(0, None)


# The order is that of tables; those that have no rank are left out where one is given.
SCALE_METHODS: Mapping[str, Callable[[Job], Stored]] = MappingProxyType(
    {
        "compress": _compress,
        "feedback": lambda job: _factorize(job, "feedback"),
        "lplr": lambda job: _factorize(job, "lplr"),
        "IncrementalPCA": _incremental_pca,
        "svd_compressed": _svd_compressed,
        "PQ": _product_quantizer,
        REFERENCE: _reference,
    }
)
