"""Trees of arrays and scalars to and from HDF5 images, in memory only.

This is the only module that talks to libhdf5. Writing never lets it near a disk, since HDF5
kills the process when one is full. Reading hands it verified bytes only, asks it for metadata
alone, and takes the data from the bytes itself; what the format does not name is refused before
anything is opened through it. The rules are those of `lplr.storage.container`.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, UnsafeFileError

__all__ = ["MAX_DEPTH", "MAX_OBJECTS", "Node", "from_file", "is_name", "to_image"]

MAX_DEPTH = 16  # groups inside groups
MAX_OBJECTS = 1 << 16  # groups and datasets of a file, and attributes of a group
DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

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


def to_image(root: Node, user_block: int) -> bytes:
    """The HDF5 image of a tree, without the ``user_block`` bytes that go before it.

    Equal trees give equal bytes: names are written in order, there are no time stamps, and the
    format version is that of HDF5 1.8 whichever library writes it.
    """
    from h5py import File, h5f, h5p

    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_userblock(user_block)
    _plain(creation)
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fapl_core(1 << 20, False)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    # The core driver without a backing store never touches the name, but takes two open images
    # of one name for the same file: each needs its own.
    name = f"lplr-{id(root)}".encode()
    with File(h5f.create(name, h5f.ACC_TRUNC, creation, access)) as file:
        _write_group(file, root)
        file.flush()
        return file.id.get_file_image()


def _plain(properties: Any) -> None:
    """No time stamps, and attributes in the object header, however many there are."""
    properties.set_obj_track_times(False)
    properties.set_attr_phase_change(1024, 0)


def _write_group(group: Any, node: Node) -> None:
    from h5py import h5g, h5p

    for name, value in sorted(node.attributes.items()):
        if isinstance(value, bytes):
            # HDF5 has no empty fixed-length string: a lone NUL reads back as nothing.
            group.attrs.create(name, np.array(value or b"\0", f"S{len(value) or 1}"))
        elif isinstance(value, bool):
            group.attrs.create(name, np.bool_(value))
        else:
            group.attrs.create(name, value, dtype="<i8" if isinstance(value, int) else "<f8")
    for name, array in sorted(node.arrays.items()):
        group.create_dataset(name, data=array, dtype=array.dtype.newbyteorder("<"))
    for name, child in sorted(node.groups.items()):
        creation = h5p.create(h5p.GROUP_CREATE)
        _plain(creation)
        h5g.create(group.id, name.encode(), gcpl=creation)
        _write_group(group[name], child)


def from_file(data: bytes) -> Node:
    """The tree in the bytes of a whole file, arrays as read-only views of ``data``.

    Raises
    ------
    UnsafeFileError
        If the file uses a feature of HDF5 that the format does not name.
    CorruptFileError
        If it is damaged, or larger or deeper in declaration than in fact.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return _Reader(data).group(h5py.h5g.open(file.id, b"/"), "", 0)
    except CorruptFileError:
        raise
    except Exception as exc:
        # Damaged metadata under a right digest: h5py reports it with any of a dozen types.
        raise CorruptFileError(f"the HDF5 structure is damaged: {_one_line(exc)}") from exc


def _one_line(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0]


class _Reader:
    """One pass over a file: checks each object before anything of it is read."""

    def __init__(self, data: bytes) -> None:
        from h5py import h5t

        self.data = data
        self.unclaimed = len(data)  # declared sizes may not add up to more than is stored
        self.seen: set[int] = set()
        self.types = {name: h5t.py_create(np.dtype(name).newbyteorder("<")) for name in DTYPES}
        self.boolean = h5t.py_create(np.dtype(bool))

    def group(self, group: Any, path: str, depth: int) -> Node:
        from h5py import h5d, h5g, h5l, h5o

        if depth > MAX_DEPTH:
            raise CorruptFileError(f"groups are nested deeper than {MAX_DEPTH}: {path!r}")
        self._visit(h5o.get_info(group), path)
        if group.get_num_objs() > MAX_OBJECTS:
            raise CorruptFileError(f"group {path!r} has more than {MAX_OBJECTS} members")
        node = Node(attributes=self._attributes(group, path))
        for raw in list(group):
            name = _checked_name(raw, path)
            if group.links.get_info(raw).type != h5l.TYPE_HARD:
                raise UnsafeFileError(
                    f"{path}/{name} is a soft or external link; links are refused"
                )
            kind = h5o.get_info(group, raw).type
            if kind == h5o.TYPE_GROUP:
                node.groups[name] = self.group(h5g.open(group, raw), f"{path}/{name}", depth + 1)
            elif kind == h5o.TYPE_DATASET:
                node.arrays[name] = self._array(h5d.open(group, raw), f"{path}/{name}")
            else:
                raise UnsafeFileError(f"{path}/{name} is neither a group nor a dataset")
        return node

    def _visit(self, info: Any, path: str) -> None:
        if info.addr in self.seen or info.rc > 1:
            raise UnsafeFileError(f"{path!r} has several names; hard links are refused")
        self.seen.add(info.addr)
        if len(self.seen) > MAX_OBJECTS:
            raise CorruptFileError(f"the file has more than {MAX_OBJECTS} objects")

    def _claim(self, size: int, path: str) -> None:
        self.unclaimed -= size
        if self.unclaimed < 0:
            raise CorruptFileError(f"{path} declares more bytes than the file stores")

    def _array(self, dataset: Any, path: str) -> np.ndarray:
        from h5py import h5a, h5d, h5o, h5s

        self._visit(h5o.get_info(dataset), path)
        created = dataset.get_create_plist()
        # The layout comes first: the dataspace of a virtual dataset may open other files.
        if created.get_layout() != h5d.CONTIGUOUS:
            raise UnsafeFileError(
                f"{path} is not stored contiguously (chunked, compact or virtual)"
            )
        if created.get_external_count():
            raise UnsafeFileError(f"{path} keeps its data in another file")
        if created.get_nfilters():
            raise UnsafeFileError(f"{path} is filtered; no filter is allowed")
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
        if count > MAX_OBJECTS:
            raise CorruptFileError(f"group {path!r} has more than {MAX_OBJECTS} attributes")
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
        from h5py import h5t

        if not stored.committed():
            if stored.get_class() == h5t.STRING:
                if not stored.is_variable_str() and stored.get_strpad() == h5t.STR_NULLPAD:
                    return np.dtype(f"S{stored.get_size()}")
            elif stored.equal(self.boolean):
                return np.dtype(bool)
            elif stored.equal(self.types["i8"]) or stored.equal(self.types["f8"]):
                return stored.dtype
        raise UnsafeFileError(f"attribute {where} has a type that the format does not allow")


def _checked_name(raw: bytes, path: str) -> str:
    name = raw.decode("ascii", "backslashreplace")
    if not is_name(name):
        raise CorruptFileError(f"{path}/{name} is not a name that the format allows")
    return name
