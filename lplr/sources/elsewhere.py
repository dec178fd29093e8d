"""Data that lie in files: how another process opens the same ones."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lplr.inputs import hdf5
from lplr.inputs.base import reread
from lplr.inputs.forward import Forward
from lplr.inputs.maps import mapped
from lplr.sources.chunks import by_chunks

__all__ = ["Recipe", "recipe_of"]

Recipe = tuple[Callable[..., Any], tuple[Any, ...]]

_STORES = ("LocalStore", "ZipStore", "FsspecStore", "ObjectStore")  # of zarr, but that of memory


def recipe_of(data: Any) -> Recipe | None:
    """A function and its arguments, to be pickled, that give the same data in another process.

    None for what is in the memory of this process, and for what can only be unpacked from a
    beginning.

    >>> import numpy as np
    >>> recipe_of(np.eye(3)) is None
    True
    """
    if isinstance(data, Forward):
        make, *arguments = data.again or (None,)
        inner = recipe_of(arguments[0]) if make is by_chunks else None
        return None if inner is None else (_by_chunks, (inner, *arguments[1:]))
    if isinstance(data, np.memmap):
        return _of_map(data)
    kind = type(data).__module__.partition(".")[0]
    if kind == "h5py" and os.path.isfile(path := os.fspath(data.file.filename)):
        return reread, (hdf5.read, os.path.abspath(path), data.name)
    if kind == "zarr" and (store := type(data.store).__name__) in _STORES:
        local = store == "LocalStore"
        return _zarr, (os.path.abspath(data.store.root) if local else data.store, data.path)
    if kind == "lplr" and hasattr(data, "path"):  # of `lplr.inputs`
        return _itself, (replace(data, path=os.path.abspath(data.path)),)
    return None


def _of_map(data: np.memmap) -> Recipe | None:
    """Of a map or a part of one; a private map ("c") has the caller's changes."""
    if data.filename is None or data.mode == "c":
        return None
    if data.mode != "r":
        data.flush()
    start = np.frombuffer(data._mmap, np.uint8).ctypes.data  # type: ignore[attr-defined]
    skipped = data.offset % mmap.ALLOCATIONGRANULARITY
    low, high = (int(end) - start for end in np.lib.array_utils.byte_bounds(data))
    offset = data.offset - skipped + low
    at = data.ctypes.data - start - low
    return _map, (
        os.fspath(data.filename), offset, high - low, at, data.dtype, data.shape, data.strides
    )  # fmt: skip


def _map(
    path: str,
    offset: int,
    nbytes: int,
    at: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> np.memmap:
    whole = mapped(path, np.uint8, offset, (nbytes,))
    view = np.ndarray.__new__(np.memmap, shape, dtype, whole, at, strides)
    view.__array_finalize__(whole)
    return view


def _zarr(store: Any, path: str) -> Any:
    """Opened anew: of a store that is not there, zarr would make zeros."""
    import zarr

    return zarr.open_array(store, path=path, mode="r")


def _by_chunks(inner: Recipe, name: str) -> Any:
    make, arguments = inner
    return by_chunks(make(*arguments), name)


def _itself(data: Any) -> Any:
    return data
