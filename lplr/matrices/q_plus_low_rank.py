"""Q + L R: a quantized backbone plus packed low-rank factors, in rotated coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.matrices.vector_product import VectorProduct
from lplr.parallel import run_blocks

__all__ = ["QPlusLowRank"]

_LARGE = 1 << 26  # entries above which blocks of rows are decoded when they are read


@dataclass(frozen=True, eq=False, repr=False)
class QPlusLowRank(PackedMatrix):
    """W ~ U^T (Q + L R) V with packed Q, L, R and random orthogonal transforms U, V.

    Parameters
    ----------
    backbone : Quantized or Stacked of shape (n, d)
    low_rank : LowRank of shape (n, d), optional
    left, right : RandomizedTransform of size n and of size d, optional
        Stored as seeds; without them the coordinates are those of W. ``left`` may consist of
        blocks: then a row is decoded with those alone that its block mixes.
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
    >>> W = np.random.default_rng(0).standard_normal((24, 40))
    >>> g = lplr.caldera(W, rank=2, rng=0)
    >>> g.shape, g.rank, (g @ np.ones(40)).shape
    ((24, 40), 2, (24,))
    """

    backbone: Quantized | Stacked
    low_rank: LowRank | None = None
    left: RandomizedTransform | None = None
    right: RandomizedTransform | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    encoding: ClassVar[tuple[str, int]] = ("q-plus-low-rank", 2)  # 1 had no blocks

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, (Quantized, Stacked)):
            raise InputError("backbone: must be a Quantized or Stacked matrix")
        shape = self.backbone.shape
        if self.low_rank is not None and (
            not isinstance(self.low_rank, LowRank) or self.low_rank.shape != shape
        ):
            raise InputError(f"low_rank: must be a LowRank of shape {shape}")
        for name, size in (("left", shape[0]), ("right", shape[1])):
            transform = getattr(self, name)
            if transform is not None and (
                not isinstance(transform, RandomizedTransform) or transform.n != size
            ):
                raise InputError(f"{name}: must be a RandomizedTransform of size {size}")
        if self.right is not None and self.right.block is not None:
            raise InputError("right: must have no blocks; only left may")
        self._set(shape=shape, meta=self.meta)

    @property
    def rank(self) -> int:
        """Columns of L; 0 without a low-rank part."""
        return 0 if self.low_rank is None else self.low_rank.rank

    @property
    def nbytes(self) -> int:
        """Bytes of the backbone, the factors, the seeds and the block size, 8 each."""
        factors = 0 if self.low_rank is None else self.low_rank.nbytes
        seeds = sum(8 for transform in (self.left, self.right) if transform is not None)
        block = 8 if self.left is not None and self.left.block is not None else 0
        return self.backbone.nbytes + factors + seeds + block

    def parts(self) -> dict[str, PackedMatrix]:
        """The backbone ``Q``, and ``L`` and ``R`` where there are factors."""
        return {"Q": self.backbone, **({} if self.low_rank is None else self.low_rank.parts())}

    def scaled(self, factor: float) -> QPlusLowRank:
        """The same codes, standing for ``factor`` times the matrix.

        Parameters
        ----------
        factor : float
        """
        low_rank = None if self.low_rank is None else self.low_rank.scaled(factor)
        return replace(self, backbone=self.backbone.scaled(factor), low_rank=low_rank)

    def _all_rows(self) -> np.ndarray:
        out, read, left = np.empty(self.shape, np.float32), self._unmixed(), self.left
        if left is not None and left.blocks > 1:

            def mixed(b: int, _: int) -> None:
                out[left.outside(b)] = _mixed(left, b, read)

            run_blocks(mixed, left.blocks, 1)
            return out

        def rows(start: int, stop: int) -> None:
            out[start:stop] = read(start, stop)

        run_blocks(rows, self.shape[0], self._block_rows)
        return out if left is None else left.undo(out, axis=0)

    def __iter__(self) -> Iterator[np.ndarray]:
        if self.left is not None and (self.left.blocks == 1 or self.left.interleaved):
            return iter(self.to_dense())  # any rows that are neighbours cost all of them
        return super().__iter__()

    def _take(self, rows: np.ndarray) -> np.ndarray:
        left = self.left
        if left is None:
            return super()._take(rows)
        if left.blocks == 1:
            return self._all_rows()[rows]
        out, read = np.empty((len(rows), self.shape[1]), np.float32), self._unmixed()
        places = left.block_of(rows)
        order = np.argsort(places, kind="stable")  # the rows of a block ascend
        needed, first = np.unique(places[order], return_index=True)
        wanted = np.split(order, first[1:])

        def block(i: int, _: int) -> None:
            mixed = np.r_[left.outside(needed[i])]  # ascending as well
            found = _mixed(left, needed[i], read)
            out[wanted[i]] = found[np.searchsorted(mixed, rows[wanted[i]])]

        run_blocks(block, len(needed), 1)
        return out

    def _row_reader(self) -> ReadRows:
        if self.left is None:
            return self._unmixed()
        if self.shape[0] * self.shape[1] > _LARGE:
            return self._row_reader_by_blocks()
        dense = self._all_rows()
        return lambda start, stop: dense[start:stop]

    def _row_reader_by_blocks(self) -> ReadRows:
        left = self.left
        if left is None:
            return self._unmixed()
        if left.blocks == 1 or left.interleaved:  # any rows cost all of them
            dense = self._all_rows()
            return lambda start, stop: dense[start:stop]
        read = self._unmixed()

        def rows(start: int, stop: int) -> np.ndarray:
            if start == stop:
                return np.empty((0, self.shape[1]), np.float32)
            first, last = left.block_of(np.array([start, stop - 1]))
            mixed = [_mixed(left, b, read) for b in range(first, last + 1)]
            start -= left.inside(first).start
            stop -= left.inside(first).start
            return (mixed[0] if len(mixed) == 1 else np.concatenate(mixed))[start:stop]

        return rows

    def _unmixed(self) -> ReadRows:
        """Reads rows of U W, which mixes no rows."""
        Q, right = self.backbone._row_reader(), self.right
        LR = None if self.low_rank is None else self.low_rank._row_reader()

        def rows(start: int, stop: int) -> np.ndarray:
            out = Q(start, stop)
            if LR is not None:
                out += LR(start, stop)
            return out if right is None else right.undo(out, axis=1)

        return rows

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, self.right, self.left, "_matmat")

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        return self._product(Y, self.left, self.right, "_rmatmat")

    def _lay_out(self, product: VectorProduct, source: int, target: int) -> bool:
        left, right = self.left, self.right
        product.rotate(
            None if right is None else right.vector_map(),
            None if left is None else left.vector_map(inverse=True),
        )
        parts = [self.backbone, *([] if self.low_rank is None else [self.low_rank])]
        return all(part._lay_out(product, source, target) for part in parts)

    def _product(
        self,
        X: np.ndarray,
        before: RandomizedTransform | None,
        after: RandomizedTransform | None,
        name: str,
    ) -> np.ndarray:
        """Into the rotated coordinates, through the packed parts, and back."""
        if X.dtype.kind == "c":  # the transforms are real
            parts = (self._product(part, before, after, name) for part in (X.real, X.imag))
            return next(parts) + 1j * next(parts)
        if X.dtype not in (np.float32, np.float64):
            X = X.astype(np.result_type(X, np.float32))
        if before is not None:
            X = before.apply(np.ascontiguousarray(X))
        out = getattr(self.backbone, name)(X)
        if self.low_rank is not None:
            out = out + getattr(self.low_rank, name)(X)
        return out if after is None else after.undo(np.ascontiguousarray(out))

    @property
    def _version(self) -> int:
        return 1 if self.left is None or self.left.block is None else 2

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"backbone": self.backbone}
        if self.low_rank is not None:
            state["low_rank"] = self.low_rank
        for name in ("left", "right"):
            if getattr(self, name) is not None:
                state[f"{name}_seed"] = getattr(self, name).seed
        if self.left is not None and self.left.block is not None:
            state["left_block"] = self.left.block
            state["left_interleaved"] = self.left.interleaved
        return state

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        state = dict(state)
        blocks = {
            key: state.pop(f"left_{key}")
            for key in ("block", "interleaved")
            if f"left_{key}" in state
        }
        if len(blocks) == 1 or (blocks and "left_seed" not in state):
            raise ValueError("a decomposition has left_seed, left_block and left_interleaved")
        for side, name in enumerate(("left", "right")):
            if name in state:
                raise ValueError(f"a decomposition has no {name}, only {name}_seed")
            if f"{name}_seed" in state:
                backbone = state.get("backbone")
                if not isinstance(backbone, (Quantized, Stacked)):
                    raise ValueError("a decomposition needs a quantized backbone")
                options = {} if side else blocks
                size, seed = backbone.shape[side], state.pop(f"{name}_seed")
                state[name] = RandomizedTransform(size, seed, **options)
        return super()._from_state(state)


def _mixed(left: RandomizedTransform, b: int, read: ReadRows) -> np.ndarray:
    """The rows of W that block b of the transform mixes."""
    inside = left.inside(b)
    return left.undo_block(b, read(inside.start, inside.stop))
