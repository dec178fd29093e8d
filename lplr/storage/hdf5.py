"""HDF5 images in memory: two datasets to one, and trees of arrays and scalars from any.

libhdf5 never writes to a disk here, since it kills the process when the disk is full. On reading it
gets verified bytes only and is asked for metadata alone; the data are taken from the bytes
themselves. What the format does not name is refused before libhdf5 opens it. The rules are those of
`lplr.storage.container`.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, UnsafeFileError

__all__ = [
    "DTYPES",
    "MAX_DEPTH",
    "Node",
    "from_file",
    "is_name",
    "to_image",
]

MAX_DEPTH = 16  # groups inside groups
# Attributes of a group, and what else is in it; no part of a matrix has a dozen. libhdf5 makes a
# list of all attributes for each that is read, so that 65 536 of them would take it hours.
MAX_MEMBERS = 64
MAX_OBJECTS = 1 << 16  # groups and datasets of a file
DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

# The superblock of HDF5 1.8: signature, version 2, offsets and lengths of 8 bytes, no flags, the
# base address, and no extension. Any other superblock would run the oldest code of HDF5.
_SUPERBLOCK = struct.Struct("<8s4BQQ")
_NO_ADDRESS = 2**64 - 1
# Kinds of messages that an object header may hold: nothing, dataspace, link info, datatype, fill
# value (old, new), link, layout, group info, attribute, continuation, attribute info, count of
# names. The others are refused before the object is opened, and `_REFUSED` names some of them.
_MESSAGES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 21, 22)
_REFUSED = {7: "external storage", 11: "a filter", 17: "an old kind of group"}

Scalar = bool | int | float | bytes


@dataclass(frozen=True)
class Node:
    """A group: what it holds, by name."""

    attributes: dict[str, Scalar] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[str, Node] = field(default_factory=dict)


def is_name(name: str) -> bool:
    """Whether the format allows a name: letters, digits, ``_`` and ``-``, at most 64."""
    return _NAME.fullmatch(name) is not None


def to_image(
    attributes: Mapping[str, bytes | int], contents: bytes, nbytes: int, user_block: int
) -> tuple[bytes, bytes]:
    """What goes before and after ``nbytes`` of data in a file of ``contents`` and that data.

    Both are datasets of the root group, which has these attributes. The ``user_block`` bytes in
    front of HDF5 are not part of the image. Equal arguments give equal bytes: there are no time
    stamps, and the format version is that of HDF5 1.8 whichever library writes it.
    """
    from h5py import File, h5d, h5f, h5fd, h5p, h5s, h5t

    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_userblock(user_block)
    creation.set_obj_track_times(False)
    # A file object in memory: before HDF5 2.0 the core driver gives images with a wrong checksum.
    image = _Writes()
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, image)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    with File(h5f.create(b"in memory", h5f.ACC_TRUNC, creation, access)) as file:
        for name, value in attributes.items():
            dtype = f"S{len(value)}" if isinstance(value, bytes) else "<i8"
            file.attrs.create(name, value, dtype=dtype)
        file.create_dataset("contents", data=np.frombuffer(contents, np.uint8))
        reserved = h5p.create(h5p.DATASET_CREATE)
        reserved.set_obj_track_times(False)
        reserved.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        reserved.set_fill_time(h5d.FILL_TIME_NEVER)
        space = h5s.create_simple((nbytes,))
        data = h5d.create(file.id, b"data", h5t.STD_U8LE, space, reserved)
        start = data.get_offset()
    if not nbytes:  # nothing was reserved, nowhere
        return image.read_at(user_block, image.size), b""
    return image.read_at(user_block, start), image.read_at(start + nbytes, image.size)


class _Writes(io.RawIOBase):
    """A file as the writes that made it: what is reserved in it and not written takes no memory."""

    def __init__(self) -> None:
        self.size = self.position = 0
        self.writes: list[tuple[int, bytes]] = []

    def read_at(self, start: int, stop: int) -> bytes:
        out = bytearray(stop - start)
        for at, piece in self.writes:
            low, high = max(at, start), min(at + len(piece), stop)
            if low < high:
                out[low - start : high - start] = piece[low - at : high - at]
        return bytes(out)

    def write(self, data: Any) -> int:
        self.writes.append((self.position, bytes(data)))
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        stop = min(self.position + len(buffer), self.size)
        found = self.read_at(self.position, stop)
        buffer[: len(found)] = found
        self.position = stop
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}
        self.position = start[whence] + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def truncate(self, size: int | None = None) -> int:
        self.size = self.position if size is None else size
        return self.size


class _Bytes(io.RawIOBase):
    """A file that is in memory already; `io.BytesIO` would copy it."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data, self.position = memoryview(data), 0

    def readinto(self, buffer: Any) -> int:
        found = self.data[self.position : self.position + len(buffer)]
        buffer[: len(found)] = found
        self.position += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: len(self.data)}
        self.position = start[whence] + offset
        return self.position

    def tell(self) -> int:
        return self.position


