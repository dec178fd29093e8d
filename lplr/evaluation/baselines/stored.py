"""What the baselines store: packed results whose size counts all that their decoder reads.

Numbers that are not codes (codebooks, means, rotations) are float16 with one power of two as their
scale, half of what the libraries themselves would write: the comparison favours them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lplr.exceptions import BudgetError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import ReadRows
from lplr.matrices.quantized import Quantized
from lplr.planning.sizes import largest_fit

__all__ = [
    "Baseline",
    "half",
    "index_width",
    "largest_size",
    "pack_indices",
    "projected",
    "seed_part",
    "shifted",
    "unpack_indices",
]

Parts = Mapping[str, Any]  # to PackedMatrix or ndarray, both of which know their nbytes


@dataclass(frozen=True, eq=False, repr=False)
class Baseline(PackedMatrix):
    """A packed matrix without a file format: named parts, and what decodes them.

    Parameters
    ----------
    shape : (int, int)
    stored : mapping of str to PackedMatrix or ndarray
        Everything that is stored.
    decode : callable
        ``decode(stored)`` gives a function of (start, stop) that returns these rows, float32. It
        knows of the matrix only what is stored.
    meta : mapping
    """

    shape: tuple[int, int]
    stored: Parts
    decode: Callable[[Parts], ReadRows]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set(shape=self.shape, meta=self.meta)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored."""
        return sum(int(part.nbytes) for part in self.stored.values())

    def parts(self) -> dict[str, PackedMatrix]:
        """What is stored as packed matrices, by name."""
        return {name: x for name, x in self.stored.items() if isinstance(x, PackedMatrix)}

    @cached_property
    def _read(self) -> ReadRows:
        return self.decode(self.stored)

    def _row_reader(self) -> ReadRows:
        return self._read


def shifted(base: PackedMatrix, mean: Quantized) -> Baseline:
    """A packed matrix plus one row, the mean, in each of its rows."""

    def decode(parts: Parts) -> ReadRows:
        rows, shift = parts["base"]._row_reader(), parts["mean"].to_dense()
        return lambda start, stop: rows(start, stop) + shift

    return Baseline(base.shape, {"base": base, "mean": mean}, decode, base.meta)


def projected(
    coordinates: PackedMatrix,
    columns: int,
    seed: int,
    back: Callable[[int, int, int], np.ndarray],
    meta: Mapping[str, Any],
) -> Baseline:
    """Coordinates under a random projection of which only the seed is stored.

    ``back(k, d, seed)`` makes the matrix of shape (k, d) that leads back.
    """

    def decode(parts: Parts) -> ReadRows:
        k = parts["coordinates"].shape[1]
        rows, matrix = parts["coordinates"]._row_reader(), back(k, columns, int(parts["seed"]))
        return lambda start, stop: rows(start, stop) @ matrix

    parts = {"coordinates": coordinates, "seed": seed_part(seed)}
    return Baseline((coordinates.shape[0], columns), parts, decode, meta)


def seed_part(seed: int) -> np.ndarray:
    """A seed as it is stored, in 8 bytes."""
    return np.array(seed, np.uint64)


def half(X: np.ndarray) -> Quantized:
    """A matrix as float16, with a power of two as its scale."""
    from lplr.coding.rounding import round_matrix
    from lplr.quantizers import get_codebook

    return round_matrix(np.ascontiguousarray(X, np.float32), get_codebook("uniform", 16))


def index_width(count: int) -> int:
    """Bits of an index into ``count`` things, ``ceil(log2 count)`` and at least 1."""
    return max(1, (count - 1).bit_length())


def pack_indices(indices: np.ndarray, width: int) -> np.ndarray:
    """Integers of any width as one stream of bits, as `lplr.quantizers.packing` packs them."""
    from lplr.quantizers.packing import WIDTHS, pack

    if width in WIDTHS:
        return pack(indices, width)
    bits = (indices.reshape(-1, 1) >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little")


def unpack_indices(packed: np.ndarray, width: int, count: int) -> np.ndarray:
    """The inverse of `pack_indices`, flat."""
    from lplr.quantizers.packing import WIDTHS, unpack

    if width in WIDTHS:
        return unpack(packed, width, count)
    bits = np.unpackbits(packed, bitorder="little", count=count * width).reshape(count, width)
    return bits @ (1 << np.arange(width))


def largest_size(
    most: int, nbytes: Callable[[int], int], budget: float, least: int = 1, what: str = "rank 1"
) -> int:
    """The largest size from ``least`` to ``most`` of at most ``budget`` bytes, which grow with it.

    Raises
    ------
    BudgetError
        If the least one does not fit.
    """
    size = largest_fit(range(least, most + 1), nbytes, budget)
    if size < least:
        raise BudgetError(
            f"bits_per_entry: {what} takes {nbytes(least)} bytes, the budget is {budget:.0f}"
        )
    return size
