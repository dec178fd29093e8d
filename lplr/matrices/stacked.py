"""Packed matrices side by side or above each other: vectors of one factor at several rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.matrices.quantized import Quantized
from lplr.matrices.vector_product import VectorProduct
from lplr.validation.arguments import check_integer, tuple_of

__all__ = ["Stacked"]


@dataclass(frozen=True, eq=False, repr=False)
class Stacked(PackedMatrix):
    """Quantized matrices with codebooks of their own, joined to one matrix.

    Parameters
    ----------
    blocks : sequence of Quantized or Stacked
        Equal in the other dimension, and without offsets. A stack in it is of the other axis and
        consists of Quantized matrices: blocks of rows, for instance, each in groups of columns.
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

    blocks: tuple[Quantized | Stacked, ...]
    axis: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("stacked", 3)  # 1 and 2 had no stacks in a stack

    def __post_init__(self) -> None:
        blocks = tuple_of(self.blocks)
        if not blocks or not all(isinstance(block, (Quantized, Stacked)) for block in blocks):
            raise InputError("blocks: must be one or more Quantized or Stacked matrices")
        check_integer(self.axis, "axis", 0, 1)
        for block in blocks:
            if isinstance(block, Quantized) and block.offset is not None:
                raise InputError("blocks: must have no offset")
            if isinstance(block, Stacked) and (block.axis == self.axis or block._is_nested):
                raise InputError(
                    "blocks: a stack in a stack must be of the other axis, of Quantized matrices"
                )
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
        names = sorted({q.quantizer for q in self._leaves()})
        bits = [q.bits for q in self._leaves()]
        return f"{' and '.join(names)} {min(bits)} to {max(bits)} bits"

    def scaled(self, factor: float) -> Stacked:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float
        """
        return replace(self, blocks=tuple(block.scaled(factor) for block in self.blocks))

    @property
    def _is_nested(self) -> bool:
        """Whether there are stacks in it."""
        return any(isinstance(block, Stacked) for block in self.blocks)

    def _leaves(self) -> Iterator[Quantized]:
        """The matrices that it is made of in the end, in the order of the blocks."""
        for block in self.blocks:
            yield from block._leaves() if isinstance(block, Stacked) else (block,)

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

    def _lay_out(self, product: VectorProduct, source: int, target: int) -> bool:
        places = zip(self.blocks, self._edges[:-1], strict=True)
        if self.axis == 0:
            return all(block._lay_out(product, source, target + at) for block, at in places)
        return all(block._lay_out(product, source + at, target) for block, at in places)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        return self._product(Y, "_rmatmat", joined=self.axis == 1)

    def _product(self, X: np.ndarray, name: str, *, joined: bool) -> np.ndarray:
        """Products of the blocks: joined, or of a piece of X each and added."""
        if joined:
            return np.concatenate([getattr(block, name)(X) for block in self.blocks])
        pieces = (X[low:high] for low, high in pairwise(self._edges))
        terms = [getattr(q, name)(x) for q, x in zip(self.blocks, pieces, strict=True)]
        return sum(terms[1:], start=terms[0])

    @property
    def _version(self) -> int:
        return 3 if self._is_nested else 2

    def _state(self) -> dict[str, Any]:
        """The arrays of all blocks in two, since each array of a file costs some bytes."""
        return {
            **self._layout(),
            "codes": np.concatenate([q.codes for q in self._leaves()]),
            "scale": np.concatenate([q.scale.reshape(-1) for q in self._leaves()]),
        }

    def _layout(self) -> dict[str, Any]:
        """The state without its arrays: that of a stack in a stack lies among the blocks."""
        blocks = [
            block._layout() if isinstance(block, Stacked) else _described(block, self.axis)
            for block in self.blocks
        ]
        return {"axis": self.axis, "across": self.shape[1 - self.axis], "blocks": blocks}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        state = dict(state)
        meta = state.pop("meta", {})
        try:
            if "blocks" not in state:
                state = _from_version_1(state)
            codes, scale = _Pieces(state.pop("codes")), _Pieces(state.pop("scale"))
            stack = cls._laid_out(state, codes, scale)
            codes.check_used()
            scale.check_used()
        except (KeyError, AttributeError, TypeError, IndexError, np.exceptions.AxisError) as error:
            raise ValueError(f"not a stack of matrices: {error}") from error
        return replace(stack, meta=meta)

    @classmethod
    def _laid_out(cls, layout: dict[str, Any], codes: _Pieces, scale: _Pieces) -> Self:
        """The stack of a layout, its arrays taken from those of all."""
        axis, across, entries = layout["axis"], layout["across"], layout["blocks"]
        if len(layout) != 3 or axis not in (0, 1):
            raise ValueError("a stack of matrices has other members")
        blocks: list[Quantized | Stacked] = []
        for entry in entries:
            if isinstance(entry, dict):
                block: Quantized | Stacked = cls._laid_out(entry, codes, scale)
                if block.shape[1 - axis] != across:
                    raise ValueError("the blocks of a stack of matrices do not fit each other")
            else:
                quantizer, bits, size, vectors, (rows, columns), nbytes = entry
                block = Quantized(
                    (size, across) if axis == 0 else (across, size),
                    quantizer,
                    bits,
                    codes.next(nbytes),
                    scale.next(rows * columns).reshape(rows, columns),
                    axis=vectors,
                )
            blocks.append(block)
        return cls(tuple(blocks), axis)


def _described(q: Quantized, axis: int) -> list[Any]:
    """What a layout says of a block."""
    return [q.quantizer, q.bits, q.shape[axis], q.axis, list(q.scale.shape), q.codes.size]


class _Pieces:
    """An array that is taken in consecutive pieces."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self._start = array, 0

    def next(self, size: int) -> np.ndarray:
        """The next ``size`` entries."""
        start, self._start = self._start, self._start + size
        if size < 0 or self._start > self._array.size:
            raise ValueError("the blocks of a stack of matrices do not add up to it")
        return self._array[start : self._start]

    def check_used(self) -> None:
        """ValueError says that something is left."""
        if self._start != self._array.size:
            raise ValueError("the blocks of a stack of matrices do not add up to it")


def _from_version_1(state: dict[str, Any]) -> dict[str, Any]:
    """The state of version 2 from that of version 1, with an array for each column of blocks."""
    columns = [state.pop("quantizers").split(" ")]
    for name in ("bits", "sizes", "vectors", "scales", "code_bytes"):
        columns.append(state.pop(name).tolist())
    return {**state, "blocks": list(zip(*columns, strict=True))}
