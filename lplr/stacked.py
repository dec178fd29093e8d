"""Packed matrices side by side or above each other: vectors of one factor at several rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from lplr.artefact import Artefact
from lplr.exceptions import InputError
from lplr.quantized import Quantized

__all__ = ["Stacked"]


@dataclass(frozen=True, eq=False, repr=False)
class Stacked(Artefact):
    """Quantized matrices with codebooks of their own, joined to one matrix.

    Parameters
    ----------
    parts : sequence of Quantized
        Equal in the other dimension.
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
    >>> import numpy as np
    >>> import lplr
    >>> from lplr.stacked import Stacked
    >>> parts = [lplr.quantize(np.ones((2, 3)), 4), lplr.quantize(np.zeros((5, 3)), 2)]
    >>> s = Stacked(parts, axis=0)
    >>> s.shape, s.to_dense().sum(), s.nbytes == sum(part.nbytes for part in parts)
    ((7, 3), np.float32(6.0), True)
    """

    parts: tuple[Quantized, ...]
    axis: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("stacked", 1)

    def __post_init__(self) -> None:
        parts = tuple(self.parts)
        if not parts or not all(isinstance(part, Quantized) for part in parts):
            raise InputError("parts: must be one or more Quantized matrices")
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
        parts = {f"part_{i:03d}": part for i, part in enumerate(self.parts)}
        return {"axis": self.axis, "parts": len(self.parts), **parts}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        state = dict(state)
        count = state.pop("parts", None)
        if not isinstance(count, int) or not 0 < count <= 999:
            raise ValueError("a stack of matrices names 1 to 999 parts")
        state["parts"] = tuple(state.pop(f"part_{i:03d}", None) for i in range(count))
        return super()._from_state(state)
