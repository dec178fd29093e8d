"""The quantizers of faiss (extra ``bench``), stored as what their decoders need.

Codebooks, rotations and centres are float16, and rotations that are random are a seed: faiss itself
writes float32 and the matrix. faiss runs on as many threads as this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lplr.evaluation.baselines.stored import (
    Baseline,
    Projected,
    Rotated,
    Shifted,
    VectorQuantized,
    half,
    pack_words,
    unpack_words,
)
from lplr.evaluation.extras import optional
from lplr.exceptions import BudgetError, MissingPackageError
from lplr.matrices.errors import ReadRows as Rows
from lplr.matrices.quantized import Quantized
from lplr.validation import check_matrix, check_real

__all__ = ["SLACK", "optimized_product", "product", "rabitq", "scalar"]

# Codes of whole bits cannot be narrowed to make room for their constants: those may exceed the
# budget by this much, in favour of the baseline.
SLACK = 0.1
_POINTS = 64  # training vectors for a centroid; faiss takes up to 256
_ROUNDS = 15  # of k-means; faiss takes 25
_OPQ_ROUNDS = 8  # faiss takes 50, which is minutes on a machine of two cores


@dataclass(frozen=True, eq=False, repr=False)
class Scalar(Baseline):
    """Codes of faiss's ScalarQuantizer, decoded by faiss.

    Parameters
    ----------
    shape : (int, int)
    kind : str
        Name of the quantizer type in faiss.
    codes : ndarray of shape (n, code_size), uint8
    trained : ndarray, float32
        What training left: the ranges of the columns, or levels.
    scale, mean : Quantized of shape (1, d), optional
        Of the columns, where they were standardised first.
    meta : mapping
    """

    shape: tuple[int, int]
    kind: str
    codes: np.ndarray
    trained: np.ndarray
    scale: Quantized | None = None
    mean: Quantized | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, of what training left, and of scales and means."""
        constants = (part for part in (self.scale, self.mean) if part is not None)
        return self._nbytes(self.codes, self.trained, *constants)

    def _row_reader(self) -> Rows:
        faiss = _faiss()
        index = faiss.IndexScalarQuantizer(self.shape[1], getattr(faiss.ScalarQuantizer, self.kind))
        faiss.copy_array_to_vector(self.trained, index.sq.trained)
        index.is_trained = True
        if self.scale is None or self.mean is None:
            return lambda start, stop: index.sa_decode(self.codes[start:stop])
        scale, mean = self.scale.to_dense(), self.mean.to_dense()
        return lambda start, stop: index.sa_decode(self.codes[start:stop]) * scale + mean


