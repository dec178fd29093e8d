"""Datasets of HDF5 files that others wrote; what leads out of the file is refused."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, LplrError, UnsafeFileError
from lplr.inputs.base import Input, choose
from lplr.memory import LOADING

__all__ = ["names", "read"]

_MOST_COMPRESSED = 1100  # deflate never gains more
_PACKED = b"\x93LPLR\r\n\x1a"  # how the files of lplr.save begin
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NEWEST_SUPERBLOCK = 3


def names(path: str) -> list[str]:
    """The datasets of a file."""
    with _opened(path) as file:
        return _datasets(file)


def read(path: str, member: str) -> Input:
    """Open one dataset of a file."""
    with _opened(path) as file:
        name = f"/{member.strip('/')}" if member else choose(path, "", _datasets(file))
        with _dataset(file, name, path) as dataset:
            found = _Dataset(path, name, dataset.shape, dataset.dtype, dataset.chunks)
    return Input(found, path, name)


@dataclass(frozen=True)
class _Dataset:
    """A dataset whose file is opened, and checked, whenever something is read."""

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None

    def __getitem__(self, index: Any) -> Any:
        with _opened(self.path) as file, _dataset(file, self.name, self.path) as dataset:
            if (dataset.shape, dataset.dtype) != (self.shape, self.dtype):
                raise InputError(
                    f"{self.path}:{self.name}: was {self.dtype} of shape {self.shape} and is now "
                    f"{dataset.dtype} of shape {dataset.shape}; nothing may write it meanwhile"
                )
            return dataset[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[()], dtype)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """The open file; whatever libhdf5 reports while it is open becomes a typed error."""
    import h5py

    with open(path, "rb") as raw:
        if raw.read(len(_PACKED)) == _PACKED:
            raise InputError(f"{path}: is compressed already; use lplr decompress or lplr info")
    try:
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            _explain(path, error)
            raise
        with file:
            yield file
    except LplrError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CorruptFileError(f"{path}: is damaged or no HDF5 file: {error}") from None


def _explain(path: str, error: OSError) -> None:
    """Raise an error that says why a file does not open, unless it is damaged."""
    import h5py

    said = str(error)
    if lock := re.search(r"unable to lock file, errno = (\d+)", said):
        number = int(lock[1])
        if number in (errno.EAGAIN, errno.EACCES):
            raise InputError(
                f"{path}: another program has it open for writing; close it there and try again"
            ) from None
        raise InputError(
            f"{path}: cannot be locked on this file system ({os.strerror(number)}); copy it to a "
            "local disk, or set HDF5_USE_FILE_LOCKING=FALSE while nothing writes it"
        ) from None
    if "already open for write" in said:
        raise InputError(
            f"{path}: another program is writing it, or ended without closing it; close it there, "
            f"or mend it by: h5clear --status {path}"
        ) from None
    version = _superblock_version(path)
    if version is not None and version > _NEWEST_SUPERBLOCK:
        raise InputError(
            f"{path}: has an HDF5 superblock of version {version}, newer than HDF5 "
            f"{h5py.version.hdf5_version} reads; update h5py, or write it again with libver='v110'"
        ) from None


def _superblock_version(path: str) -> int | None:
    """The byte after the signature, which is at byte 0, 512, 1024, 2048 and so on, or None."""
    offset = 0
    with open(path, "rb") as file:
        while len(head := file.read(9)) == 9:
            if head[:8] == _SIGNATURE:
                return head[8]
            offset = 2 * offset or 512
            file.seek(offset)
    return None


def _datasets(file: Any) -> list[str]:
    """Paths of all datasets, by hard links alone: others may leave the file.

    Of an object with several paths the first one. The walk of libhdf5 itself takes as many steps as
    all paths have parts, and its own stack.
    """
    from h5py import h5g, h5o

    found: list[str] = []
    seen = {h5o.get_info(file.id).addr}
    room = LOADING + os.path.getsize(file.filename)
    waiting = [(file.id, name, "") for name in _hard_links(file.id)]  # the next one is the last
    while waiting:
        group, name, path = waiting.pop()
        about = h5o.get_info(group, name)
        if about.addr in seen:
            continue
        seen.add(about.addr)
        path = f"{path}/{os.fsdecode(name)}"
        room -= len(path)
        if room < 0:
            raise CorruptFileError(f"{file.filename}: its names would take far more bytes than it")
        if about.type == h5o.TYPE_DATASET:
            found.append(path)
        elif about.type == h5o.TYPE_GROUP:
            inside = h5g.open(group, name)
            waiting.extend((inside, name, path) for name in _hard_links(inside))
    return found


def _hard_links(group: Any) -> list[bytes]:
    """The names of those of a group, the last one first."""
    from h5py import h5, h5l

    found: list[bytes] = []

    def note(name: bytes, link: Any) -> None:
        if link.type == h5l.TYPE_HARD:
            found.append(name)

    group.links.iterate(note, info=True, idx_type=h5.INDEX_NAME, order=h5.ITER_INC)
    return found[::-1]


@contextmanager
def _dataset(file: Any, name: str, path: str) -> Iterator[Any]:
    """A dataset that may be read; its errors say which filter is missing."""
    dataset = _follow_hard_links(file, name, path)
    _check(dataset, f"{path}:{name}")
    try:
        yield dataset
    except OSError:
        _refuse_missing_filters(dataset, f"{path}:{name}")
        raise


def _follow_hard_links(file: Any, name: str, path: str) -> Any:
    import h5py

    node = file
    for part in name.strip("/").split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            choose(path, name, _datasets(file))  # refuses, and lists what there is
        if not isinstance(link, h5py.HardLink):
            raise UnsafeFileError(
                f"{path}:{name}: {part!r} is a link, which is not followed; name the dataset itself"
            )
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise InputError(f"{path}:{name}: is a group; name a dataset in it")
    return node


def _check(dataset: Any, name: str) -> None:
    if dataset.is_virtual or dataset.external:
        raise UnsafeFileError(f"{name}: its data lie in other files; copy them into one dataset")
    try:
        dtype = dataset.dtype
    except TypeError as error:
        raise InputError(f"{name}: has a type that NumPy lacks ({error}); convert it") from None
    if dataset.shape is None or dtype.hasobject or dtype.fields:
        raise UnsafeFileError(f"{name}: is not an array of numbers; save it as one")
    if dataset.nbytes > _MOST_COMPRESSED * dataset.id.get_storage_size():
        raise CorruptFileError(
            f"{name}: declares {dataset.nbytes} bytes and stores next to none of them"
        )


def _refuse_missing_filters(dataset: Any, name: str) -> None:
    from h5py import h5z

    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    missing = [
        f"{said.decode(errors='replace') or 'without a name'}, number {number}"
        for number, _, _, said in filters
        if not h5z.filter_avail(number)
    ]
    if missing:
        raise InputError(
            f"{name}: is stored through a filter of HDF5 that is not installed "
            f"({'; '.join(missing)}); install its plugin and name the folder in HDF5_PLUGIN_PATH, "
            "or write the dataset again with gzip or without a filter"
        ) from None
