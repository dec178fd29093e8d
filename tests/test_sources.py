"""Matrices that are read in blocks of rows: every kind gives the rows that NumPy has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.exceptions import CorruptFileError, InputError
from lplr.sources import open_source

A = np.random.default_rng(0).standard_normal((60, 7))


def check_rows(source: Any, expected: np.ndarray) -> None:
    """Blocks of any length, in order and back again."""
    dtype = np.float64 if expected.dtype == np.float64 else np.float32
    assert source.shape == expected.shape
    for block in (1, 7, 13, 60):
        starts = range(0, 60, block)
        for start in (*starts, *reversed(starts)):
            rows = source.rows(start, min(start + block, 60))
            assert rows.dtype == dtype
            assert rows.flags.c_contiguous
            np.testing.assert_array_equal(rows, expected[start : start + block].astype(dtype))
    np.testing.assert_array_equal(np.asarray(source), expected.astype(dtype))


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "i1", "u2", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, dtype: str, order: Any) -> None:
    B = np.array(10 * A, dtype, order=order)
    np.save(tmp_path / "A.npy", B)
    check_rows(open_source(tmp_path / "A.npy"), B)
    check_rows(open_source(B), B)


def test_views_of_a_map(tmp_path: Path) -> None:
    """The offset in the file is not a multiple of a page, rows and columns are left out."""
    (tmp_path / "A").write_bytes(bytes(9000) + A.tobytes())
    mapped = np.memmap(tmp_path / "A", np.float64, "r", 9000, (60, 7))
    check_rows(open_source(mapped), A)
    check_rows(open_source(mapped[:, 1:6:2]), A[:, 1:6:2])
    check_rows(open_source(mapped[::-1]), A[::-1])
    private = np.memmap(tmp_path / "A", np.float64, "c", 9000, (60, 7))
    private[3, 4] = 5.0  # in memory alone
    for _ in range(2):
        assert open_source(private).rows(3, 4)[0, 4] == 5.0


def test_a_mapped_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    """Reading beyond the end of the file would end the process."""
    path = tmp_path / "A.npy"
    np.save(path, A)
    source = open_source(path)
    os.truncate(path, path.stat().st_size - 8 * 7 * 2)
    np.testing.assert_array_equal(source.rows(50, 58), A[50:58])
    with pytest.raises(CorruptFileError, match="rows 50 to 59"):
        source.rows(50, 59)
    with pytest.raises(CorruptFileError, match="is truncated"):
        open_source(path)


def test_a_file_gives_the_bytes_of_the_array(tmp_path: Path) -> None:
    np.save(tmp_path / "A.npy", A)
    mapped = np.load(tmp_path / "A.npy", mmap_mode="r")
    for call in (
        lambda A: lplr.factorize(A, rank=2, rng=0),
        lambda A: lplr.compress(A, bits_per_entry=8, rng=0),
        lambda A: lplr.quantize(A, bits=3),
    ):
        expected = call(A)
        for same in (tmp_path / "A.npy", str(tmp_path / "A.npy"), mapped):
            np.testing.assert_array_equal(call(same).to_dense(), expected.to_dense())


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.save(tmp_path / "A.npy", A)
    monkeypatch.setattr("lplr.sources.base.available_memory", lambda: 4 * A.nbytes - 1)
    with pytest.raises(InputError, match=r"takes 3,360 bytes .* quarter of the 13,439"):
        lplr.factorize(tmp_path / "A.npy", rank=2)
    lplr.factorize(A, rank=2)
