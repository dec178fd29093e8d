r"""The file format, version 1, and its only reader and writer.

The words MUST and MAY are meant as in RFC 2119.

**Header.** A file MUST begin with a header of 512 bytes: the 8 bytes ``93 4C 50 4C 52 0D 0A 1A``
(``\x93LPLR\r\n\x1a``); the format version, uint32; the length of the payload, uint64; the SHA-256
of the payload, 32 bytes; zeros. Integers are little-endian. The payload MUST be all that follows.
For HDF5 the header is a user block: the file MUST be a valid HDF5 file that HDF5 1.8 or newer
opens as it is. Its superblock and object headers MUST be of version 2, which HDF5 writes if both
bounds of the library version are 1.8 (``libver="v108"`` in h5py), without extension.

**Groups.** The root group and every group in it is one object. It MUST carry the attributes
``encoding-type`` (string) and ``encoding-version`` (integer, at least 1), which say what its
other members mean, and MAY carry ``meta``, a JSON object about how it was made (configuration,
seed, versions, metrics) that decoding does not need. The root group MAY carry ``attrs``, a JSON
object of the caller. Names MUST match ``[A-Za-z_][A-Za-z0-9_-]{0,63}``; names of layers and
tensors are data, never paths. A group MUST NOT use a name twice, not even for an attribute and
a member. There MUST be at most 65536 objects, nested at most 16 deep.

**Datasets** MUST be little-endian integers of 1, 2, 4 or 8 bytes, signed or not, or floats of 2,
4 or 8 bytes; contiguous, unfiltered, fully stored, and without attributes.

**Attributes** MUST be scalars: fixed-length, null-padded strings in UTF-8 without NUL; int64;
float64; or the boolean enumeration of h5py. JSON MUST NOT hold NaN or infinities.

**Forbidden.** A file MUST NOT hold soft or external links, an object with two names, committed
types, virtual datasets, external storage, filters, references, or variable-length, compound or
object types. Declared sizes MUST NOT exceed what is stored. A writer MUST NOT store time stamps
or anything else that gives the same object other bytes.

**Writer.** The file is complete and verified under its final name, or the name keeps what it had
(`lplr.storage.atomic`). A killed process may leave ``.lplr-<32 hex digits>.tmp`` in the folder,
which is never a result and may be deleted.

**Reader.** A reader MUST verify the header and the digest before HDF5 sees a byte, then the
structure before it uses any data. It MUST refuse a format or encoding version newer than its own.

What this guarantees: any damage (a flipped bit, a missing or moved piece) raises
`CorruptFileError`; loading executes nothing, follows nothing, and allocates no more than a few
times the size of the file. The digest is not a signature: whoever forges a file can compute it
again. Forged metadata reaches libhdf5, but only in the few structures named here; the reader
refuses what it can see, as `UnsafeFileError` or `CorruptFileError`. Random changes under right
checksums do not crash HDF5 1.14.6 and 2.0 (they do crash 1.14.2: use h5py 3.14 or newer). A flaw
inside libhdf5 is beyond this package: trust a file from a stranger as much as any HDF5 file from
that stranger.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

from lplr.exceptions import (
    CorruptFileError,
    FilePermissionError,
    FolderError,
    InputError,
    MissingFileError,
)
from lplr.matrices.base import PackedMatrix
from lplr.storage.atomic import write_atomic
from lplr.storage.encoding import decode, encode, from_json, summarise, to_json
from lplr.storage.hdf5 import Node, from_file, to_image

__all__ = ["inspect", "load", "read_tree", "save", "verify", "write_tree"]

MAGIC = b"\x93LPLR\r\n\x1a"
FORMAT_VERSION = 1
HEADER_NBYTES = 512
_HEADER = struct.Struct("<8sIQ32s")
_FILE_ERRORS = {
    FileNotFoundError: MissingFileError,
    IsADirectoryError: FolderError,
    PermissionError: FilePermissionError,
}


def save(
    path: str | os.PathLike[str],
    obj: PackedMatrix,
    overwrite: bool = False,
    attrs: dict[str, Any] | None = None,
) -> None:
    """Write a packed matrix to a file; equal matrices give equal bytes.

    Parameters
    ----------
    path : str or path-like
        A symbolic link is followed; an existing file keeps its permission bits.
    obj : Quantized, Stacked, LowRank or QPlusLowRank
    overwrite : bool
        Whether an existing file is replaced.
    attrs : dict, optional
        Metadata of your own, which JSON can express; `lplr.inspect` returns it.

    Raises
    ------
    ExistingFileError
        If ``path`` exists and ``overwrite`` is False; it is an `InputError` too.
    InputError
        If ``obj`` is not a packed matrix, or JSON cannot express ``attrs``.
    StorageError
        If the file cannot be written; what was at ``path`` before is intact.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import lplr
    >>> q = lplr.quantize(np.eye(4), bits=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "eye.h5")
    ...     lplr.save(path, q)
    ...     bool(np.array_equal(lplr.load(path).to_dense(), q.to_dense()))
    True
    """
    root = encode(obj, "obj")
    if attrs is not None:
        root.attributes["attrs"] = to_json(attrs, "attrs")
    write_tree(path, root, overwrite)


def write_tree(path: str | os.PathLike[str], root: Node, overwrite: bool = False) -> None:
    """Write a tree, header in front.

    Parameters
    ----------
    path : str or path-like
    root : Node
        As the format wants it; its groups say how they are encoded.
    overwrite : bool

    Raises
    ------
    InputError, StorageError
        As `save`.
    """
    payload = to_image(root, HEADER_NBYTES)
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, len(payload), hashlib.sha256(payload).digest())
    write_atomic(path, [header.ljust(HEADER_NBYTES, b"\0"), payload], overwrite)


def read_tree(path: str | os.PathLike[str], use: Callable[[Node], Any]) -> Any:
    """What ``use`` makes of the verified tree of a file.

    Parameters
    ----------
    path : str or path-like
    use : callable
        Takes the root; a `CorruptFileError` of its own gets the name of the file.

    Returns
    -------
    object
        What ``use`` returns.

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `load`.
    """
    return _open(path, _read(path), use)[1]


def load(path: str | os.PathLike[str]) -> Any:
    """Read the packed matrix of a file, after every byte of the file is verified.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Quantized, Stacked, LowRank or QPlusLowRank

    Raises
    ------
    MissingFileError, FolderError, FilePermissionError, InputError
        If no readable file is at ``path``; the first three are `InputError` as well.
    CorruptFileError
        If the file is damaged, not of this format, or needs a newer version of the package.
    UnsafeFileError
        If it uses a feature of HDF5 that the format forbids.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import lplr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "q.h5"
    ...     lplr.save(path, lplr.quantize([[0.0, 3.0]], bits=2))
    ...     lplr.load(path).to_dense()
    array([[0., 3.]], dtype=float32)
    """
    return read_tree(path, decode)


def verify(path: str | os.PathLike[str]) -> str:
    """Check every byte and every component of a file, and return the SHA-256 of its payload.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    str, 64 hexadecimal digits
        Equal for equal packed matrices saved with equal ``attrs``.

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `load`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import lplr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "eye.h5")
    ...     lplr.save(path, lplr.quantize(np.eye(4), bits=4))
    ...     len(lplr.verify(path))
    64
    """
    data = _read(path)
    _open(path, data, decode)
    return _digest(data).hex()


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe what a file holds, from its verified header and structure, without decoding it.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict, which JSON can express
        ``format_version``; ``file_nbytes``; ``sha256``; ``attrs``, as given to `lplr.save`; and
        ``groups``, which has one dict per group under its path ("/" is the whole matrix):
        ``encoding``, ``version``, ``meta`` (how it was made), ``values`` (its scalars) and
        ``datasets`` (name to ``dtype``, ``shape`` and ``nbytes``).

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `load`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import lplr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "eye.h5")
    ...     lplr.save(path, lplr.quantize(np.eye(4), bits=4), attrs={"layer": "up/0"})
    ...     info = lplr.inspect(path)
    >>> info["attrs"], info["groups"]["/"]["encoding"]
    ({'layer': 'up/0'}, 'quantized')
    """
    data = _read(path)
    root, groups = _open(path, data, summarise)
    return {
        "format_version": FORMAT_VERSION,
        "file_nbytes": len(data),
        "sha256": _digest(data).hex(),
        "attrs": from_json(root, "attrs"),
        "groups": groups,
    }


