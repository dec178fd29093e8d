"""Packed matrices side by side or above each other: vectors of one factor at several rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import Artefact
from lplr.matrices.quantized import Quantized

__all__ = ["Stacked"]


@dataclass(frozen=True, eq=False, repr=False)
class Stacked(Artefact):
    """Quantized matrices with codebooks of their own, joined to one matrix.

    Parameters
    ----------
    parts : sequence of Quantized
        Equal in the other dimension, and without offsets.
    axis : {0, 1}
        Above each other (0), or side by side (1).
    meta : mapping
        JSON-able record of how the object was made.

    Raises
    ------
    InputError
        If the parts do not fit each other.

    Examples
    --------
    >>> import lplr
    >>> from lplr.matrices.stacked import Stacked
    >>> A = lplr.datasets.synthetic(80, 60, "power", exponent=1.0, rng=0)
    >>> f = lplr.factorize(A, bits_per_entry=2, rng=0)
    >>> type(f.left).__name__, f.left.shape == (80, f.rank)
    ('Stacked', True)
    >>> Stacked(f.left.parts[:2], axis=1).shape[0]
    80
    """

    parts: tuple[Quantized, ...]
    axis: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("stacked", 1)

    def __post_init__(self) -> None:
        parts = tuple(self.parts)
        if not parts or not all(isinstance(part, Quantized) for part in parts):
            raise InputError("parts: must be one or more Quantized matrices")
        if any(part.offset is not None for part in parts):
            raise InputError("parts: must have no offset")
        if self.axis not in (0, 1):
            raise InputError(f"axis: must be 0 or 1, found {self.axis!r}")
        sizes = {part.shape[1 - self.axis] for part in parts}
        if len(sizes) > 1:
            raise InputError(f"parts: differ in the other dimension, found {sorted(sizes)}")
        shape = [0, 0]
        shape[1 - self.axis] = sizes.pop()
        shape[self.axis] = sum(part.shape[self.axis] for part in parts)
        for name, value in (
            ("parts", parts),
            ("axis", int(self.axis)),
            ("shape", tuple(shape)),
            ("meta", MappingProxyType(dict(self.meta))),
        ):
            object.__setattr__(self, name, value)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts)

    @property
    def code(self) -> str:
        """The codebooks, in words."""
        names = sorted({part.quantizer for part in self.parts})
        bits = [part.bits for part in self.parts]
        return f"{' and '.join(names)} {min(bits)} to {max(bits)} bits"

    def scaled(self, factor: float) -> Stacked:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float

        Returns
        -------
        Stacked
        """
        return Stacked(tuple(part.scaled(factor) for part in self.parts), self.axis, self.meta)

    @property
    def _edges(self) -> list[int]:
        """Where each part begins along ``axis``, and where the last one ends."""
        return np.cumsum([0] + [part.shape[self.axis] for part in self.parts]).tolist()

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, float32.

        Parameters
        ----------
        start, stop : int
            ``0 <= start <= stop <= n``.

        Returns
        -------
        ndarray of shape (stop - start, d), float32

        Raises
        ------
        InputError
            If there are no such rows.
        """
        self._check_rows(start, stop)
        out = np.empty((stop - start, self.shape[1]), np.float32)
        for part, (low, high) in zip(self.parts, pairwise(self._edges), strict=True):
            if self.axis == 1:
                out[:, low:high] = part.rows(start, stop)
                continue
            first, last = max(start, low), min(stop, high)
            if first < last:
                out[first - start : last - start] = part.rows(first - low, last - low)
        return out

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, "_matmat", joined=self.axis == 0)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        return self._product(Y, "_rmatmat", joined=self.axis == 1)

    def _product(self, X: np.ndarray, name: str, *, joined: bool) -> np.ndarray:
        """Products of the parts: joined, or of a piece of X each and added."""
        if joined:
            return np.concatenate([getattr(part, name)(X) for part in self.parts])
        pieces = (X[low:high] for low, high in pairwise(self._edges))
        terms = [getattr(q, name)(x) for q, x in zip(self.parts, pieces, strict=True)]
        return sum(terms[1:], start=terms[0])

    def _summary(self) -> dict[str, str]:
        return {**super()._summary(), "code": self.code}

    def _state(self) -> dict[str, Any]:
        """All parts in a few arrays: a group for each would cost a kilobyte."""
        numbers = [part.scale.reshape(-1) for part in self.parts]
        return {
            "axis": self.axis,
            "across": self.shape[1 - self.axis],
            "quantizers": " ".join(part.quantizer for part in self.parts),
            "bits": np.array([part.bits for part in self.parts], np.float32),
            "sizes": np.array([part.shape[self.axis] for part in self.parts], np.int64),
            "vectors": np.array([part.axis for part in self.parts], np.uint8),
            "scales": np.array([part.scale.shape for part in self.parts], np.int64),
            "code_bytes": np.array([part.codes.size for part in self.parts], np.int64),
            "codes": np.concatenate([part.codes for part in self.parts]),
            "scale": np.concatenate(numbers),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        state = dict(state)
        meta = state.pop("meta", {})
        try:
            table = zip(
                state["quantizers"].split(" "),
                state["bits"].tolist(),
                state["sizes"].tolist(),
                state["vectors"].tolist(),
                [tuple(shape) for shape in state["scales"].tolist()],
                _split(state["codes"], state["code_bytes"].tolist()),
                _split(state["scale"], state["scales"].prod(axis=1).tolist()),
                strict=True,
            )
            axis, across = state["axis"], state["across"]
            if len(state) != 10 or axis not in (0, 1):
                raise ValueError("a stack of matrices has other members")
            parts = [
                Quantized(
                    (size, across) if axis == 0 else (across, size),
                    quantizer,
                    bits,
                    codes,
                    scale.reshape(shape),
                    axis=vectors,
                )
                for quantizer, bits, size, vectors, shape, codes, scale in table
            ]
        except (KeyError, AttributeError, TypeError, IndexError, np.exceptions.AxisError) as error:
            raise ValueError(f"not a stack of matrices: {error}") from error
        return cls(tuple(parts), axis, meta)


def _split(array: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Consecutive pieces of the given sizes, all of the array."""
    if min(sizes, default=0) < 0 or sum(sizes) != array.size:
        raise ValueError("the parts of a stack of matrices do not add up to it")
    return np.split(array, np.cumsum(sizes)[:-1])
