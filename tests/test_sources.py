"""Matrices that are read in blocks of rows: every kind gives the rows that NumPy has."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from row_sources import Rows, write_vectors

import lplr
from lplr.exceptions import (
    CorruptFileError,
    InputError,
    LplrError,
    MissingPackageError,
)
from lplr.inputs import open_input, read_input
from lplr.inputs.forward import Forward
from lplr.sources import Source, open_source
from lplr.validation.matrices import as_array

A = np.random.default_rng(0).standard_normal((60, 7))
A32 = A.astype(np.float32)
BYTES = (100 + 20 * A).astype(np.uint8)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check_rows(source: Any, expected: np.ndarray) -> None:
    """Blocks of any length, in order and back again, and in another process as well."""
    n, again = len(expected), pickle.loads(pickle.dumps(source))
    half = expected[n // 2 :].astype(again.row_dtype)
    np.testing.assert_array_equal(again.rows(n // 2, n), half)
    dtype = np.float64 if expected.dtype == np.float64 else np.float32
    assert (source.shape, source.dtype, source.row_dtype) == (expected.shape, expected.dtype, dtype)
    for block in (1, 7, 13, n):
        starts = range(0, n, block)
        for start in (*starts, *reversed(starts)):
            rows = source.rows(start, min(start + block, n))
            assert rows.dtype == dtype
            assert rows.flags.c_contiguous
            np.testing.assert_array_equal(rows, expected[start : start + block].astype(dtype))
    whole = np.asarray(source)
    assert whole.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(whole, expected)
    assert np.asarray(source, np.float16).dtype == np.float16


# --- kinds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "i1", "u2", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_and_npy(dtype: str, order: Any) -> None:
    B = np.array(10 * A, dtype, order=order)
    np.save("A.npy", B)
    check_rows(open_source("A.npy"), B)
    check_rows(open_source(Rows(B)), B)
    check_rows(open_source(B), B)


def test_an_array_is_not_copied() -> None:
    assert np.shares_memory(open_source(A).rows(3, 9), A)


def test_views_of_a_map() -> None:
    """The offset in the file is not a multiple of a page, rows and columns are left out."""
    Path("A").write_bytes(bytes(9000) + A.tobytes())
    mapped = np.memmap("A", np.float64, "r", 9000, (60, 7))
    for view in (np.s_[:], np.s_[3:50], np.s_[::-1], np.s_[:, 1:6:2]):
        check_rows(open_source(mapped[view]), A[view])
    private = np.memmap("A", np.float64, "c", 9000, (60, 7))
    private[3, 4] = 5.0  # in memory alone
    for _ in range(2):
        assert open_source(private).rows(3, 4)[0, 4] == 5.0
    with pytest.raises(InputError, match="^A: is a private map"):
        pickle.dumps(open_source(private))


def test_npz() -> None:
    np.savez("many.npz", x=A, y=np.asfortranarray(A32))
    np.savez_compressed("one.npz", A32)
    for name, expected in (("many.npz:x", A), ("many.npz:y", A32), ("one.npz", A32)):
        check_rows(open_source(name), expected)


def test_hdf5() -> None:
    with h5py.File("A.h5", "w") as file:
        file["plain"] = A
        file.create_dataset("group/chunks", data=A32, chunks=(8, 3), compression="gzip")
        file.create_dataset("tall", data=A, chunks=(60, 1))
    for name, expected in (("plain", A), ("group/chunks", A32), ("/tall", A)):
        check_rows(open_source(f"A.h5:{name}"), expected)
        with h5py.File("A.h5") as file:
            check_rows(open_source(file[name]), expected)


def test_vectors_of_faiss() -> None:
    write_vectors("A.fvecs", A32)
    write_vectors("A.bvecs", BYTES)
    check_rows(open_source("A.fvecs"), A32)
    check_rows(open_source("A.bvecs"), BYTES)
    np.testing.assert_array_equal(read_input("A.bvecs").array, BYTES)
    assert open_input("A.fvecs").array[3:2].shape == (0, 7)


def test_parquet() -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"id": list(map(str, range(60))), "e": list(A32), "a": A[:, 0], "b": BYTES[:, 1]}
    parquet.write_table(arrow.table(columns), "A.parquet", row_group_size=17)
    fixed = arrow.FixedSizeListArray.from_arrays(arrow.array(A.ravel()), 7)
    parquet.write_table(arrow.table({"e": fixed}), "fixed.parquet", row_group_size=100)
    parquet.write_table(arrow.table({"x": A32[:, 0], "y": A32[:, 1]}), "plain.parquet")
    beside = np.stack([A[:, 0], BYTES[:, 1]], axis=1)
    for name, expected in (
        ("A.parquet", A32),
        ("A.parquet:e", A32),
        ("A.parquet:a,b", beside),
        ("A.parquet:b", BYTES[:, 1:2]),
        ("fixed.parquet", A),
        ("plain.parquet", A32[:, :2]),
    ):
        check_rows(open_source(name), expected)
    missing = arrow.table({"a": arrow.array([1, 2, None]), "e": [[1.0, 2.0], [3.0, None], None]})
    parquet.write_table(missing, "missing.parquet")
    ragged = arrow.table({"e": [[1.0, 2.0], [3.0], [4.0, 5.0]]})
    parquet.write_table(ragged, "ragged.parquet")
    Path("cut.parquet").write_bytes(Path("A.parquet").read_bytes()[:-9])
    for name, said in (
        ("missing.parquet:a", "row 2 has a missing value"),
        ("missing.parquet:e", "row 2 has 0 numbers"),
        ("ragged.parquet", "row 1 has 1 numbers, and the first one 2"),
        ("cut.parquet", "is damaged or no Parquet file"),
        ("A.parquet:id", "is a column of string, not of numbers"),
        ("A.parquet:a,id", "is a column of string, not of numbers"),
        ("A.parquet:a,e", "is a column of lists"),
        ("A.parquet:z", "has no 'z'; it has: a, b, e, id"),
    ):
        with pytest.raises((InputError, CorruptFileError), match=f"^{name.split(':')[0]}.*{said}"):
            np.asarray(open_source(name))


def test_parquet_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    Path("A.parquet").touch()
    with pytest.raises(MissingPackageError, match=r"^A\.parquet: needs pyarrow.*lplr\[scale\]"):
        open_source("A.parquet")


def test_zarr() -> None:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array("A.zarr", shape=A.shape, chunks=(9, 4), dtype=A.dtype)
    array[:] = A
    check_rows(open_source(array), A)


def test_dask() -> None:
    dask = pytest.importorskip("dask.array")
    for chunks in ((60, 7), (13, 3), ((1, 20, 39), (2, 5))):
        check_rows(open_source(dask.from_array(A, chunks=chunks)), A)
    array = dask.from_array(A, chunks=(20, 7))
    joined = dask.concatenate([array[:30], array[:0], array[30:]])  # with a chunk of no rows
    check_rows(open_source(joined), A)
    for empty in (array[:0], array[:, :0]):
        with pytest.raises(InputError, match="^X: is empty"):
            open_source(empty, "X")
    with pytest.raises(InputError, match=r"^X: has chunks of unknown size; call X\.compute_chunk"):
        open_source(array[array[:, 0] > 0], "X")
    ragged = array.map_blocks(lambda block: block[1:], dtype=A.dtype, chunks=array.chunks)
    with pytest.raises(InputError, match=r"chunks of rows 0 to 60 have the shape \(57, 7\)"):
        open_source(ragged).rows(0, 2)


# --- each chunk once, in order ---------------------------------------------------------------


def test_a_chunk_is_computed_once_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lplr.sources.chunks._PIECE", 1)  # so that small chunks are not joined
    made = []

    class Chunked(Rows):
        chunks = (13, 7)

        def __getitem__(self, rows: slice) -> np.ndarray:
            made.append((rows.start, rows.stop))
            return super().__getitem__(rows)

    source = open_source(Chunked(A))
    assert source.chunk_rows == 13
    for step in (1, 4, 13, 20, 60):
        made.clear()
        for start in range(0, 60, step):
            source.rows(start, min(start + step, 60))
        assert made == [(0, 13), (13, 26), (26, 39), (39, 52), (52, 60)]
    made.clear()
    source.rows(30, 31)
    source.rows(27, 39)
    assert made == [(26, 39)]


def test_pieces_that_are_not_what_was_declared() -> None:
    for pieces, said in (([A[:50]], "nothing after row 50"), ([A[:, :6]], "a piece of shape")):
        rows = Forward(A.shape, A.dtype, 60, lambda row, pieces=pieces: (0, iter(pieces)))
        with pytest.raises(InputError, match=f"^X: rows 0 to 60 cannot be read: .*{said}"):
            Source(rows, "X").rows(0, 60)


# --- damage ----------------------------------------------------------------------------------


def test_a_mapped_file_that_was_cut_is_refused() -> None:
    """Reading beyond the end of the file would end the process."""
    np.save("A.npy", A)
    source = open_source("A.npy")
    os.truncate("A.npy", os.path.getsize("A.npy") - 8 * 7 * 2)
    np.testing.assert_array_equal(source.rows(50, 58), A[50:58])
    with pytest.raises(CorruptFileError, match="56 bytes too short for the rows 50 to 59"):
        source.rows(50, 59)
    with pytest.raises(CorruptFileError, match="is truncated"):
        open_source("A.npy")


def test_what_is_no_source_may_be_of_a_file_that_was_cut() -> None:
    np.save("H.npy", np.eye(256))
    H = np.load("H.npy", mmap_mode="r")
    whole = as_array(H, "hessian")
    os.truncate("H.npy", 1000)
    for view in (H, H[200:], H.T, np.asarray(H), whole[1:]):
        with pytest.raises(CorruptFileError, match="^hessian: its file was cut by 523416 bytes"):
            as_array(view, "hessian")


def test_damaged_files() -> None:
    write_vectors("A.fvecs", A32)
    data = bytearray(Path("A.fvecs").read_bytes())
    Path("cut.fvecs").write_bytes(data[:-1])
    Path("short.fvecs").write_bytes(data[:20])
    Path("none.fvecs").touch()
    data[32 * 3] = 6  # the length of vector 3
    Path("lengths.fvecs").write_bytes(data)
    np.savez("flip.npz", A)
    data = bytearray(Path("flip.npz").read_bytes())
    data[2000] ^= 1
    Path("flip.npz").write_bytes(data)
    with zipfile.ZipFile("short.npz", "w") as archive:
        np.save("A.npy", A)
        archive.writestr("x.npy", Path("A.npy").read_bytes()[:-8])
    for name, said in (
        ("cut.fvecs", "is truncated, or its vectors are not of one length"),
        ("short.fvecs", "is truncated or none of its kind"),
        ("none.fvecs", "is truncated or none of its kind"),
        ("lengths.fvecs", "vector 3 has 6 entries, and the first one 7"),
        ("flip.npz", "Bad CRC-32"),
        ("short.npz", "is truncated"),
    ):
        with pytest.raises(CorruptFileError, match=f"^{name}.*{said}"):
            open_source(name).rows(0, 60)


def test_parquet_with_checksums() -> None:
    """A flipped bit of a number gives another number: only the checksum of its page tells."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"x": A[:, 0]})
    parquet.write_table(
        table, "A.parquet", compression="none", use_dictionary=False, write_page_checksum=True
    )
    data = bytearray(Path("A.parquet").read_bytes())
    data[data.index(A[30, 0].tobytes())] ^= 1
    Path("A.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"^A\.parquet: rows 0 to 60 cannot be read.*CRC"):
        open_source("A.parquet").rows(0, 60)


def test_a_dataset_that_is_replaced_meanwhile() -> None:
    with h5py.File("A.h5", "w") as file:
        file["x"] = A
    source = open_source("A.h5")
    with h5py.File("A.h5", "w") as file:
        file["x"] = A[:50]
    with pytest.raises(InputError, match=r"A\.h5:/x: was float64 of shape \(60, 7\) and is now"):
        source.rows(0, 5)


def test_rows_that_cannot_be_read() -> None:
    class Broken(Rows):
        def __getitem__(self, rows: slice) -> np.ndarray:
            if rows.start >= 20:
                raise RuntimeError("the disk is gone")
            return super().__getitem__(rows)[: 8 if rows.start else None]

    source = open_source(Broken(A), "X")
    with pytest.raises(InputError, match="^X: rows 20 to 30 cannot be read: RuntimeError: the dis"):
        source.rows(20, 30)
    with pytest.raises(InputError, match=r"^X: rows 10 to 20 have the shape \(8, 7\)"):
        source.rows(10, 20)
    with pytest.raises(InputError, match="^start, stop: must lie in 0 to 60"):
        source.rows(10, 61)
    with h5py.File("A.h5", "w") as file:
        dataset = file.create_dataset("x", data=A)
        source = open_source(dataset)
    with pytest.raises(InputError, match="^A: rows 0 to 1 cannot be read"):
        source.rows(0, 1)
    with pytest.raises(LplrError, match="^A: cannot be opened: "):
        open_source(dataset)


MASKED = np.ma.masked_array(A32, mask=np.eye(*A.shape))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (MASKED, "has masked entries"),
        (A32 + 1j, "dtype complex64 is not real"),
        (A32.astype("U8"), "is not real"),
        (A32.astype("M8[s]"), "is not real"),
        (A32.astype(object), "is not real"),
    ],
    ids=["masked", "complex", "texts", "dates", "objects"],
)
def test_rows_are_what_an_array_may_be(rows: np.ndarray, said: str) -> None:
    """Whoever declares numbers and gives something else: none of it is turned into numbers."""
    data = Rows(rows)
    data.dtype = A32.dtype
    source = open_source(data, "A")
    with pytest.raises(InputError, match=f"^A: rows 0 to 60:? .*{said}"):
        source.rows(0, 60)


