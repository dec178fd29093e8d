"""Products of a packed matrix with one vector after another: planned once, then multiplied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

import numpy as np

from lplr.parallel import run_blocks
from lplr.quantizers.trellis_parts import Parts

__all__ = ["VectorProduct"]

_SHARE = 1 << 20  # entries that are worth a thread: 0.2 ms
_ROWS = 256  # of a part that one thread multiplies, at least

Into = Callable[[np.ndarray, np.ndarray], None]


class _LaysOut(Protocol):
    shape: tuple[int, int]

    def _lay_out(self, product: VectorProduct, source: int, target: int) -> bool: ...


class VectorProduct:
    """``f @ x`` for float32 vectors x, of a matrix f that consists of trellis codes.

    A network multiplies hundreds of matrices for each token. So what is known of a matrix is found
    out once: where its parts lie in a workspace that holds x, the vector between two factors, and
    the result. One call of a kernel then goes through all parts; or through those that add to one
    piece of the workspace, where there are enough for several threads.

    Parameters
    ----------
    shape : (int, int)
        Of f.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._rows, self._columns = shape
        self._size = sum(shape)
        self._fields: list[dict[str, Any]] = []
        self._steps: list[list[Parts]] = []
        self._enter: Into | None = None
        self._leave: Into | None = None

    @classmethod
    def of(cls, matrix: _LaysOut) -> Self | None:
        """The product of a matrix; None where it has parts without a kernel for this."""
        product = cls(matrix.shape)
        if not matrix._lay_out(product, 0, matrix.shape[1]):
            return None
        product._plan()
        return product

    def _plan(self) -> None:
        """Put parts in order: those of vectors between factors first, those of one piece together.

        Nothing depends on the number of threads.
        """
        end = self._columns + self._rows
        between = [part for part in self._fields if part["target"] >= end]
        others = [part for part in self._fields if part["target"] < end]
        work = sum(part["length"] * part["count"] for part in self._fields)
        if work <= _SHARE:
            self._steps = [[Parts([*between, *others])]]
            return
        for parts in filter(None, (between, others)):
            self._steps.append([Parts(piece) for piece in _pieces(parts)])

    def rotate(self, enter: Into | None, leave: Into | None) -> None:
        """Functions that turn x and the result: they read one vector and fill another."""
        self._enter, self._leave = enter, leave

    def room(self, size: int) -> int:
        """Where there is room for a vector between two factors."""
        self._size += size
        return self._size - size

    def add(self, part: dict[str, Any]) -> None:
        """A part, as a codebook gives it."""
        self._fields.append(part)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The product; x is float32 of shape (d,)."""
        d, end = self._columns, self._columns + self._rows
        work = np.zeros(self._size, np.float32)
        if self._enter is None:
            work[:d] = x
        else:
            self._enter(np.ascontiguousarray(x), work[:d])
        for pieces in self._steps:
            if len(pieces) == 1:
                pieces[0].add(work)
            else:

                def add(start: int, stop: int, pieces: list[Parts] = pieces) -> None:
                    pieces[start].add(work)

                run_blocks(add, len(pieces), 1)
        if self._leave is None:
            return work[d:end]
        out = np.empty(self._rows, np.float32)
        self._leave(work[d:end], out)
        return out


def _pieces(parts: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Parts that add to a piece of the workspace, for all pieces that have no entry in common."""
    parts = [piece for part in parts for piece in _rows_of(part)]
    piece: list[dict[str, Any]] = []
    last = 0
    for part in sorted(
        parts, key=lambda part: part["target"]
    ):  # which keeps their order in a piece
        if piece and part["target"] >= last:
            yield piece
            piece = []
        piece.append(part)
        last = max(last, part["target"] + part["length" if part["columns"] else "count"])
    if piece:
        yield piece


def _rows_of(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The part itself if it has few rows, or columns; else parts of a few rows each."""
    n, count = part["length"], part["count"]
    few = count if part["columns"] else max(_ROWS, _SHARE // n)
    if few >= count:
        yield part
        return
    for start in range(0, count, few):
        yield {
            **part,
            "bit": start * (n * part["period"] // 4),
            "count": min(few, count - start),
            "scale": part["scale"][start * part["scale_step"] :],
            "target": part["target"] + start,
        }
