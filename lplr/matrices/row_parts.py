"""Rows in parts: packed matrices above each other, which are opened when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from threading import Lock
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.validation.arguments import check_factor, tuple_of

__all__ = ["Part", "RowParts"]

_ENTRIES = 1 << 20  # decoded at a time, as of other packed matrices
_MIXED = 1024  # rows that a backbone mixes; parts begin where such blocks do
_OPEN = 2  # parts that are kept open: threads that read on meet two at an edge

_T = TypeVar("_T")


class Part(Protocol):
    """Some rows of a packed matrix, which lie elsewhere until they are opened."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def nbytes(self) -> int:
        """As of the packed matrix."""

    def open(self) -> PackedMatrix:
        """The packed matrix, read and verified."""


@dataclass(frozen=True, eq=False, repr=False)
class RowParts(PackedMatrix):
    """Packed matrices above each other, as `lplr.load` gives them of a folder of parts.

    Shape, size, rows, products and errors are those of one matrix; the parts are opened one after
    the other, and at most two are kept in memory.

    Parameters
    ----------
    blocks : sequence of packed matrices or of what has ``shape``, ``nbytes`` and ``open()``
        Of as many columns each.
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
    >>> top, bottom = (lplr.quantize(np.full((2, 3), x), bits=1) for x in (1.0, 2.0))
    >>> f = lplr.RowParts((top, bottom))
    >>> f.shape, f.nbytes == top.nbytes + bottom.nbytes
    ((4, 3), True)
    >>> f[1:3]
    array([[1., 1., 1.],
           [2., 2., 2.]], dtype=float32)
    """

    blocks: tuple[PackedMatrix | Part, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("row-parts", 1)

    def __post_init__(self) -> None:
        blocks = tuple_of(self.blocks)
        if not blocks or not all(
            isinstance(block, PackedMatrix) or hasattr(block, "open") for block in blocks
        ):
            raise InputError("blocks: must be one or more packed matrices")
        if any(isinstance(block, RowParts) for block in blocks):
            raise InputError("blocks: a part has no parts of its own; pass its blocks")
        columns = {block.shape[1] for block in blocks}
        if len(columns) > 1:
            raise InputError(f"blocks: differ in their columns, found {sorted(columns)}")
        shape = sum(block.shape[0] for block in blocks), columns.pop()
        self._set(blocks=blocks, shape=shape, meta=self.meta)

    @cached_property
    def edges(self) -> list[int]:
        """The first row of each part, and the number of all rows."""
        return np.cumsum([0] + [block.shape[0] for block in self.blocks]).tolist()

    def part(self, i: int) -> PackedMatrix:
        """The packed matrix of the rows ``edges[i]`` to ``edges[i + 1]``.

        Parameters
        ----------
        i : int

        Returns
        -------
        PackedMatrix

        Raises
        ------
        CorruptFileError
            If the file of the part is not what it was.
        """
        return self._opened.get(i, lambda: _open(self.blocks[i]))

    def opened(self) -> Iterator[tuple[slice, PackedMatrix]]:
        """The parts in their order, each with its rows."""
        for i, (start, stop) in enumerate(pairwise(self.edges)):
            yield slice(start, stop), self.part(i)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(block.nbytes for block in self.blocks)

    @property
    def rank(self) -> int:
        """Columns of L in the first part."""
        return self.part(0).rank

    def parts(self) -> dict[str, PackedMatrix]:
        """What the first part is made of; the others are coded like it."""
        return self.part(0).parts()

    @property
    def code(self) -> str:
        """The quantizers and bits of the first part, in words."""
        return self.part(0).code

    def scaled(self, factor: float) -> RowParts:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float
        """
        factor = check_factor(factor)
        return replace(self, blocks=tuple(_Scaled(block, factor) for block in self.blocks))

    def __iter__(self) -> Iterator[np.ndarray]:
        for _, part in self.opened():
            yield from part

    def _take(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), self.shape[1]), np.float32)
        places = np.searchsorted(rows, self.edges)
        for i, (first, last) in enumerate(pairwise(places)):
            if first < last:
                out[first:last] = self.part(i)._take(rows[first:last] - self.edges[i])
        return out

    def _row_reader(self) -> ReadRows:
        readers: _Recent[ReadRows] = _Recent()
        edges = np.array(self.edges)

        def rows(start: int, stop: int) -> np.ndarray:
            pieces = []
            while start < stop:
                i = int(np.searchsorted(edges, start, "right")) - 1
                last = min(stop, int(edges[i + 1]))
                read = readers.get(i, partial(self._reader_of, i))
                pieces.append(read(start - int(edges[i]), last - int(edges[i])))
                start = last
            return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

        return rows

    def _reader_of(self, i: int) -> ReadRows:
        return self.part(i)._row_reader_by_blocks()

    @property
    def _block_rows(self) -> int:
        return max(1, _ENTRIES // self.shape[1] // _MIXED) * _MIXED

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return np.concatenate([part._matmat(X) for _, part in self.opened()])

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        total: Any = 0
        for rows, part in self.opened():
            total = total + part._rmatmat(Y[rows])
        return total

    @cached_property
    def _opened(self) -> _Recent[PackedMatrix]:
        return _Recent()

    def _state(self) -> dict[str, Any]:
        return {f"part_{i:05}": _open(block) for i, block in enumerate(self.blocks)}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        state = dict(state)
        meta = state.pop("meta", {})
        names = [f"part_{i:05}" for i in range(len(state))]
        if state.keys() != set(names):
            raise ValueError("parts are not numbered from 0 on")
        blocks = tuple(state[name] for name in names)
        if not all(isinstance(block, PackedMatrix) for block in blocks):
            raise ValueError("a part is not a packed matrix")
        return cls(blocks, meta)


def _open(block: PackedMatrix | Part) -> PackedMatrix:
    return block if isinstance(block, PackedMatrix) else block.open()


@dataclass(frozen=True)
class _Scaled:
    """A part that is scaled when it is opened."""

    block: PackedMatrix | Part
    factor: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.block.shape

    @property
    def nbytes(self) -> int:
        return self.block.nbytes

    def open(self) -> PackedMatrix:
        return _open(self.block).scaled(self.factor)


class _Recent(Generic[_T]):
    """The few things that were asked for last, each made by one thread while others wait."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[int, _T] = OrderedDict()

    def get(self, key: int, make: Callable[[], _T]) -> _T:
        """What was kept under a key, or is made now."""
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= _OPEN:
                    self._kept.popitem(last=False)
                self._kept[key] = make()
            self._kept.move_to_end(key)
            return self._kept[key]
