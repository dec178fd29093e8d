"""What every packed result is: a SciPy linear operator of known size that can be stored."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.exceptions import InputError
from lplr.parallel import run_blocks
from lplr.validation import check_matrix

__all__ = ["Artefact"]

Rows = Callable[[int, int], np.ndarray]
_BLOCK = 1 << 20  # entries decoded at a time: 4 MB of float32


class Artefact(LinearOperator):
    """A stored matrix: shape, exact size, products, error against an original.

    Subclasses are frozen dataclasses; they provide the rows, the products and the state that a
    file holds.
    """

    encoding: ClassVar[tuple[str, int]]
    dtype = np.dtype(np.float32)
    shape: tuple[int, int]
    meta: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of everything a decoder needs beyond code and format constants."""
        raise NotImplementedError

    @property
    def bits_per_entry(self) -> float:
        """Stored bits over entries: ``8 * nbytes / (rows * columns)``."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of the dense matrix, float32."""
        raise NotImplementedError

    def to_dense(self) -> np.ndarray:
        """The dense matrix.

        Returns
        -------
        ndarray of shape ``shape``, float32
        """
        out = np.empty(self.shape, np.float32)

        rows = self._decoder()

        def block(start: int, stop: int) -> None:
            out[start:stop] = rows(start, stop)

        run_blocks(block, self.shape[0], self._block_rows)
        return out

    def _check_rows(self, start: int, stop: int) -> None:
        """Refuse rows that do not exist, which a kernel would read from whatever is there."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise InputError(
                f"start, stop: must lie in 0 to {self.shape[0]}, found {start}, {stop}"
            )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """What ``numpy.asarray`` makes of it: the dense matrix."""
        if copy is False:
            raise ValueError("a packed matrix has no dense array that could be shared")
        return self.to_dense().astype(dtype or self.dtype, copy=False)

    def _decoder(self) -> Rows:
        """``rows`` for many calls in turn: what all blocks need is decoded once."""
        return self.rows

    def relative_error(self, A: Any, hessian: Any = None) -> float:
        """Error against the original, relative to its norm.

        Parameters
        ----------
        A : array_like of shape ``shape``
        hessian : array_like of shape (d, d) or (d,), optional
            Second moment H of the inputs, or its diagonal.

        Returns
        -------
        float
            ``|A - self|_F / |A|_F``, or with H ``sqrt(tr(E H E^T) / tr(A H A^T))``, E the
            difference; 0 for a zero matrix that is exact, infinite if it is not.

        Raises
        ------
        InputError
            If ``A`` or ``hessian`` does not fit.
        """
        A = check_matrix(A, "A", dtype=np.float64 if _is_double(A) else np.float32)
        if A.shape != self.shape:
            raise InputError(f"A: must have shape {self.shape}, found {A.shape}")
        H = None
        if hessian is not None:
            H = np.asarray(hessian, np.float64)
            if H.shape not in ((self.shape[1], self.shape[1]), (self.shape[1],)):
                raise InputError(
                    f"hessian: must have shape {(self.shape[1],) * 2} or {(self.shape[1],)}, "
                    f"found {H.shape}"
                )
        blocks = -(-self.shape[0] // self._block_rows)
        sums = np.zeros((2, blocks))
        rows = self._decoder()

        def block(start: int, stop: int) -> None:
            a = A[start:stop].astype(np.float64)
            for i, x in enumerate((a - rows(start, stop), a)):
                weighted = x if H is None else (x * H if H.ndim == 1 else x @ H)
                sums[i, start // self._block_rows] = np.vdot(weighted, x)

        run_blocks(block, self.shape[0], self._block_rows)
        error, norm = sums.sum(axis=1)
        if norm <= 0:
            return 0.0 if error <= 0 else float("inf")
        return float(np.sqrt(max(error, 0.0) / norm))

    @property
    def _block_rows(self) -> int:
        """Rows of a block; a multiple of 8, so that a lattice group is never cut."""
        return max(8, _BLOCK // self.shape[1] // 8 * 8)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._multiply(self.rows, X)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        return self._multiply_transposed(self.rows, Y)

    def _multiply(self, rows: Rows, X: np.ndarray) -> np.ndarray:
        """The product of the matrix that ``rows`` decodes with X, a block of rows at a time."""
        out = np.empty((self.shape[0], X.shape[1]), np.result_type(self.dtype, X))

        def block(start: int, stop: int) -> None:
            np.matmul(rows(start, stop), X, out=out[start:stop])

        run_blocks(block, self.shape[0], self._block_rows)
        return out

    def _multiply_transposed(self, rows: Rows, Y: np.ndarray) -> np.ndarray:
        parts: list[Any] = [None] * -(-self.shape[0] // self._block_rows)

        def block(start: int, stop: int) -> None:
            parts[start // self._block_rows] = rows(start, stop).T @ Y[start:stop]

        run_blocks(block, self.shape[0], self._block_rows)
        return sum(parts[1:], start=parts[0])  # in this order at any number of threads

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1))

    def _rmatvec(self, y: np.ndarray) -> np.ndarray:
        return self._rmatmat(y.reshape(-1, 1))

    def _summary(self) -> dict[str, str]:
        """What a reader wants to know, by name."""
        return {
            "shape": f"{self.shape[0]} x {self.shape[1]}",
            "stored": f"{self.nbytes:,} bytes, {self.bits_per_entry:.4g} bits an entry",
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: " + "; ".join(self._summary().values()) + ">"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>"
            for k, v in self._summary().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that a copy is checked and frozen like the original.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _rebuild, (type(self), {**values, "meta": dict(self.meta)})

    def _state(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from what a file held.

        Raises
        ------
        ValueError
            If anything is missing, does not fit or is out of range.
        """
        try:
            return cls(**state)
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"not a {cls.__name__}: {error}") from error


def _rebuild(cls: type[Artefact], values: dict[str, Any]) -> Artefact:
    return cls(**values)


def _is_double(A: Any) -> bool:
    return getattr(A, "dtype", None) == np.float64
