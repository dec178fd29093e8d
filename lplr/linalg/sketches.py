"""Distributions of random sketches.

A sketch is a distribution first, then a sample: `Sketch` names the distribution of a random
(d, m) matrix S, `Sketch.sample` draws one. Every kind is scaled so that ``E[S S^T] = I_d``; then
``E |A S|_F^2 = |A|_F^2``, and section 3 of LPLR (arXiv 2310.11028) applies as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lplr.linalg.operators import Matrix, Operator, multiply
from lplr.linalg.transforms import RandomizedTransform
from lplr.parallel import run_blocks
from lplr.validation.arguments import check_choice, check_integer, check_rng

__all__ = ["KINDS", "Sketch", "SketchOperator"]

KINDS = ("gaussian", "rademacher", "srht", "sparse-sign")
_BLOCK_ROWS = 256


class SketchOperator(Protocol):
    """A drawn sketch S of shape (d, m)."""

    def apply(self, A: Matrix) -> np.ndarray:
        """``A @ S``, of shape (n, m), for a C-contiguous A (n, d) of the sketch's dtype."""

    def to_dense(self) -> np.ndarray:
        """S itself, of shape (d, m)."""


@dataclass(frozen=True)
class Sketch:
    """A distribution over (d, m) matrices S with ``E[S S^T] = I``.

    Parameters
    ----------
    kind : {"gaussian", "rademacher", "srht", "sparse-sign"}
        gaussian: ``S_ij ~ N(0, 1/m)``. rademacher: ``S_ij = ±1/sqrt(m)``. srht: m distinct
        columns of ``sqrt(d/m) V^T``, V a `RandomizedTransform`. sparse-sign: each row of S has
        min(n_nonzeros, m) entries ``±1/sqrt(n_nonzeros)`` at distinct columns.
    d, m : int
        Rows and columns of S.
    n_nonzeros : int
        Entries of a row of S that are not zero; only for sparse-sign.

    Raises
    ------
    InputError
        If a parameter is out of range; srht needs ``m <= d``.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.sketches import Sketch
    >>> S = Sketch("sparse-sign", d=100, m=20).sample(0)
    >>> S.apply(np.ones((3, 100))).shape
    (3, 20)
    """

    kind: str
    d: int
    m: int
    n_nonzeros: int = 8

    def __post_init__(self) -> None:
        check_choice(self.kind, "kind", KINDS)
        check_integer(self.d, "d", 1)
        check_integer(self.m, "m", 1, self.d if self.kind == "srht" else None)
        check_integer(self.n_nonzeros, "n_nonzeros", 1)

    def sample(
        self, rng: int | np.random.Generator | None = None, dtype: type | np.dtype = np.float64
    ) -> SketchOperator:
        """Draw S.

        Parameters
        ----------
        rng : int, Generator or None
        dtype : float32 or float64
            The dtype of S; a float32 sketch is drawn in float32 and is not the rounded float64 one.

        Returns
        -------
        SketchOperator

        Examples
        --------
        >>> Sketch("gaussian", d=6, m=2).sample(0).to_dense().shape
        (6, 2)
        """
        rng = check_rng(rng)
        dtype = np.dtype(dtype)
        d, m = self.d, self.m
        if self.kind == "srht":
            columns = np.sort(rng.choice(d, m, replace=False))
            return _HadamardSketch(RandomizedTransform.sample(d, rng), columns, dtype)
        if self.kind == "sparse-sign":
            s = min(self.n_nonzeros, m)
            # The s smallest of m uniform keys: distinct columns, every subset equally likely.
            positions = np.concatenate(
                [
                    np.argpartition(rng.random((min(4096, d - i), m), np.float32), s - 1)[:, :s]
                    for i in range(0, d, 4096)
                ]
            ).astype(np.int32)
            return _SparseSketch(positions, _signs(rng, (d, s), dtype) / np.sqrt(dtype.type(s)), m)
        if self.kind == "rademacher":
            return _DenseSketch(_signs(rng, (d, m), dtype) / np.sqrt(dtype.type(m)))
        S = rng.standard_normal((d, m), dtype=dtype)
        S /= np.sqrt(dtype.type(m))
        return _DenseSketch(S)


@dataclass(frozen=True)
class _DenseSketch:
    S: np.ndarray

    def apply(self, A: Matrix) -> np.ndarray:
        return multiply(A, self.S)

    def to_dense(self) -> np.ndarray:
        return self.S


@dataclass(frozen=True)
class _SparseSketch:
    positions: np.ndarray  # int32 (d, s)
    values: np.ndarray  # (d, s)
    m: int

    def apply(self, A: Matrix) -> np.ndarray:
        from lplr.kernels.project import sparse_project

        if isinstance(A, Operator):
            return A.times(self.to_dense())
        A = np.require(A, requirements=["C", "W"])  # kernels are compiled for writable arrays
        out = np.empty((len(A), self.m), A.dtype)
        run_blocks(
            lambda i, j: sparse_project(A, self.positions, self.values, out, i, j),
            len(A),
            _BLOCK_ROWS,
        )
        return out

    def to_dense(self) -> np.ndarray:
        S = np.zeros((len(self.values), self.m), self.values.dtype)
        np.put_along_axis(S, self.positions.astype(np.intp), self.values, axis=1)
        return S


@dataclass(frozen=True)
class _HadamardSketch:
    transform: RandomizedTransform
    columns: np.ndarray  # int (m,)
    dtype: np.dtype

    def apply(self, A: Matrix) -> np.ndarray:
        if isinstance(A, Operator):
            return A.times(self._columns())
        out = np.empty((len(A), len(self.columns)), A.dtype)
        scale = A.dtype.type(np.sqrt(self.transform.n / len(self.columns)))
        # Block by block, so that the transform of all of A never exists.
        for i in range(0, len(A), 8 * _BLOCK_ROWS):
            j = i + 8 * _BLOCK_ROWS
            np.multiply(self.transform.apply(A[i:j], axis=1)[:, self.columns], scale, out=out[i:j])
        return out

    def to_dense(self) -> np.ndarray:
        return self.apply(np.eye(self.transform.n, dtype=self.dtype))

    def _columns(self) -> np.ndarray:
        """S without a square matrix on the way; rounded otherwise than `to_dense`."""
        m = len(self.columns)
        E = np.zeros((self.transform.n, m), self.dtype)
        E[self.columns, np.arange(m)] = np.sqrt(self.transform.n / m)
        return self.transform.undo(E)


def _signs(rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Independent ±1, from one random bit each."""
    size = shape[0] * shape[1]
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-size // 8)), np.uint8), count=size)
    return (2 * bits.astype(dtype) - 1).reshape(shape)