def from_file(data: bytes | memoryview, user_block: int) -> Node:
    """The tree in the bytes of a whole file, arrays as views of ``data``.

    HDF5 begins after ``user_block`` bytes. UnsafeFileError says that the file uses a feature of
    HDF5 that the format does not name, CorruptFileError that it is damaged, or larger or deeper in
    declaration than in fact.
    """
    import h5py

    superblock = bytes(data[user_block : user_block + _SUPERBLOCK.size])
    superblock = superblock.ljust(_SUPERBLOCK.size, b"\0")
    signature, *fields = _SUPERBLOCK.unpack(superblock)
    if signature != b"\x89HDF\r\n\x1a\n":
        raise CorruptFileError("what follows the header is not HDF5")
    if fields != [2, 8, 8, 0, user_block, _NO_ADDRESS]:
        raise UnsafeFileError("the HDF5 superblock is not the one that the format allows")
    try:
        with h5py.File(_Bytes(data), "r") as file:
            reader = _Reader(data, user_block)
            reader.visit(h5py.h5o.get_info(file.id), "/")
            root = reader.group(h5py.h5g.open(file.id, b"/"), "", 0)
            reader.check_apart()
            return root
    except (CorruptFileError, MemoryError):
        raise
    except Exception as exc:
        if "allocation failed" in str(exc):  # so libhdf5 says that there is no memory
            np.empty(len(data), np.uint8)  # MemoryError, unless it wanted more than the file has
        # Damaged metadata under a right digest: h5py reports it with any of a dozen types.
        raise CorruptFileError(f"the HDF5 structure is damaged: {_one_line(exc)}") from exc


def _one_line(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0]


