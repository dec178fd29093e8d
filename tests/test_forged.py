"""Forged files, under a digest that is right: what is forbidden or nonsense is refused."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, UnsafeFileError
from lplr.selftest.forge import forge, small
from lplr.storage.container import inspect, load, verify


def test_a_forged_file_without_evil_loads(tmp_path: Path) -> None:
    path = forge(tmp_path, lambda file: None)
    np.testing.assert_array_equal(load(path).to_dense(), small().to_dense())


def _other(file: h5py.File) -> str:
    """Another HDF5 file beside the forged one, for what links lead to."""
    name = str(Path(file.filename).with_name("other.h5"))
    with h5py.File(name, "w") as other:
        other["codes"] = np.zeros(3, np.uint8)
    return name


def _virtual(file: h5py.File, source: str = "", unlimited: bool = False) -> None:
    largest, stop = ((None,), h5py.h5s.UNLIMITED) if unlimited else (None, 3)
    layout = h5py.VirtualLayout((3,), "u1", maxshape=largest)
    source = h5py.VirtualSource(source or _other(file), "codes", (3,), maxshape=largest)
    layout[:stop] = source[:stop]
    del file["codes"]
    file.create_virtual_dataset("codes", layout)


def _external_storage(file: h5py.File, source: str = "") -> None:
    if not source:
        source = str(Path(file.filename).with_name("raw.bin"))
        Path(source).write_bytes(b"abc")
    del file["codes"]
    file.create_dataset("codes", (3,), "u1", external=[(source, 0, 3)])


def _replaced(name: str, *args: object, **options: object) -> Callable[[h5py.File], None]:
    def evil(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, *args, **options)

    return evil


def _link(name: str, target: Callable[[h5py.File], object]) -> Callable[[h5py.File], None]:
    def evil(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = target(file)

    return evil


def _compact(file: h5py.File) -> None:
    del file["codes"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((3,))
    data = h5py.h5d.create(file.id, b"codes", h5py.h5t.STD_U8LE, space, properties)
    data.write(space, space, np.zeros(3, np.uint8))


def _committed(file: h5py.File) -> None:
    del file["codes"]
    file["kind"] = np.dtype("u1")
    file.create_dataset("codes", (3,), dtype=file["kind"])
    del file["kind"]


def _two_names(file: h5py.File) -> None:
    file["again"] = file["codes"]


def _cycle(file: h5py.File) -> None:
    file["again"] = file["/"]


def _inner_cycle(file: h5py.File) -> None:
    inner = file.create_group("a/b")
    inner["c"] = file["a"]


UNSAFE = {
    "soft link": _link("codes", lambda file: h5py.SoftLink("/scale")),
    "dangling soft link": _link("more", lambda file: h5py.SoftLink("/nowhere")),
    "external link": _link("codes", lambda file: h5py.ExternalLink(_other(file), "/codes")),
    "dangling external link": _link("more", lambda file: h5py.ExternalLink("no.h5", "/x")),
    "virtual dataset": _virtual,
    "virtual dataset of unlimited shape": lambda file: _virtual(file, unlimited=True),
    "external storage": _external_storage,
    "object dtype": _replaced("codes", data=["a", "b"], dtype=h5py.string_dtype()),
    "ragged dtype": _replaced("codes", (3,), h5py.vlen_dtype(np.uint8)),
    "reference dtype": _replaced("codes", (3,), h5py.ref_dtype),
    "region reference dtype": _replaced("codes", (3,), h5py.regionref_dtype),
    "compound dtype": _replaced("codes", data=np.zeros(3, "u1,f4")),
    "string dtype": _replaced("codes", data=np.array([b"a", b"b"])),
    "big-endian dtype": _replaced("codes", data=np.zeros(3, ">u2")),
    "boolean dtype": _replaced("codes", data=np.zeros(3, bool)),
    "complex dtype": _replaced("codes", data=np.zeros(3, complex)),
    "filter": _replaced("codes", data=np.zeros(3, np.uint8), compression="gzip"),
    "chunks": _replaced("codes", data=np.zeros(3, np.uint8), chunks=(1,)),
    "compact layout": _compact,
    "no shape": lambda file: (file.pop("codes"), file.create_dataset("codes", dtype="u1")),
    "committed type": _link("kind", lambda file: np.dtype("u1")),
    "dataset of committed type": _committed,
    "dataset with attributes": lambda file: file["codes"].attrs.create("x", 1),
    "hard link": _two_names,
    "cyclic hard link": _cycle,
    "inner cyclic hard link": _inner_cycle,
    "text attribute of variable length": lambda file: file.attrs.create("quantizer", "uniform"),
    "array attribute": lambda file: file.attrs.create("bits", np.array([2, 2])),
    "empty attribute": lambda file: file.attrs.create("more", h5py.Empty("i8")),
    "small integer attribute": lambda file: file.attrs.create("bits", 2, dtype="i1"),
    "reference attribute": lambda file: file.attrs.create("more", file.ref, dtype=h5py.ref_dtype),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_forbidden_features_are_refused(tmp_path: Path, name: str) -> None:
    path = forge(tmp_path, UNSAFE[name])
    for read in (load, inspect, verify):
        with pytest.raises(UnsafeFileError) as caught:
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


def _unstored(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    """A dataset that nothing was ever written to, so that it occupies no space."""
    space = h5py.h5s.create_simple(shape)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, space, properties)


@pytest.mark.parametrize("shape", [(7,), (2**40,), (2**31, 2**31), (2**21, 2**21, 2**20)])
def test_shape_that_was_never_stored(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = forge(tmp_path, lambda file: _unstored(file, "more", shape))
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
            _unstored(file, name, (ODD,))

    def change(payload: bytes) -> bytes:
        nowhere, there = (struct.pack("<QQ", at, ODD) for at in (2**64 - 1, where[0]))
        assert payload.count(nowhere) == len(names)
        return payload.replace(nowhere, there)

    path = forge(tmp_path, evil, change)
    with h5py.File(path) as file:
        assert {file[name].id.get_offset() for name in names} == {where[0] + 512}
    with pytest.raises(CorruptFileError, match="declares more bytes"):
        load(path)


def _deep(file: h5py.File) -> None:
    file.create_group("/".join("a" * 17))


def _wraps(file: h5py.File) -> None:
    """2**62 rows of 4 columns: 2**64 codes, which 64 bits count as none."""
    file.attrs.create("rows", 2**62)
    _replaced("codes", data=np.zeros(0, np.uint8))(file)


CORRUPT = {
    "deep nesting": _deep,
    "name that is a path": lambda file: file.create_group("..").create_group("x"),
    "name with a space": _link("a b", lambda file: np.zeros(1)),
    "long name": _link("a" * 65, lambda file: np.zeros(1)),
    "name not ASCII": _link("ü", lambda file: np.zeros(1)),
    "attribute name": lambda file: file.attrs.create("a b", 1),
    "no encoding": lambda file: file.attrs.pop("encoding-type"),
    "encoding of wrong type": lambda file: file.attrs.create("encoding-type", 1),
    "no version": lambda file: file.attrs.pop("encoding-version"),
    "version 0": lambda file: file.attrs.create("encoding-version", 0),
    "newer version": lambda file: file.attrs.create("encoding-version", 99),
    "unknown encoding": lambda file: file.attrs.create("encoding-type", np.bytes_("os.system")),
    "group inside that is nothing": lambda file: file.create_group("more"),
    "one name twice": lambda file: file.attrs.create("codes", 1),
    "too many members": lambda file: file.attrs.create("more", 1),
    "missing member": lambda file: file.pop("scale"),
    "member of wrong type": lambda file: file.attrs.create("quantizer", 1),
    "negative size": lambda file: file.attrs.create("rows", -3),
    "size that wraps": lambda file: file.attrs.create("rows", 2**62),
    "size that wraps to nothing": _wraps,
    "unknown quantizer": lambda file: file.attrs.create("quantizer", np.bytes_("no")),
    "text not UTF-8": lambda file: file.attrs.create("quantizer", np.bytes_(b"\xff\xfe")),
    "NaN scale": _replaced("scale", data=np.full((1, 1), np.nan, np.float32)),
    "scale of wrong dtype": _replaced("scale", data=np.ones((1, 1))),
    "padding bits": _replaced("codes", data=np.full(4, 255, np.uint8)),
    "metadata that is a list": lambda file: file.attrs.create("meta", np.bytes_("[]")),
    "metadata that is a number": lambda file: file.attrs.create("meta", 1),
    "metadata with NaN": lambda file: file.attrs.create("meta", np.bytes_('{"x":NaN}')),
    "metadata that is no JSON": lambda file: file.attrs.create("meta", np.bytes_("{")),
    "metadata too deep": lambda file: file.attrs.create("meta", np.bytes_("[" * 50_000)),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_nonsense_is_corrupt(tmp_path: Path, name: str) -> None:
    path = forge(tmp_path, CORRUPT[name])
    for read in (load, verify):
        with pytest.raises(CorruptFileError) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_structures_before_hdf5_1_8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFileError, match="superblock"):
        load(forge(tmp_path, lambda file: None, libver="earliest"))


def test_no_hdf5_under_the_digest(tmp_path: Path) -> None:
    for change in (lambda payload: b"", lambda payload: b"x" * 2000):
        with pytest.raises(CorruptFileError, match="not HDF5"):
            load(forge(tmp_path, lambda file: None, change))


def test_what_a_file_refers_to_is_never_opened(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to waits for ever; refusing does not."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    for evil in (
        lambda file: _virtual(file, pipe),
        lambda file: _virtual(file, pipe, unlimited=True),
        lambda file: _external_storage(file, pipe),
        _link("more", lambda file: h5py.ExternalLink(pipe, "/x")),
    ):
        with pytest.raises(UnsafeFileError):
            load(forge(tmp_path, evil))