def _read(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file, once header and digest agree with them."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise InputError(f"path {str(path)!r} is not a regular file; name a file")
        with open(path, "rb") as file:
            header = file.read(HEADER_NBYTES)
            length = _check_header(path, header, status.st_size)
            file.seek(0)
            data = file.read(HEADER_NBYTES + length + 1)
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
    if len(data) != HEADER_NBYTES + length or data[:HEADER_NBYTES] != header:
        raise CorruptFileError(f"{str(path)!r} changed while it was read")
    if hashlib.sha256(memoryview(data)[HEADER_NBYTES:]).digest() != _digest(header):
        raise CorruptFileError(f"{str(path)!r} is damaged: its SHA-256 is not that of its header")
    return data


def _check_header(path: str | os.PathLike[str], header: bytes, size: int) -> int:
    """Length of the payload; refuses what the rest of the file need not be read for."""
    name = repr(str(path))
    if header[: len(MAGIC)] != MAGIC:
        raise CorruptFileError(f"{name} is not an lplr file, or its beginning is damaged")
    if len(header) < HEADER_NBYTES:
        raise CorruptFileError(f"{name} is truncated within its header")
    _, version, length, _ = _HEADER.unpack_from(header)
    if version != FORMAT_VERSION:
        raise CorruptFileError(
            f"{name} has format version {version}; this package reads {FORMAT_VERSION}: "
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


def _digest(header: bytes) -> bytes:
    return _HEADER.unpack_from(header)[3]


def _open(
    path: str | os.PathLike[str], data: bytes, use: Callable[[Node], Any]
) -> tuple[Node, Any]:
    """The tree of a verified file and what ``use`` makes of it; an error names the file."""
    try:
        root = from_file(data, HEADER_NBYTES)
        return root, use(root)
    except CorruptFileError as exc:
        raise type(exc)(f"{str(path)!r}: {exc}") from exc
