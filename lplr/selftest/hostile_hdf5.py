"""Files of version 1 whose HDF5 is forbidden or nonsense, under a digest that is right."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lplr.exceptions import CorruptFileError, UnsafeFileError
from lplr.selftest.forge import forge
from lplr.selftest.hostile_file import Hostile, Maker

__all__ = ["HDF5", "unstored"]


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


def _attributes(count: int) -> Callable[[h5py.File], None]:
    """In the form of newer files, which has room for any number; to read 8000 takes minutes."""

    def evil(file: h5py.File) -> None:
        space, kind = h5py.h5s.create(h5py.h5s.SCALAR), h5py.h5t.STD_I64LE
        for i in range(count):
            h5py.h5a.create(file.id, b"a%x" % i, kind, space)

    return evil


def _many_members(file: h5py.File) -> None:
    for i in range(1_000):
        h5py.h5g.create(file.id, b"g%x" % i)


def _many_objects(file: h5py.File) -> None:
    """No group has many members, and all of them together 67,281."""
    for i in range(41):
        one = h5py.h5g.create(file.id, b"g%x" % i)
        for j in range(40):
            two = h5py.h5g.create(one, b"g%x" % j)
            for k in range(40):
                h5py.h5g.create(two, b"g%x" % k)


def _pipe(file: h5py.File) -> str:
    path = str(Path(file.filename).with_name("pipe"))
    os.mkfifo(path)
    return path


PIPES = {
    "virtual dataset of a pipe": lambda file: _virtual(file, _pipe(file)),
    "external storage in a pipe": lambda file: _external_storage(file, _pipe(file)),
    "external link to a pipe": _link("more", lambda file: h5py.ExternalLink(_pipe(file), "/x")),
    "external link to a device": _link("more", lambda file: h5py.ExternalLink("/dev/zero", "/x")),
    "external storage in a device": lambda file: _external_storage(file, "/dev/zero"),
    "external storage above": lambda file: _external_storage(file, "../../etc/passwd"),
}
SLOW = {
    "a million attributes": _attributes(1_000_000),
    "too many groups": _many_objects,
}
SWOLLEN = {
    "thousands of attributes": _attributes(8_000),
    "a thousand members": _many_members,
    "a shape that was never stored": lambda file: unstored(file, "more", (2**40,)),
    "a shape that overflows": lambda file: unstored(file, "more", (2**31, 2**31, 4)),
}


def unstored(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    """A dataset that nothing was ever written to, so that it occupies no space."""
    space = h5py.h5s.create_simple(shape)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, space, properties)


# The formats that are read have no strides: an entry that is used twice, as with a stride of zero,
# is one that two arrays have.
_PLACES: dict[str, Callable[[h5py.File], int]] = {
    "an array on another one": lambda file: file["scale"].id.get_offset() - 512,
    "an array on the superblock": lambda file: 0,
    "an array on its own header": lambda file: h5py.h5o.get_info(file["codes"].id).addr,
}


def _moved(place: Callable[[h5py.File], int]) -> Maker:
    """The codes lie elsewhere, where each of the bytes could be codes."""
    found: dict[str, int] = {}

    def look(file: h5py.File) -> None:
        found.update(old=file["codes"].id.get_offset() - 512, new=place(file))

    def change(payload: bytes) -> bytes:
        old, new = (struct.pack("<BBQQ", 3, 1, found[key], 3) for key in ("old", "new"))
        start = payload.index(old)  # a layout of version 3, contiguous: address and size
        return payload[:start] + new + payload[start + len(old) :]

    return _forged(look, change=change)


def _forged(evil: Callable[[h5py.File], object], **options: Any) -> Maker:
    return lambda folder: forge(folder, evil, **options)


def _whole(payload: bytes) -> Maker:
    return _forged(lambda file: None, change=lambda _: payload)


HDF5 = {
    **{k: Hostile(_forged(v), "packed", UnsafeFileError) for k, v in (UNSAFE | PIPES).items()},
    **{k: Hostile(_forged(v), "packed", CorruptFileError) for k, v in (CORRUPT | SWOLLEN).items()},
    **{k: Hostile(_forged(v), "packed", CorruptFileError, slow=True) for k, v in SLOW.items()},
    **{k: Hostile(_moved(v), "packed", CorruptFileError) for k, v in _PLACES.items()},
    "structures before HDF5 1.8": Hostile(
        _forged(lambda file: None, libver="earliest"), "packed", UnsafeFileError
    ),
    "nothing under the digest": Hostile(_whole(b""), "packed", CorruptFileError),
    "no HDF5 under the digest": Hostile(_whole(b"x" * 2000), "packed", CorruptFileError),
}
