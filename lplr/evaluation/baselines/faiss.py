"""The quantizers of faiss (extra ``bench``), stored as what their decoders need.

Codebooks, rotations and centres are float16, and rotations that are random are a seed: faiss itself
writes float32 and the matrix. faiss runs on as many threads as this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lplr.evaluation.baselines.stored import (
    Baseline,
    Parts,
    half,
    pack_indices,
    projected,
    shifted,
    unpack_indices,
)
from lplr.evaluation.baselines.vectors import cut, subvector_plans, vector_quantized
from lplr.exceptions import BudgetError, MissingPackageError
from lplr.extras import optional
from lplr.matrices.errors import ReadRows

__all__ = ["SLACK", "optimized_product", "product", "rabitq", "scalar"]

# Codes of whole bits cannot be narrowed to make room for their constants: those may exceed the
# budget by this much, in favour of the baseline.
SLACK = 0.1
_POINTS = 64  # training vectors for a centroid; faiss takes up to 256
_ROUNDS = 15  # of k-means; faiss takes 25
_OPQ_ROUNDS = 8  # faiss takes 50, which is minutes on a machine of two cores


def scalar(A: np.ndarray, budget: float, rng: int | None) -> Baseline:
    """`faiss.IndexScalarQuantizer` of the best type that there is for a whole number of bits.

    Types that take ranges from the data are given the matrix as it is; those with levels for
    normal data lose nearly everything that way, so that each type meets standardised columns too.
    """
    bits = 8 * budget / A.size
    types = [k for k in dir(_faiss().ScalarQuantizer) if k.startswith(f"QT_{bits:g}bit")]
    tried = [
        _scalar(A, kind, standardised)
        for kind in sorted(types)
        if "direct" not in kind
        for standardised in (False, True)
    ]
    tried = [f for f in tried if f.nbytes <= (1 + SLACK) * budget]
    if not tried:
        raise BudgetError(f"bits_per_entry: ScalarQuantizer has no type of {bits:g} bits that fits")
    return min(tried, key=lambda f: f.relative_error(A))


def _scalar(A: np.ndarray, kind: str, standardised: bool) -> Baseline:
    faiss = _faiss()
    parts: dict[str, Any] = {}
    X = A
    if standardised:
        parts["mean"] = half(A.mean(axis=0, keepdims=True))
        parts["scale"] = half(A.std(axis=0, keepdims=True))
        width = parts["scale"].to_dense()
        X = (A - parts["mean"].to_dense()) / np.where(width > 0, width, 1)
    index = faiss.IndexScalarQuantizer(A.shape[1], getattr(faiss.ScalarQuantizer, kind))
    with _threads():
        index.train(X)
        parts["codes"] = index.sa_encode(X)
    parts["trained"] = faiss.vector_to_array(index.sq.trained)  # ranges of the columns, or levels

    def decode(parts: Parts) -> ReadRows:
        index = faiss.IndexScalarQuantizer(A.shape[1], getattr(faiss.ScalarQuantizer, kind))
        faiss.copy_array_to_vector(parts["trained"], index.sq.trained)
        index.is_trained = True
        codes = parts["codes"]
        if "scale" not in parts:
            return lambda start, stop: index.sa_decode(codes[start:stop])
        scale, mean = parts["scale"].to_dense(), parts["mean"].to_dense()
        return lambda start, stop: index.sa_decode(codes[start:stop]) * scale + mean

    return Baseline(A.shape, parts, decode, {"method": "ScalarQuantizer", "type": kind})


def product(A: np.ndarray, budget: float, rng: int | None) -> Baseline:
    """`faiss.ProductQuantizer`: a codebook for each run of columns."""
    _faiss()
    plans = subvector_plans(A.shape, budget, shared=False)
    tried = (_product(A, *plan, rng or 0) for plan in plans)
    return min(tried, key=lambda f: f.relative_error(A))


def optimized_product(A: np.ndarray, budget: float, rng: int | None) -> Baseline:
    """`faiss.OPQMatrix` before `faiss.ProductQuantizer`: the rotation is stored as well."""
    faiss = _faiss()
    d = A.shape[1]
    rotation_nbytes = 2 * (d + 8) * d + 4  # at most: padding adds columns
    if rotation_nbytes >= budget:
        raise BudgetError(
            f"bits_per_entry: the rotation alone takes {rotation_nbytes} bytes in float16, "
            f"the budget is {budget:.0f}"
        )
    width, length = subvector_plans(A.shape, budget - rotation_nbytes, shared=False)[-1]
    X = cut(A, length)
    wide = X.shape[1]
    turn = faiss.OPQMatrix(wide, wide // length)
    pq = _quantizer(wide, length, width, rng or 0)  # turn only borrows it
    turn.pq = pq
    turn.niter, turn.niter_pq, turn.niter_pq_0 = _OPQ_ROUNDS, 4, _ROUNDS
    # With fewer vectors than columns faiss 1.15 writes beyond its buffers and kills the process.
    turn.max_train_points = max(_POINTS * 2**width, wide)
    with _threads():
        turn.train(X if len(X) >= wide else np.resize(X, (wide, wide)))
    matrix = faiss.vector_to_array(turn.A).reshape(wide, wide)
    base = _product(X @ matrix.T, width, length, rng or 0)

    def decode(parts: Parts) -> ReadRows:
        rows, rotation = parts["base"]._row_reader(), parts["rotation"].to_dense()
        return lambda start, stop: rows(start, stop) @ rotation

    parts = {"base": base, "rotation": half(matrix[:, :d])}
    return Baseline(A.shape, parts, decode, {**base.meta, "method": "OPQ"})


def _quantizer(d: int, length: int, width: int, seed: int) -> Any:
    pq = _faiss().ProductQuantizer(d, d // length, width)
    pq.cp.niter, pq.cp.seed = _ROUNDS, seed
    pq.cp.max_points_per_centroid = _POINTS
    pq.cp.min_points_per_centroid = 1  # or faiss prints a warning for each run of columns
    return pq


def _product(A: np.ndarray, width: int, length: int, seed: int) -> Baseline:
    X = np.ascontiguousarray(cut(A, length), np.float32)
    n, pieces = len(X), X.shape[1] // length
    pq = _quantizer(X.shape[1], length, width, seed)
    with _threads():
        pq.train(X)
        found = pq.compute_codes(X)
    if width < 8:  # a stream of bits for each row, the lowest first
        bits = np.unpackbits(found, axis=1, bitorder="little", count=pieces * width)
        found = bits.reshape(n, pieces, width) @ (1 << np.arange(width, dtype=np.uint8))
    centres = _faiss().vector_to_array(pq.centroids).reshape(pieces, 2**width, length)
    return vector_quantized(A.shape, found, centres, {"method": "PQ", "length": length})


def rabitq(A: np.ndarray, budget: float, rng: int | None) -> Baseline:
    """`faiss.IndexRaBitQ` after a random rotation.

    Decoded to the vectors whose inner products the index estimates with: the residual's length
    over the inner product of residual and code, times the code.

    References
    ----------
    Gao, Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for
    approximate nearest neighbor search", SIGMOD 2024.
    """
    faiss = _faiss()
    if not hasattr(faiss, "IndexRaBitQ"):
        raise MissingPackageError("RaBitQ: needs a newer faiss-cpu; run pip install -U faiss-cpu")
    n, d = A.shape
    constants = 8 * (2 * n + 2 * d + 8 + 8) / A.size  # steps, centre, their scales, and the seed
    bits = min(int(8 * budget / A.size * (1 + SLACK) - constants), 9)
    if bits < 1:
        raise BudgetError(
            f"bits_per_entry: RaBitQ takes {1 + constants:.3g} bits with a number a row"
        )
    seed = int(rng or 0)
    X = A @ _rotation(d, d, seed).T
    index = faiss.IndexRaBitQ(d, faiss.METRIC_L2, bits)
    with _threads():
        index.train(X)
        found = index.sa_encode(X)
    codes, step = _codes_of_rabitq(found, d, bits)

    def decode(parts: Parts) -> ReadRows:
        # Entries are odd multiples of half a step, with a step for each row.
        codes = unpack_indices(parts["codes"], bits, n * d).reshape(n, d)
        step, middle = parts["step"].to_dense(), np.float32((2**bits - 1) / 2)
        return lambda start, stop: (codes[start:stop] - middle) * step[start:stop]

    parts = {"codes": pack_indices(codes, bits), "step": half(step[:, None])}
    residual = shifted(
        Baseline((n, d), parts, decode), half(faiss.vector_to_array(index.center)[None, :])
    )
    return projected(residual, d, seed, _rotation, {"method": "RaBitQ", "bits": bits})


def _codes_of_rabitq(found: np.ndarray, d: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and steps of rows as faiss lays them out.

    First come the sign bits; then two factors, and a third beside more bits; then those bits, and
    two factors of their own.
    """
    after = -(-d // 8)
    signs = np.unpackbits(found[:, :after], axis=1, bitorder="little", count=d).astype(np.intp)
    if bits == 1:
        # The factor carries 1/sqrt(d); a code is half a step from the middle.
        return signs, 2 / np.sqrt(d) * _floats(found[:, after : after + 8])[:, 1]
    size = -(-d * (bits - 1) // 8)
    more = found[:, after + 12 : after + 12 + size]
    unpacked = np.unpackbits(more, axis=1, bitorder="little", count=d * (bits - 1))
    low = unpacked.reshape(len(found), d, bits - 1) @ (1 << np.arange(bits - 1))
    # The factor is minus twice the product.
    return (signs << (bits - 1)) + low, _floats(found[:, after + 12 + size :])[:, 1] / -2


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
def _threads() -> Iterator[None]:
    from lplr.parallel import n_threads

    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
