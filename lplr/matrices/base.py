"""What every packed matrix is: a SciPy linear operator of known size that can be stored."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.exceptions import InputError
from lplr.linalg.hessian import check_hessian
from lplr.linalg.input_operators import as_matrix
from lplr.linalg.operators import InputOperator
from lplr.matrices.decoded import DecodedMatrix
from lplr.matrices.errors import (
    one_at_a_time,
    ratio_of_norms,
    squared_sums,
    squared_sums_of_source,
    two_sided_square,
)
from lplr.parallel import reproducible
from lplr.sources import Source, opened
from lplr.validation.matrices import exact_dtype

__all__ = ["PackedMatrix"]


class PackedMatrix(DecodedMatrix):
    """A matrix that is stored in few bits: its shape, exact size, products and error.

    The classes `Quantized`, `Stacked`, `LowRank` and `QPlusLowRank` are packed matrices; they are
    frozen dataclasses, and a SciPy linear operator each. This class is abstract.

    Parameters
    ----------
    *args, **kwargs
        The fields of a subclass.

    Attributes
    ----------
    shape : (int, int)
    dtype : float32, of the decoded entries
    meta : mapping
        JSON-able record of how the matrix was made; ``meta["call"]`` repeats the call.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> packed = lplr.quantize(np.eye(8), bits=2)
    >>> isinstance(packed, lplr.PackedMatrix), packed.nbytes, packed.bits_per_entry
    (True, 24, 3.0)
    """

    encoding: ClassVar[tuple[str, int]]
    # Members of every file, though the class has a default for them: what is left out is damage.
    _written: ClassVar[tuple[str, ...]] = ()
    meta: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of everything a decoder needs beyond code and format constants."""
        raise NotImplementedError

    @property
    def bits_per_entry(self) -> float:
        """Stored bits over entries: ``8 * nbytes / (rows * columns)``."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    @property
    def rank(self) -> int:
        """Columns of L; 0 where there are no low-rank factors."""
        return 0

    def parts(self) -> dict[str, PackedMatrix]:
        """The quantized matrices that it is made of, by name: ``matrix``, or ``Q``, ``L``, ``R``.

        Returns
        -------
        dict of str to Quantized or Stacked
        """
        raise NotImplementedError

    @property
    def code(self) -> str:
        """The quantizers and bits of all parts, in words."""
        return ", ".join(f"{name} {part.code}" for name, part in self.parts().items())

    def scaled(self, factor: float) -> Self:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float

        Returns
        -------
        PackedMatrix of the same class
        """
        raise NotImplementedError

    def relative_error(self, A: Any, hessian: Any = None, output_hessian: Any = None) -> float:
        """Error against the original, relative to its norm.

        Parameters
        ----------
        A : array_like, sparse matrix, linear operator or source of shape ``shape``
            What `lplr.sources.open_source` opens is read once, a block of rows at a time; with
            ``output_hessian`` as a whole.
        hessian : array_like of shape (d, d), (d,) or (m, d), optional
            Second moment H of the inputs, its diagonal, or inputs, one per row, as in
            `lplr.compress`; it is not damped here, see `lplr.regularize`.
        output_hessian : array_like of shape (n, n), (n,) or (m, n), optional
            Second moment G of the gradients by the outputs, its diagonal, or gradients, one per
            row; not damped either.

        Returns
        -------
        float
            ``|A - self|_F / |A|_F``, or with H ``sqrt(tr(E H E^T) / tr(A H A^T))``, E the
            difference, or with both ``sqrt(tr(G E H E^T) / tr(G A H A^T))``; 0 for a zero matrix
            that is exact, infinite if it is not.

        Raises
        ------
        InputError
            If an argument does not fit.
        HessianError
            If ``hessian`` or ``output_hessian`` is not a second moment.

        Notes
        -----
        Of a sparse matrix and low-rank factors the error is a sum of inner products in float64,
        which loses digits below 0.01: smaller errors are summed over blocks of rows, as those under
        a ``hessian`` are. A linear operator multiplies as many vectors as its shorter side is long,
        and as it has rows where they are summed.
        """
        A = opened(A)
        if output_hessian is not None or not isinstance(A, Source):
            A = as_matrix(A, dtype=exact_dtype(A))
        if A.shape != self.shape:
            raise InputError(f"A: must have shape {self.shape}, found {A.shape}")
        with reproducible():
            H = None if hessian is None else check_hessian(hessian, self.shape[1])
            if output_hessian is not None:
                G = check_hessian(output_hessian, self.shape[0], "output_hessian")
                if isinstance(A, InputOperator):
                    raise InputError(
                        "A, output_hessian: both weights need an array; pass A.toarray()"
                    )
                A = A.astype(np.float64, copy=False)
                error, norm = (two_sided_square(X, H, G) for X in (A - self.to_dense(), A))
                return ratio_of_norms(error, norm)
            if H is None and isinstance(A, InputOperator):
                return self._relative_error(A)
            return self._error_by_rows(A, H)

    def _relative_error(self, A: InputOperator) -> float:
        """What `relative_error` returns, of a matrix that is no array."""
        return self._error_by_rows(A)

    def _error_by_rows(
        self, A: np.ndarray | InputOperator | Source, H: np.ndarray | None = None
    ) -> float:
        rows, block = self._row_reader(), self._block_rows
        if isinstance(A, Source):
            sums = squared_sums_of_source(A, rows, block, H)
        else:
            read = one_at_a_time(A.rows) if isinstance(A, InputOperator) else lambda i, j: A[i:j]
            sums = squared_sums(read, rows, self.shape[0], block, H)
        error, norm = sums.sum(axis=1)
        return ratio_of_norms(error, norm)

    def _summary(self) -> list[tuple[str, str]]:
        """What a reader wants to know, by name."""
        stored = f"{self.nbytes:,} bytes, {self.bits_per_entry:.4g} bits per entry"
        rank = [("rank", f"rank {self.rank}")] if self.rank else []
        shape = f"{self.shape[0]} x {self.shape[1]}"
        return [("shape", shape), ("stored", stored), *rank, ("code", self.code)]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(said for _, said in self._summary())}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(said)}</td></tr>"
            for name, said in self._summary()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that a copy is checked and frozen like the original.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _rebuild, (type(self), {**values, "meta": dict(self.meta)})

    def _set(self, **values: Any) -> None:
        """Set attributes while the frozen dataclass is being made; ``meta`` becomes read-only."""
        if "shape" in values:
            # A frozen object cannot run the constructor of LinearOperator, whose attributes differ
            # from one release of SciPy to the next: they come from an operator of the same shape.
            self.__dict__.update(vars(_Blank(self.dtype, values["shape"])))
        if "meta" in values:
            values["meta"] = MappingProxyType(dict(values["meta"]))
        self.__dict__.update(values)

    @property
    def _version(self) -> int:
        """Of the encoding that a file needs to hold this object: the oldest that does."""
        return self.encoding[1]

    def _state(self) -> dict[str, Any]:
        """What a file holds: numbers, strings, arrays and packed matrices by name."""
        raise NotImplementedError

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from what a file held; ValueError if anything is missing or does not fit."""
        missing = [name for name in cls._written if name not in state]
        if missing:
            raise ValueError(f"not a {cls.__name__}: it has no {missing[0]}")
        try:
            return cls(**state)
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"not a {cls.__name__}: {error}") from error


class _Blank(LinearOperator):
    """An operator that is nothing but its dtype and shape."""

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def _rebuild(cls: type[PackedMatrix], values: dict[str, Any]) -> PackedMatrix:
    return cls(**values)
