"""Forged files, under a digest that is right: what is forbidden or nonsense is refused."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, UnsafeFileError
from lplr.selftest.forge import forge, small
from lplr.selftest.hostile_hdf5 import unstored
from lplr.storage.container import inspect, load, verify


def test_a_forged_file_without_evil_loads(tmp_path: Path) -> None:
    path = forge(tmp_path, lambda file: None)
    np.testing.assert_array_equal(load(path).to_dense(), small().to_dense())


def test_forbidden_features_are_refused_by_all_readers(tmp_path: Path) -> None:
    """`lplr selftest` has many more of them."""

    def evil(file: h5py.File) -> None:
        del file["codes"]
        file["codes"] = h5py.SoftLink("/scale")

    path = forge(tmp_path, evil)
    for read in (load, inspect, verify):
        with pytest.raises(UnsafeFileError, match=re.escape(str(path))) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def _number(payload: bytes, number: int) -> list[int]:
    """Where a 64-bit number stands."""
    return [m.start() for m in re.finditer(re.escape(struct.pack("<Q", number)), payload)]


ODD = 0x31415  # entries of a dataset whose size the tests find and alter


def _odd(file: h5py.File) -> None:
    file["more"] = np.zeros(ODD, np.uint8)


@pytest.mark.parametrize("size", [2**20, 2**40, 2**62, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("where", ["shape", "storage", "both"])
def test_huge_declared_size(tmp_path: Path, size: int, where: str) -> None:
    def change(payload: bytes) -> bytes:
        found = _number(payload, ODD)  # the shape (now, and at most), then the storage
        assert len(found) == 3
        data = bytearray(payload)
        for at in {"shape": found[:2], "storage": found[2:], "both": found}[where]:
            data[at : at + 8] = struct.pack("<Q", size)
        return bytes(data)

    path = forge(tmp_path, _odd, change)
    with pytest.raises(CorruptFileError, match=r"size|next power|declares|beyond"):
        load(path)


@pytest.mark.parametrize("shape", [(7,), (2**40,), (2**31, 2**31), (2**21, 2**21, 2**20)])
def test_shape_that_was_never_stored(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = forge(tmp_path, lambda file: unstored(file, "more", shape))
    with pytest.raises(CorruptFileError, match="declares"):
        load(path)


def test_datasets_that_share_their_bytes(tmp_path: Path) -> None:
    """Many declarations of one stored block: together they claim more than the file."""
    names = [f"more{i}" for i in range(8)]
    where: list[int] = []

    def evil(file: h5py.File) -> None:
        file["more"] = np.zeros(ODD, np.uint8)
        where.append(file["more"].id.get_offset() - 512)
        for name in names:
            unstored(file, name, (ODD,))

    def change(payload: bytes) -> bytes:
        nowhere, there = (struct.pack("<QQ", at, ODD) for at in (2**64 - 1, where[0]))
        assert payload.count(nowhere) == len(names)
        return payload.replace(nowhere, there)

    path = forge(tmp_path, evil, change)
    with h5py.File(path) as file:
        assert {file[name].id.get_offset() for name in names} == {where[0] + 512}
    with pytest.raises(CorruptFileError, match="declares more bytes"):
        load(path)


def test_arrays_on_each_other(tmp_path: Path) -> None:
    """Together they are no larger than the file, and the one says what the other one is."""

    def change(payload: bytes) -> bytes:
        found = _number(payload, ODD)[-1] - 8  # of the layout: where, and how many bytes
        where = struct.unpack_from("<Q", payload, found)[0]
        return payload[:found] + struct.pack("<Q", where - 8) + payload[found + 8 :]

    with pytest.raises(CorruptFileError, match="two things lie at"):
        load(forge(tmp_path, _odd, change))
