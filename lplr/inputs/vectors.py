"""Vectors in the formats of faiss and of the TEXMEX data sets: .fvecs (float32), .bvecs (bytes).

A file is a sequence of vectors of one length d, each stored as d, a little-endian int32, and then
its entries.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.inputs.base import Input

__all__ = ["ENTRIES", "names", "read"]

ENTRIES: dict[str, np.dtype] = {".fvecs": np.dtype("<f4"), ".bvecs": np.dtype("u1")}
_LENGTH = np.dtype("<i4")


def names(path: str) -> list[str]:
    """One empty name: the matrix has none."""
    return [""]


def read(path: str, member: str) -> Input:
    """Open the matrix whose rows are the vectors."""
    dtype = ENTRIES[Path(path).suffix.lower()]
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        lengths = np.frombuffer(file.read(_LENGTH.itemsize), _LENGTH) if size >= 4 else [0]
    d = int(lengths[0])
    vector = 4 + d * dtype.itemsize
    if d < 1 or size < vector:
        raise CorruptFileError(
            f"{path}: is truncated or none of its kind: {size} bytes, and a first vector of {d} "
            "entries"
        )
    if size % vector:
        raise CorruptFileError(
            f"{path}: is truncated, or its vectors are not of one length: {size} bytes are no "
            f"multiple of the {vector} of a vector of {d} entries; write it again"
        )
    return Input(_Vectors(path, (size // vector, d), dtype), path)


@dataclass(frozen=True)
class _Vectors:
    """Rows that are read from the file when they are asked for."""

    path: str
    shape: tuple[int, int]
    dtype: np.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        n, d = self.shape
        start, stop, _ = rows.indices(n)
        stop = max(start, stop)  # NumPy reads all that follows where it is asked for less than none
        vector = np.dtype([("length", _LENGTH), ("entries", self.dtype, (d,))])
        with open(self.path, "rb") as file:
            found = np.fromfile(file, vector, stop - start, offset=start * vector.itemsize)
        if len(found) < stop - start:
            raise CorruptFileError(f"{self.path}: was cut after it was opened; write it again")
        wrong = np.flatnonzero(found["length"] != d)
        if len(wrong):
            raise CorruptFileError(
                f"{self.path}: vector {start + wrong[0]} has {found['length'][wrong[0]]} entries, "
                f"and the first one {d}; write vectors of one length"
            )
        return found["entries"]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
