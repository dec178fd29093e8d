"""Matrices of one value: they are stored exactly, as the offset of codes that stand for nothing."""

from __future__ import annotations

import numpy as np

from lplr.linalg.operators import InputOperator
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.quantizers.base import Codebook

__all__ = ["constant_factors", "constant_matrix", "constant_of", "is_constant"]


def constant_of(A: np.ndarray | InputOperator) -> float | None:
    """The value that all entries have, if they have one."""
    if isinstance(A, InputOperator):
        return A.constant()
    return float(A[0, 0]) if is_constant(A) else None


def is_constant(A: np.ndarray) -> bool:
    """Whether all entries are equal."""
    value = A[0, 0]
    return bool((A[0] == value).all() and (A == value).all())


def constant_matrix(
    shape: tuple[int, int], book: Codebook, value: float | np.ndarray, axis: int
) -> Quantized:
    """A matrix of one value or, if values are (n, 1) or (1, d), of constant rows or columns."""
    n, d = shape
    nbytes = book.nbytes(n, d) if axis == 0 else book.nbytes(d, n)
    return Quantized(
        shape=shape,
        quantizer=book.name,
        bits=book.bits,
        codes=np.zeros(nbytes, np.uint8),
        scale=np.zeros((1, 1), np.float32),
        offset=np.atleast_2d(np.asarray(value, np.float32)),
        axis=axis,
    )


def constant_factors(
    shape: tuple[int, int], value: float, rank: int, books: tuple[Codebook, Codebook]
) -> LowRank:
    """A matrix of one value as factors: L is all ones, and only the first row of R is not zero."""
    n, d = shape
    first = np.zeros((rank, 1), np.float32)
    first[0] = value
    return LowRank(
        constant_matrix((n, rank), books[0], 1.0, axis=0),
        constant_matrix((rank, d), books[1], first, axis=1),
    )
