"""Matrices that are given row by row, and files of such, for the tests."""

from __future__ import annotations

import numpy as np


def write_vectors(path: str, rows: np.ndarray) -> None:
    """The files of faiss: before each row its length."""
    record = np.dtype([("length", "<i4"), ("entries", rows.dtype, (rows.shape[1],))])
    found = np.empty(len(rows), record)
    found["length"], found["entries"] = rows.shape[1], rows
    found.tofile(path)


class Rows:
    """Nothing but a shape, a dtype and slices of rows."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        assert isinstance(rows, slice)
        return self.array[rows]