@dataclass(frozen=True, eq=False, repr=False)
class SignedLevels(Baseline):
    """Entries at odd multiples of half a step, with a step for each row.

    Parameters
    ----------
    shape : (int, int)
    bits : int
    codes : ndarray, uint8
        Packed, row by row.
    step : Quantized of shape (n, 1)
    meta : mapping
    """

    shape: tuple[int, int]
    bits: int
    codes: np.ndarray
    step: Quantized
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and steps."""
        return self._nbytes(self.codes, self.step)

    def _row_reader(self) -> Rows:
        n, d = self.shape
        codes = unpack_words(self.codes, self.bits, n * d).reshape(n, d)
        step, middle = self.step.to_dense(), np.float32((2**self.bits - 1) / 2)
        return lambda start, stop: (codes[start:stop] - middle) * step[start:stop]


def scalar(A: Any, bits_per_entry: float, rng: int | None = None) -> Scalar:
    """`faiss.IndexScalarQuantizer` of the best type that there is for a whole number of bits.

    Types that take ranges from the data are given the matrix as it is; those with levels for normal
    data lose nearly everything that way, so that each type meets standardised columns as well.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional
        Ignored: nothing is random.

    Returns
    -------
    Scalar

    Raises
    ------
    BudgetError
        If faiss has no such type, or its constants exceed the budget by more than a tenth.
    MissingPackageError
        If faiss is not installed.
    """
    faiss = _faiss()
    A = check_matrix(A)
    bits = check_real(bits_per_entry, "bits_per_entry")
    types = faiss.ScalarQuantizer
    names = [k for k in dir(types) if k.startswith(f"QT_{bits:g}bit") and "direct" not in k]
    tried = [_scalar(faiss, A, name, b) for name in sorted(names) for b in (False, True)]
    tried = [f for f in tried if f.bits_per_entry <= (1 + SLACK) * bits]
    if not tried:
        raise BudgetError(f"bits_per_entry: ScalarQuantizer has no type of {bits:g} bits that fits")
    return min(tried, key=lambda f: f.relative_error(A))


def _scalar(faiss: Any, A: np.ndarray, kind: str, standardised: bool) -> Scalar:
    scale = mean = None
    X = A
    if standardised:
        mean, scale = half(A.mean(axis=0, keepdims=True)), half(A.std(axis=0, keepdims=True))
        width = scale.to_dense()
        X = (A - mean.to_dense()) / np.where(width > 0, width, 1)
    index = faiss.IndexScalarQuantizer(A.shape[1], getattr(faiss.ScalarQuantizer, kind))
    with _threads(faiss):
        index.train(X)
        codes = index.sa_encode(X)
    trained = faiss.vector_to_array(index.sq.trained)
    meta = {"method": "ScalarQuantizer", "type": kind}
    return Scalar(A.shape, kind, codes, trained, scale, mean, meta)


def product(A: Any, bits_per_entry: float, rng: int | None = None) -> VectorQuantized:
    """`faiss.ProductQuantizer`: a codebook for each run of columns.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
        Of indices of 1 to 8 bits, with the shortest runs that then fit, the two that use most of
        the budget are tried.
    rng : int, optional

    Returns
    -------
    VectorQuantized

    Raises
    ------
    BudgetError
        If no codebooks and their indices fit.
    MissingPackageError
        If faiss is not installed.
    """
    faiss = _faiss()
    A = check_matrix(A)
    budget = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    tried = [_product(faiss, A, *plan, rng or 0) for plan in _plans(A.shape, budget)]
    return min(tried, key=lambda f: f.relative_error(A))


def optimized_product(A: Any, bits_per_entry: float, rng: int | None = None) -> Rotated:
    """`faiss.OPQMatrix` before `faiss.ProductQuantizer`: the rotation is stored as well.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional

    Returns
    -------
    Rotated

    Raises
    ------
    BudgetError
        If the rotation, codebooks and indices do not fit.
    MissingPackageError
        If faiss is not installed.
    """
    faiss = _faiss()
    A = check_matrix(A)
    d = A.shape[1]
    budget = check_real(bits_per_entry, "bits_per_entry") * A.size / 8
    rotation = 2 * (d + 8) * d + 4  # at most: padding adds columns
    if rotation >= budget:
        raise BudgetError(
            f"bits_per_entry: the rotation alone takes {rotation} bytes in float16, "
            f"the budget is {budget:.0f}"
        )
    width, length = _plans(A.shape, budget - rotation)[-1]
    words = -(-d // length)
    X = np.pad(A, ((0, 0), (0, words * length - d)))
    turn = faiss.OPQMatrix(X.shape[1], words)
    pq = _quantizer(faiss, X.shape[1], words, width, rng or 0)  # turn only borrows it
    turn.pq = pq
    turn.niter, turn.niter_pq, turn.niter_pq_0 = _OPQ_ROUNDS, 4, _ROUNDS
    # With fewer vectors than columns faiss 1.15 writes beyond its buffers and kills the process.
    turn.max_train_points = max(_POINTS * 2**width, X.shape[1])
    with _threads(faiss):
        turn.train(X if len(X) >= X.shape[1] else np.resize(X, (X.shape[1],) * 2))
    matrix = faiss.vector_to_array(turn.A).reshape(X.shape[1], X.shape[1])
    base = _product(faiss, X @ matrix.T, width, length, rng or 0)
    return Rotated(base, half(matrix[:, :d]), {"method": "OPQ", **base.meta})


def _plans(shape: tuple[int, int], budget: float) -> list[tuple[int, int]]:
    """Widths of indices and lengths of runs that fit, the fullest last; all have their points."""
    n, d = shape
    plans = []
    for width in range(1, 9):
        for length in range(1, d + 1):
            words = -(-d // length)
            nbytes = -(-n * words * width // 8) + 2 * 2**width * words * length + 4
            if nbytes <= budget and 2**width <= n:
                plans.append((words * width, width, length))
                break
    if not plans:
        raise BudgetError(f"bits_per_entry: no codebooks and indices fit {budget:.0f} bytes")
    return [(width, length) for _, width, length in sorted(plans)[-2:]]


def _quantizer(faiss: Any, d: int, words: int, width: int, seed: int) -> Any:
    pq = faiss.ProductQuantizer(d, words, width)
    pq.cp.niter, pq.cp.seed = _ROUNDS, seed
    pq.cp.max_points_per_centroid = _POINTS
    pq.cp.min_points_per_centroid = 1  # or faiss prints a warning for each run of columns
    return pq


def _product(faiss: Any, A: np.ndarray, width: int, length: int, seed: int) -> VectorQuantized:
    n, d = A.shape
    words = -(-d // length)
    X = np.ascontiguousarray(np.pad(A, ((0, 0), (0, words * length - d))), np.float32)
    pq = _quantizer(faiss, X.shape[1], words, width, seed)
    with _threads(faiss):
        pq.train(X)
        found = pq.compute_codes(X)
    if width < 8:  # a stream of bits for each row, the lowest first
        bits = np.unpackbits(found, axis=1, bitorder="little", count=words * width)
        found = bits.reshape(n, words, width) @ (1 << np.arange(width, dtype=np.uint8))
    book = half(faiss.vector_to_array(pq.centroids).reshape(-1, length))
    meta = {"method": "PQ", "length": length}
    return VectorQuantized((n, d), words, width, pack_words(found, width), book, meta)


def rabitq(A: Any, bits_per_entry: float, rng: int | None = None) -> Projected:
    """`faiss.IndexRaBitQ` after a random rotation.

    Parameters
    ----------
    A : array_like of shape (n, d)
    bits_per_entry : float
    rng : int, optional

    Returns
    -------
    Projected
        Decoded to the vectors whose inner products the index estimates with: the residual's
        length over the inner product of residual and code, times the code.

    Raises
    ------
    BudgetError
        If one bit an entry and a number a row exceed the budget by more than a tenth.
    MissingPackageError
        If faiss is not installed or has no RaBitQ.

    References
    ----------
    Gao, Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for
    approximate nearest neighbor search", SIGMOD 2024.
    """
    faiss = _faiss()
    if not hasattr(faiss, "IndexRaBitQ"):
        raise MissingPackageError("RaBitQ: needs a newer faiss-cpu; run pip install -U faiss-cpu")
    A = check_matrix(A)
    n, d = A.shape
    asked = check_real(bits_per_entry, "bits_per_entry")
    constants = 8 * (2 * n + 2 * d + 8 + Projected.seed_nbytes) / A.size
    bits = min(int(asked * (1 + SLACK) - constants), 9)
    if bits < 1:
        raise BudgetError(
            f"bits_per_entry: RaBitQ takes {1 + constants:.3g} bits with a number a row"
        )
    seed = int(rng or 0)
    X = A @ _rotation(d, d, seed).T
    index = faiss.IndexRaBitQ(d, faiss.METRIC_L2, bits)
    with _threads(faiss):
        index.train(X)
        found = index.sa_encode(X)
    # Sign bits; two factors, and a third beside more bits; those, and two factors of their own.
    signs = np.unpackbits(found[:, : -(-d // 8)], axis=1, bitorder="little", count=d)
    codes, after = signs.astype(np.intp), -(-d // 8)
    if bits == 1:
        # The factor carries 1/sqrt(d); a code is half a step from the middle.
        step = 2 / np.sqrt(d) * _floats(found[:, after : after + 8])[:, 1]
    else:
        size = -(-d * (bits - 1) // 8)
        more = found[:, after + 12 : after + 12 + size]
        unpacked = np.unpackbits(more, axis=1, bitorder="little", count=d * (bits - 1))
        weights = 1 << np.arange(bits - 1)
        codes = (codes << (bits - 1)) + unpacked.reshape(n, d, bits - 1) @ weights
        step = _floats(found[:, after + 12 + size :])[:, 1] / -2  # of minus twice the product
    base = SignedLevels((n, d), bits, pack_words(codes, bits), half(step[:, None]))
    centre = half(faiss.vector_to_array(index.center)[None, :])
    return Projected(Shifted(base, centre), d, seed, _rotation, {"method": "RaBitQ", "bits": bits})


def _floats(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block).view("<f4")


def _rotation(k: int, d: int, seed: int) -> np.ndarray:
    """The random rotation that faiss makes of a seed; its rows are the new axes."""
    faiss = _faiss()
    turn = faiss.RandomRotationMatrix(d, k)
    turn.init(seed)
    return faiss.vector_to_array(turn.A).reshape(k, d)


def _faiss() -> Any:
    return optional("faiss", "method")


@contextmanager
def _threads(faiss: Any) -> Iterator[None]:
    from lplr.parallel import n_threads

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
