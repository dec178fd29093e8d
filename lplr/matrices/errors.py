"""Squared errors of an approximation, summed a block of rows at a time in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

from lplr.exceptions import HessianError
from lplr.parallel import matmul, n_threads, run_blocks
from lplr.sources import Source
from lplr.validation.matrices import check_block, check_magnitude, exact_dtype

__all__ = [
    "ReadRows",
    "one_at_a_time",
    "ratio_of_norms",
    "squared_sums",
    "squared_sums_of_source",
    "two_sided_square",
]

_WAITING = 2  # blocks of a source for each thread that are read together
ReadRows = Callable[[int, int], np.ndarray]  # (start, stop) to these rows of a matrix


def squared_sums(
    original: ReadRows,
    approximation: ReadRows,
    rows: int,
    block: int,
    H: np.ndarray | None = None,
    by_row: bool = False,
) -> np.ndarray:
    """``tr(E H E^T)`` and ``tr(A H A^T)``, E the difference, by block of rows or by row.

    The callables give the rows ``start`` to ``stop`` of A and of its approximation; H is (d, d), a
    diagonal (d,) or, by default, the identity. The sums are float64, errors in the first row.
    """
    out = np.empty((2, rows if by_row else -(-rows // block)))

    def sums(start: int, stop: int) -> None:
        a = original(start, stop).astype(np.float64, copy=False)
        for i, x in enumerate((a - approximation(start, stop), a)):
            weighted = x if H is None else x * H if H.ndim == 1 else x @ H
            if by_row:
                out[i, start:stop] = np.einsum("ij,ij->i", weighted, x)
            else:
                out[i, start // block] = np.vdot(weighted, x)

    run_blocks(sums, rows, block)
    return out


def one_at_a_time(read_rows: ReadRows) -> ReadRows:
    """The same for several threads, which wait for each other."""
    lock = Lock()

    def read(start: int, stop: int) -> np.ndarray:
        with lock:
            return read_rows(start, stop)

    return read


def squared_sums_of_source(
    source: Source, read_rows: ReadRows, block: int, H: np.ndarray | None = None
) -> np.ndarray:
    """`squared_sums` by block of rows of a matrix that is read once, in order; the same numbers.

    InputError refuses what `lplr.validation.matrices.check_matrix` refuses in an array.
    """
    n, step = source.shape[0], _WAITING * n_threads() * block
    dtype = exact_dtype(source)
    peaks = []

    def sums(first: int) -> np.ndarray:
        A = source.rows(first, min(first + step, n), dtype)
        peaks.append(check_block(A, source.name, first))
        return squared_sums(
            lambda i, j: A[i:j], lambda i, j: read_rows(first + i, first + j), len(A), block, H
        )

    found = np.concatenate([sums(first) for first in range(0, n, step)], axis=1)
    check_magnitude(max(peaks), source.name)
    return found


def two_sided_square(E: np.ndarray, H: np.ndarray | None, G: np.ndarray) -> float:
    """``tr(G E H E^T)`` of a float64 matrix (n, d); H and G are moments or diagonals."""
    right = E if H is None else E * H if H.ndim == 1 else matmul(E, H)
    left = E * G[:, None] if G.ndim == 1 else matmul(G, E)
    return float(np.vdot(left, right))


def ratio_of_norms(error: float, norm: float) -> float:
    """``sqrt(error / norm)`` of sums of squares; for a zero norm, 0 if the error is, else infinity.

    HessianError says that a sum is negative beyond rounding, which only an indefinite Hessian does.
    """
    if min(error, norm) < -1e-9 * max(abs(error), abs(norm)):
        raise HessianError(
            "hessian: has negative eigenvalues that outweigh the others here; "
            "add damping with lplr.regularize"
        )
    if norm <= 0:
        return 0.0 if error <= 0 else float("inf")
    return float(np.sqrt(max(error, 0.0) / norm))