def test_masks_that_are_not_at_the_surface() -> None:
    array = pytest.importorskip("dask.array")
    source = open_source(array.from_array(MASKED, chunks=20), "A")
    with pytest.raises(InputError, match="has masked entries"):
        source.rows(0, 20)
    with pytest.raises(InputError, match="has masked entries"):
        lplr.quantize([MASKED[0], MASKED[1]], bits=4)


@pytest.mark.parametrize("shape", [(60.5, 7), ("60", 7), (True, 7), (-60, 7), (2**70, 7)])
def test_shapes_that_are_none(shape: Any) -> None:
    data = Rows(A32)
    data.shape = shape
    with pytest.raises(InputError, match=r"^A\.shape: must be "):
        open_source(data, "A")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.empty((0, 5)), r"is empty, shape \(0, 5\)"),
        (np.empty((5, 0)), r"is empty, shape \(5, 0\)"),
        (np.ones(5), "must have 2 dimensions, found 1; make it one column"),
        (np.ones((2, 3, 4)), "must have 2 dimensions, found 3"),
        (A + 1j, "dtype complex128 is not real"),
        (A.astype(object), "dtype object is not real"),
        (A.astype("S3"), r"dtype \|S3 is not real"),
    ],
)
def test_what_is_no_matrix(data: np.ndarray, said: str) -> None:
    for kind in (data, Rows(data)):
        with pytest.raises(InputError, match=f"^X: {said}"):
            open_source(kind, "X")
    with pytest.raises(InputError, match="^X: must be an array, found a NoneType"):
        open_source(None, "X")


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (60, 1)])
def test_one_row_and_one_column(shape: tuple[int, int]) -> None:
    B = A[: shape[0], : shape[1]]
    np.save("B.npy", B)
    f = lplr.quantize("B.npy", bits=8)
    assert f.relative_error("B.npy") == f.relative_error(B)
    check_rows(open_source(np.load("B.npy", mmap_mode="r")), B)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_the_pages_of_a_map_are_let_go(tmp_path: Path) -> None:
    """Also those that the system maps beside the ones that are touched, of rows read before."""

    def mapped() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile:"))

    path = tmp_path / "A.npy"
    np.save(path, np.ones((200_000, 32), np.float32))
    source, before = open_source(path), mapped()
    for start in range(0, 200_000, 1000):
        source.rows(start, start + 1000)
    assert mapped() - before < 1 << 20  # of 26 MB; up to 64 kB at each of 200 seams would be 3 MB
