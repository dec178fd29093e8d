"""Whole files: the header that guards them, and the reading of all bytes under it.

The rules are those of `lplr.storage.container`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain

import numpy as np

from lplr.exceptions import (
    CorruptFileError,
    FilePermissionError,
    FolderError,
    InputError,
    MissingFileError,
)
from lplr.memory import LOADING, available_memory
from lplr.progress import counter, until
from lplr.storage.atomic import write_atomic

__all__ = [
    "FORMAT_VERSION",
    "HEADER_NBYTES",
    "MAGIC",
    "digest_of",
    "payload_digest",
    "read_file",
    "version_of",
    "write_file",
]

MAGIC = b"\x93LPLR\r\n\x1a"
FORMAT_VERSION = 2  # written; all of them up to it are read
HEADER_NBYTES = 512
_PART = 1 << 24  # bytes that are read, written or digested at a time
_HEADER = struct.Struct("<8sIQ32s")
_FILE_ERRORS = {
    FileNotFoundError: MissingFileError,
    IsADirectoryError: FolderError,
    PermissionError: FilePermissionError,
}


def write_file(
    path: str | os.PathLike[str], payload: Sequence[bytes | memoryview], overwrite: bool
) -> None:
    """Write the pieces of a payload, header in front; errors as `lplr.save`."""
    length = sum(len(piece) for piece in payload)
    digest = hashlib.sha256()
    with until(0.4):
        for part in _parts(payload, counter(length)):
            digest.update(part)
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, length, digest.digest())
    with until(1.0, "writing and reading back"):
        # What is counted is the writing; about as long again, the file is read back.
        parts = _parts(payload, counter(2 * length))
        write_atomic(path, chain([header.ljust(HEADER_NBYTES, b"\0")], parts), overwrite)


def _parts(
    payload: Sequence[bytes | memoryview], count: Callable[[float], None]
) -> Iterator[memoryview]:
    """The pieces in parts of a few MB, each of which is counted when the next one is asked for."""
    for piece in payload:
        for start in range(0, len(piece), _PART):
            part = memoryview(piece)[start : start + _PART]
            yield part
            count(len(part))


def payload_digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 in the header of a file, which has the right length; nothing else is read."""
    with _readable(path) as (file, size):
        header = file.read(HEADER_NBYTES)
        _check_header(path, header, size)
    return digest_of(header).hex()


def read_file(path: str | os.PathLike[str]) -> memoryview:
    """All bytes of a file, once header and digest agree with them; nobody else has the buffer."""
    with _readable(path) as (file, size):
        header = file.read(HEADER_NBYTES)
        length = _check_header(path, header, size)
        if length > LOADING and length > available_memory():  # of a sparse file, for instance
            raise InputError(
                f"path {str(path)!r} takes {length} bytes in memory, more than are available"
            )
        digest, count = hashlib.sha256(), counter(length, "reading")
        data = np.empty(HEADER_NBYTES + length, np.uint8).data  # takes memory as it is written
        data[:HEADER_NBYTES] = header
        at = HEADER_NBYTES
        while part := file.readinto(data[at : at + _PART]):
            digest.update(data[at : at + part])
            at += part
            count(part)
        if at != len(data) or file.read(1):
            raise CorruptFileError(f"{str(path)!r} changed while it was read")
    if digest.digest() != digest_of(header):
        raise CorruptFileError(f"{str(path)!r} is damaged: its SHA-256 is not that of its header")
    return data


@contextmanager
def _readable(path: str | os.PathLike[str]) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file that is open, and its size."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise InputError(f"path {str(path)!r} is not a regular file; name a file")
        with open(path, "rb") as file:
            yield file, status.st_size
    except (InputError, CorruptFileError):
        raise
    except OSError as exc:
        message = f"path {str(path)!r} cannot be read: {exc.strerror}; check the name"
        for python, own in _FILE_ERRORS.items():
            if isinstance(exc, python):
                raise own(message, str(path)) from exc
        raise InputError(message) from exc
    except (TypeError, ValueError) as exc:
        raise InputError(f"path {str(path)!r} cannot be read: {exc}") from exc


def _check_header(path: str | os.PathLike[str], header: bytes, size: int) -> int:
    """Length of the payload; refuses what the rest of the file need not be read for."""
    name = repr(str(path))
    if header[: len(MAGIC)] != MAGIC:
        raise CorruptFileError(f"{name} is not an lplr file, or its beginning is damaged")
    if len(header) < HEADER_NBYTES:
        raise CorruptFileError(f"{name} is truncated within its header")
    _, version, length, _ = _HEADER.unpack_from(header)
    if not 1 <= version <= FORMAT_VERSION:
        raise CorruptFileError(
            f"{name} has format version {version}; this package reads up to {FORMAT_VERSION}: "
            "update lplr, unless the file is damaged"
        )
    if any(header[_HEADER.size :]):
        raise CorruptFileError(f"{name} is damaged: its header has bytes where zeros belong")
    if size != HEADER_NBYTES + length:
        raise CorruptFileError(
            f"{name} is truncated or damaged: it has {size} bytes and should have "
            f"{HEADER_NBYTES + length}"
        )
    return length


def version_of(data: bytes | memoryview) -> int:
    """The format version in a header."""
    return int(_HEADER.unpack_from(data)[1])


def digest_of(data: bytes | memoryview) -> bytes:
    """The SHA-256 of the payload in a header."""
    return bytes(_HEADER.unpack_from(data)[3])