class _Reader:
    """One pass over a file: checks each object before anything of it is read."""

    def __init__(self, data: bytes | memoryview, user_block: int) -> None:
        from h5py import h5t

        self.data = data
        self.base = user_block  # what addresses are counted from
        # Where something lies: the superblock, then headers of objects and arrays.
        self.places = [(user_block, user_block + _SUPERBLOCK.size)]
        self.unclaimed = len(data)  # declared sizes may not add up to more than is stored
        self.seen: set[int] = set()
        self.types = {name: h5t.py_create(np.dtype(name).newbyteorder("<")) for name in DTYPES}
        self.boolean = h5t.py_create(np.dtype(bool))

    def group(self, group: Any, path: str, depth: int) -> Node:
        from h5py import h5d, h5g, h5l, h5o

        if depth > MAX_DEPTH:
            raise CorruptFileError(f"groups are nested deeper than {MAX_DEPTH}: {path!r}")
        if group.get_num_objs() > MAX_MEMBERS:
            raise CorruptFileError(f"group {path!r} has more than {MAX_MEMBERS} members")
        node = Node(attributes=self._attributes(group, path))
        for raw in list(group):
            name = _checked_name(raw, path)
            where = f"{path}/{name}"
            if group.links.get_info(raw).type != h5l.TYPE_HARD:
                raise UnsafeFileError(f"{where} is a soft or external link; links are refused")
            info = h5o.get_info(group, raw)
            self.visit(info, where)
            if info.type == h5o.TYPE_GROUP:
                node.groups[name] = self.group(h5g.open(group, raw), where, depth + 1)
            elif info.type == h5o.TYPE_DATASET:
                node.arrays[name] = self._array(h5d.open(group, raw), where)
            else:
                raise UnsafeFileError(f"{where} is neither a group nor a dataset")
        return node

    def visit(self, info: Any, path: str) -> None:
        """Check the header of an object that is not yet open."""
        if info.hdr.version != 2:
            raise UnsafeFileError(f"{path} is stored in the way of HDF5 before 1.8")
        kinds = [k for k in range(64) if info.hdr.mesg.present >> k & 1 and k not in _MESSAGES]
        if kinds:
            found = _REFUSED.get(kinds[0], f"a header message of kind {kinds[0]}")
            raise UnsafeFileError(f"{path} has {found}; the format does not allow it")
        if info.addr in self.seen or info.rc > 1:
            raise UnsafeFileError(f"{path} has several names; hard links are refused")
        self.seen.add(info.addr)
        if info.hdr.nchunks == 1:  # of several, libhdf5 tells only how long they are together
            start = self.base + info.addr
            self.places.append((start, start + info.hdr.space.total))
        if len(self.seen) > MAX_OBJECTS:
            raise CorruptFileError(f"the file has more than {MAX_OBJECTS} objects")

    def check_apart(self) -> None:
        """Refuse arrays that lie on each other, or on what describes them."""
        self.places.sort()
        for (_, stop), (start, _) in pairwise(self.places):
            if start < stop:
                raise CorruptFileError(f"two things lie at byte {start}")

    def _claim(self, size: int, path: str) -> None:
        self.unclaimed -= size
        if self.unclaimed < 0:
            raise CorruptFileError(f"{path} declares more bytes than the file stores")

    def _array(self, dataset: Any, path: str) -> np.ndarray:
        from h5py import h5a, h5d, h5s

        # The layout comes first: the dataspace of a virtual dataset may open other files.
        if dataset.get_create_plist().get_layout() != h5d.CONTIGUOUS:
            raise UnsafeFileError(
                f"{path} is not stored contiguously (chunked, compact or virtual)"
            )
        if h5a.get_num_attrs(dataset):
            raise UnsafeFileError(f"{path} is a dataset with attributes")
        dtype = self._dtype(dataset.get_type(), path)
        space = dataset.get_space()
        if space.get_simple_extent_type() == h5s.NULL:
            raise UnsafeFileError(f"{path} has no shape")
        shape = space.get_simple_extent_dims()
        count = 1
        for extent in shape:
            count *= extent  # of Python integers: a declared shape must not wrap
        size = count * dtype.itemsize
        self._claim(size, path)
        if size == 0:
            return np.empty(shape, dtype)
        offset = dataset.get_offset()
        if offset is None or dataset.get_storage_size() != size:
            raise CorruptFileError(f"{path} declares {size} bytes but does not store as many")
        if offset + size > len(self.data):
            raise CorruptFileError(f"{path} reaches beyond the end of the file")
        self.places.append((offset, offset + size))
        return np.frombuffer(self.data, dtype, count, offset).reshape(shape)

    def _dtype(self, stored: Any, path: str) -> np.dtype:
        if not stored.committed():
            for name, allowed in self.types.items():
                if stored.equal(allowed):
                    return np.dtype(name).newbyteorder("<")
        raise UnsafeFileError(f"{path} has a type that the format does not allow")

    def _attributes(self, group: Any, path: str) -> dict[str, Scalar]:
        from h5py import h5a, h5s

        count = h5a.get_num_attrs(group)
        if count > MAX_MEMBERS:
            raise CorruptFileError(f"group {path!r} has more than {MAX_MEMBERS} attributes")
        found: dict[str, Scalar] = {}
        for index in range(count):
            attribute = h5a.open(group, index=index)
            where = f"{path}@{_checked_name(attribute.name, path)}"
            if attribute.get_space().get_simple_extent_type() != h5s.SCALAR:
                raise UnsafeFileError(f"attribute {where} is not a scalar")
            dtype = self._attribute_dtype(attribute.get_type(), where)
            self._claim(dtype.itemsize, where)
            value = np.zeros((), dtype)
            attribute.read(value)
            found[where.rpartition("@")[2]] = value.item()
        return found

    def _attribute_dtype(self, stored: Any, where: str) -> np.dtype:
        if not stored.committed():
            if _is_fixed_text(stored):
                return np.dtype(f"S{stored.get_size()}")
            if stored.equal(self.boolean):
                return np.dtype(bool)
            if stored.equal(self.types["i8"]) or stored.equal(self.types["f8"]):
                return stored.dtype
        raise UnsafeFileError(f"attribute {where} has a type that the format does not allow")


def _is_fixed_text(stored: Any) -> bool:
    from h5py import h5t

    return (
        stored.get_class() == h5t.STRING
        and not stored.is_variable_str()
        and stored.get_strpad() == h5t.STR_NULLPAD
    )


def _checked_name(raw: bytes, path: str) -> str:
    name = raw.decode("ascii", "backslashreplace")
    if not is_name(name):
        raise CorruptFileError(f"{path}/{name} is not a name that the format allows")
    return name
