"""Arrays in .npy files, which are mapped, and in .npz archives; pickles are refused."""

from __future__ import annotations

import errno
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, LplrError, UnsafeFileError
from lplr.inputs.base import Input, choose, reread
from lplr.inputs.forward import Forward
from lplr.inputs.maps import mapped
from lplr.memory import LOADING, available_memory

__all__ = ["npy_names", "npz_names", "read_npy", "read_npz"]

_PIECE = 1 << 20  # bytes unpacked at a time
_MAX_DIMENSIONS = 64  # of NumPy
# What zipfile raises of a damaged archive, also where it looks for times and for names.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error)
# What NumPy raises of a damaged header, which it parses as a literal of Python.
_NO_HEADER = (
    ValueError, EOFError, SyntaxError, TokenError, RecursionError, MemoryError, TypeError,
    LookupError,
)  # fmt: skip
_LARGEST = np.iinfo(np.intp).max  # bytes of an array, also of one that is empty in some dimension
_DIRECTORY = 15  # times as many bytes does an archive's list of members take in memory


def npy_names(path: str) -> list[str]:
    """One empty name: the array of a .npy file has none."""
    return [""]


def read_npy(path: str, member: str) -> Input:
    """Map the array of a .npy file."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        dtype, shape, fortran, offset = _header(file, size, path)
        order: Any = "F" if fortran else "C"
        if size == offset:  # nothing to map
            return Input(np.empty(shape, dtype, order), path)
        return Input(mapped(file, dtype, offset, shape, order), path)


def npz_names(path: str) -> list[str]:
    """The arrays of an archive."""
    with _opened(path) as archive:
        return _names(archive, path)


def _names(archive: zipfile.ZipFile, path: str) -> list[str]:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    if len(set(names)) < len(names):
        raise CorruptFileError(f"{path}: has two members of one name; save it again")
    return names


def read_npz(path: str, member: str) -> Input:
    """Open one array of an archive; it is read now unless it is a matrix in C order."""
    with _opened(path) as archive:
        names = _names(archive, path)
        member = choose(path, member, names)
        info = archive.infolist()[names.index(member)]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{path}:{member}: is compressed in a way that NumPy never uses; save it again"
            )
        with archive.open(info) as file:
            dtype, shape, fortran, start = _header(file, info.file_size, f"{path}:{member}")
            if len(shape) != 2 or fortran or 0 in shape:
                if 4 * info.file_size > available_memory():
                    raise InputError(
                        f"{path}:{member}: takes more than a quarter of the memory that is "
                        "available, and is not read in parts; save it as .npy"
                    )
                # By pieces to the end, where its checksum is: what is unpacked at once may have
                # far more bytes than the archive says.
                flat = np.frombuffer(b"".join(iter(partial(file.read, _PIECE), b"")), dtype)
                return Input(flat.reshape(shape, order="F" if fortran else "C"), path, member)
    n, d = shape
    height = max(1, _PIECE // (d * dtype.itemsize))

    def begin(row: int) -> tuple[int, Iterator[np.ndarray]]:
        return 0, _pieces(path, info, start, (n, d), dtype, height)

    again = (reread, read_npz, os.path.abspath(path), member)
    return Input(Forward((n, d), dtype, height, begin, again), path, member)


def _pieces(
    path: str,
    info: zipfile.ZipInfo,
    start: int,
    shape: tuple[int, int],
    dtype: np.dtype,
    height: int,
) -> Iterator[np.ndarray]:
    """The rows of a member, unpacked from its beginning to its end."""
    n, d = shape
    with _opened(path) as archive, archive.open(info) as file:
        file.read(start)
        for first in range(0, n, height):
            nbytes = min(height, n - first) * d * dtype.itemsize
            data = file.read(nbytes)
            if first + height >= n:
                file.read(1)  # behind the end, where the checksum is compared
            if len(data) < nbytes:
                raise CorruptFileError(f"{path}: is truncated; save it again")
            yield np.frombuffer(data, dtype).reshape(-1, d)


class _Archive(io.FileIO):
    """The file of an archive whose list of members, which is read in one go, fits in memory."""

    opening = True

    def read(self, size: int | None = -1) -> bytes:
        length = os.fstat(self.fileno()).st_size
        if self.opening and size and _DIRECTORY * min(size, length) > LOADING + length:
            raise CorruptFileError(f"{self.name}: lists more members than fit in memory")
        return super().read(size)


@contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    """The open archive; whatever zipfile reports while it is open becomes a typed error."""
    try:
        with _Archive(path) as file, zipfile.ZipFile(file) as archive:
            file.opening = False
            yield archive
    except LplrError:
        raise
    except _DAMAGE as error:
        raise CorruptFileError(f"{path}: is damaged or no .npz file: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the beginning
            raise
        raise CorruptFileError(f"{path}: is damaged: it names a place outside of it") from None
    except (NotImplementedError, RuntimeError) as error:  # another compression, or encrypted
        raise InputError(f"{path}: cannot be unpacked: {error}; save it again") from None


def _header(file: IO[bytes], size: int, name: str) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """dtype, shape, whether in Fortran order, and offset of the data of a .npy stream."""
    formats = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in formats:  # version 3.0 differs in the names of structured types only
            raise ValueError(f"version {version} is not one of plain arrays")
        place = file.tell()
        if int.from_bytes(file.read(2 * version[0]), "little") > size:  # NumPy asks for so much
            raise ValueError("its header is longer than the file")
        file.seek(place)
        shape, fortran, dtype = formats[version](file)
    except _NO_HEADER as error:
        raise CorruptFileError(f"{name}: is not a valid .npy file: {error}") from None
    if dtype.hasobject:
        raise UnsafeFileError(
            f"{name}: holds Python objects (a pickle), which are never loaded; save it as numbers"
        )
    if not dtype.itemsize or dtype.subdtype is not None:
        raise CorruptFileError(f"{name}: has entries of the type {dtype}, which are no numbers")
    shape = tuple(map(int, shape))  # True is a size for NumPy's parser
    offset = file.tell()
    expected = offset + math.prod(shape) * dtype.itemsize
    if size != expected:
        what = "is truncated" if size < expected else "has bytes after its data"
        raise CorruptFileError(
            f"{name}: {what}: {size} bytes where its header declares {expected}; save it again"
        )
    largest = dtype.itemsize * math.prod(max(extent, 1) for extent in shape)
    if len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0 or largest > _LARGEST:
        raise CorruptFileError(f"{name}: has the shape {shape}, which no array has")
    return dtype, shape, fortran, offset
