"""Packed matrices side by side or above each other: vectors of one factor at several rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import AddProduct, PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.matrices.quantized import Quantized

__all__ = ["Stacked"]


@dataclass(frozen=True, eq=False, repr=False)
class Stacked(PackedMatrix):
    """Quantized matrices with codebooks of their own, joined to one matrix.

    Parameters
    ----------
    blocks : sequence of Quantized
        Equal in the other dimension, and without offsets.
    axis : {0, 1}
        Above each other (0), or side by side (1).
    meta : mapping
        JSON-able record of how the object was made.

    Raises
    ------
    InputError
        If the blocks do not fit each other.

    Examples
    --------
    >>> import lplr
    >>> A = lplr.datasets.synthetic(80, 60, "power", exponent=1.0, rng=0)
    >>> f = lplr.factorize(A, bits_per_entry=2, rng=0)
    >>> type(f.left).__name__, f.left.shape == (80, f.rank)
    ('Stacked', True)
    >>> lplr.Stacked(f.left.blocks[:2], axis=1).shape[0]
    80
    """

    blocks: tuple[Quantized, ...]
    axis: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("stacked", 2)

    def __post_init__(self) -> None:
        blocks = tuple(self.blocks)
        if not blocks or not all(isinstance(block, Quantized) for block in blocks):
            raise InputError("blocks: must be one or more Quantized matrices")
        if any(block.offset is not None for block in blocks):
            raise InputError("blocks: must have no offset")
        if self.axis not in (0, 1):
            raise InputError(f"axis: must be 0 or 1, found {self.axis!r}")
        sizes = {block.shape[1 - self.axis] for block in blocks}
        if len(sizes) > 1:
            raise InputError(f"blocks: differ in the other dimension, found {sorted(sizes)}")
        shape = [0, 0]
        shape[1 - self.axis] = sizes.pop()
        shape[self.axis] = sum(block.shape[self.axis] for block in blocks)
        self._set(blocks=blocks, axis=int(self.axis), shape=tuple(shape), meta=self.meta)

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(block.nbytes for block in self.blocks)

    def parts(self) -> dict[str, PackedMatrix]:
        """The matrix itself, by the name ``matrix``."""
        return {"matrix": self}

    @property
    def code(self) -> str:
        """The quantizers and the range of bits, in words."""
        names = sorted({block.quantizer for block in self.blocks})
        bits = [block.bits for block in self.blocks]
        return f"{' and '.join(names)} {min(bits)} to {max(bits)} bits"

    def scaled(self, factor: float) -> Stacked:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float
        """
        return replace(self, blocks=tuple(block.scaled(factor) for block in self.blocks))

    @property
    def _edges(self) -> list[int]:
        """Where each block begins along ``axis``, and where the last one ends."""
        return np.cumsum([0] + [block.shape[self.axis] for block in self.blocks]).tolist()

    def _row_reader(self) -> ReadRows:
        readers = [block._row_reader() for block in self.blocks]
        edges = self._edges

        def rows(start: int, stop: int) -> np.ndarray:
            out = np.empty((stop - start, self.shape[1]), np.float32)
            for read, low, high in zip(readers, edges[:-1], edges[1:], strict=True):
                if self.axis == 1:
                    out[:, low:high] = read(start, stop)
                    continue
                first, last = max(start, low), min(stop, high)
                if first < last:
                    out[first - start : last - start] = read(first - low, last - low)
            return out

        return rows

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, "_matmat", joined=self.axis == 0)

    def _adder(self) -> AddProduct:
        adds = [block._adder() for block in self.blocks]
        places = [slice(low, high) for low, high in pairwise(self._edges)]
        each = list(zip(adds, places, strict=True))
        joined = self.axis == 0

        def add(x: np.ndarray, out: np.ndarray) -> None:
            for add_block, place in each:
                if joined:
                    add_block(x, out[place])
                else:
                    add_block(x[place], out)

        return add

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        return self._product(Y, "_rmatmat", joined=self.axis == 1)

    def _product(self, X: np.ndarray, name: str, *, joined: bool) -> np.ndarray:
        """Products of the blocks: joined, or of a piece of X each and added."""
        if joined:
            return np.concatenate([getattr(block, name)(X) for block in self.blocks])
        pieces = (X[low:high] for low, high in pairwise(self._edges))
        terms = [getattr(q, name)(x) for q, x in zip(self.blocks, pieces, strict=True)]
        return sum(terms[1:], start=terms[0])

    def _state(self) -> dict[str, Any]:
        """The arrays of all blocks in two, since each array of a file costs some bytes."""
        return {
            "axis": self.axis,
            "across": self.shape[1 - self.axis],
            "blocks": [
                [q.quantizer, q.bits, q.shape[self.axis], q.axis, list(q.scale.shape), q.codes.size]
                for q in self.blocks
            ],
            "codes": np.concatenate([q.codes for q in self.blocks]),
            "scale": np.concatenate([q.scale.reshape(-1) for q in self.blocks]),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        state = dict(state)
        meta = state.pop("meta", {})
        try:
            if "blocks" not in state:
                state = _from_version_1(state)
            axis, across = state["axis"], state["across"]
            if len(state) != 5 or axis not in (0, 1):
                raise ValueError("a stack of matrices has other members")
            quantizers, bits, sizes, vectors, scales, nbytes = zip(*state["blocks"], strict=True)
            arrays = zip(
                _split(state["codes"], nbytes),
                _split(state["scale"], [rows * columns for rows, columns in scales]),
                strict=True,
            )
            blocks = [
                Quantized(
                    (size, across) if axis == 0 else (across, size),
                    quantizers[i],
                    bits[i],
                    codes,
                    scale.reshape(scales[i]),
                    axis=vectors[i],
                )
                for i, (size, (codes, scale)) in enumerate(zip(sizes, arrays, strict=True))
            ]
        except (KeyError, AttributeError, TypeError, IndexError, np.exceptions.AxisError) as error:
            raise ValueError(f"not a stack of matrices: {error}") from error
        return cls(tuple(blocks), axis, meta)


def _from_version_1(state: dict[str, Any]) -> dict[str, Any]:
    """The state of today from that of version 1, with an array for each column of blocks."""
    columns = [state.pop("quantizers").split(" ")]
    for name in ("bits", "sizes", "vectors", "scales", "code_bytes"):
        columns.append(state.pop(name).tolist())
    return {**state, "blocks": list(zip(*columns, strict=True))}


def _split(array: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Consecutive pieces of the given sizes, all of the array."""
    if min(sizes, default=0) < 0 or sum(sizes) != array.size:
        raise ValueError("the blocks of a stack of matrices do not add up to it")
    return np.split(array, np.cumsum(sizes)[:-1])
