r"""The file format, version 2, and its only reader and writer.

The words MUST and MAY are meant as in RFC 2119.

**Header.** A file MUST begin with a header of 512 bytes: the 8 bytes ``93 4C 50 4C 52 0D 0A 1A``
(``\x93LPLR\r\n\x1a``); the format version, uint32; the length of the payload, uint64; the SHA-256
of the payload, 32 bytes; zeros. Integers are little-endian. The payload MUST be all that follows.
For HDF5 the header is a user block: the file MUST be a valid HDF5 file that HDF5 1.8 or newer
opens as it is. Its superblock and object headers MUST be of version 2, which HDF5 writes if both
bounds of the library version are 1.8 (``libver="v108"`` in h5py), without extension.

**HDF5.** The root group MUST hold two datasets, ``contents`` and ``data``, and the attributes
``encoding-type``, the fixed-length string ``json+zlib``, and ``encoding-version``, the int64 1;
nothing else. Both datasets MUST be one-dimensional, of unsigned bytes, contiguous, unfiltered,
fully stored, and without attributes, and MUST NOT share a byte with anything.

**Contents** MUST be a JSON object in UTF-8 without NaN, infinities or an object with two members of
one name, compressed by zlib; the text MUST NOT be longer than 64 times both datasets together, nor
take more memory (`lplr.memory.json_nbytes`, and 320 bytes for each list among values) than both and
64 MB. It MAY have the member ``attrs``,
an object of the caller, and MUST have one of two: ``object``, a group; or ``objects``, an array of
pairs of a name and a group, in the order of the caller. These names are data, never paths: any
Unicode text, once.

**Groups** are JSON objects. One MUST have the members ``encoding`` (text) and ``version`` (integer,
at least 1), which say what its other members mean, and MAY have ``meta``, an object about how it
was made (configuration, seed, versions, metrics) that decoding does not need; ``values``, an object
of anything; ``arrays``, an object of pairs of a type and a shape; and ``groups``, an object of
groups, nested at most 16 deep. Names in the last three MUST match ``[A-Za-z_][A-Za-z0-9_-]{0,63}``,
and no two members may share one. A type is ``u1``, ``u2``, ``u4``, ``u8``, ``i1``, ``i2``, ``i4``,
``i8``, ``f2``, ``f4`` or ``f8``: unsigned, signed or floating, and its bytes. A matrix MUST have
fewer than 2**61 entries. An array of the caller is the group ``array`` of version 1 with the array
``data``; truth values are ``u1`` with the value ``bool``, which is true.

**Data** MUST be the bytes of all arrays, little-endian in C order, without gaps, in this order:
objects as listed; of each group its arrays, then its groups, both sorted by name.

**Writer.** The file is complete and verified under its final name, or the name keeps what it had
(`lplr.storage.atomic`). A killed process may leave ``.lplr-<32 hex digits>.tmp`` in the folder,
which is never a result and may be deleted. A writer MUST NOT store time stamps or anything else
that gives the same object other bytes; those of ``contents`` depend on the build of zlib.

**Reader.** A reader MUST verify the header and the digest before HDF5 sees a byte, then the
structure before it uses any data. It MUST refuse a format or encoding version newer than its own,
and MUST read version 1 (`lplr.storage.version1`), where each part is an HDF5 group.

What this guarantees: any damage (a flipped bit, a missing or moved piece) raises
`CorruptFileError`; loading executes nothing, follows nothing, and takes no more memory than the
file has bytes, and 64 MB. The digest is not a signature: whoever forges a file can compute it
again. Forged metadata reaches libhdf5, but only in the few structures named here; the reader
refuses what it can see (links, an object with two names, committed types, virtual datasets,
external storage, filters, references, other types, declared sizes beyond what is stored, arrays
that lie on each other), as `UnsafeFileError` or `CorruptFileError`. Random changes under right
checksums do not crash HDF5 1.14.6 and 2.0 (they do crash 1.14.2: use h5py 3.14 or newer). A flaw
inside libhdf5 is beyond this package: trust a file from a stranger as much as any HDF5 file from
that stranger.

Without this package, h5py and Python read a file as ``json.loads(zlib.decompress(file["contents"]
[:]))`` and ``file["data"]``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.row_parts import RowParts
from lplr.progress import Progress, tracked
from lplr.storage.contents import Objects
from lplr.storage.encoding import Group, encode, encode_array
from lplr.storage.folder import Folder, is_folder
from lplr.storage.folder_writer import write_folder
from lplr.storage.stored import read_stored, write_stored
from lplr.storage.text import check_name, to_json

__all__ = ["inspect", "load", "save", "verify"]

Storable: TypeAlias = Any  # a packed matrix, an LPLR or a KNeighborsClassifier


def save(
    path: str | os.PathLike[str],
    obj: Storable | Mapping[str, Storable | np.ndarray],
    overwrite: bool = False,
    attrs: dict[str, Any] | None = None,
    *,
    parts: bool = False,
    progress: Progress = False,
) -> None:
    """Write packed matrices or fitted models to a file; equal ones give equal bytes.

    Parameters
    ----------
    path : str or path-like
        A symbolic link is followed; an existing file keeps its permission bits.
    obj : packed matrix, LPLR, KNeighborsClassifier, or mapping of str to such
        Many in one file need a few hundred bytes each beside what is stored. Names are any text.
        A mapping may also have arrays of any shape, which are kept as they are.
    overwrite : bool
        Whether an existing file is replaced.
    attrs : dict, optional
        Metadata of your own, which JSON can express; `lplr.inspect` returns it.
    parts : bool
        Make ``path`` a folder, see `lplr.storage.folder`: of the parts of a `RowParts`, read and
        written one by one, or of one part that holds another packed matrix.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Raises
    ------
    ExistingFileError
        If ``path`` exists and ``overwrite`` is False; it is an `InputError` too.
    InputError
        If ``obj`` is neither of these, a model is not fitted, or JSON cannot express ``attrs``.
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

    Many at once:

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "layers.h5")
    ...     lplr.save(path, {"layers.0.up": q, "layers.0.down": q})
    ...     list(lplr.load(path)), lplr.load(path, name="layers.0.up").shape
    (['layers.0.up', 'layers.0.down'], (4, 4))
    """
    with tracked(progress, "saving"):
        if attrs is not None:
            to_json(attrs, "attrs")
        if parts:
            _save_folder(path, obj, overwrite, attrs)
            return
        objects: Objects
        if isinstance(obj, Mapping):
            objects = {check_name(k, "obj"): _encode(v, f"obj[{k!r}]") for k, v in obj.items()}
        else:
            objects = encode(obj, "obj")
        write_stored(path, objects, attrs or {}, overwrite)


def _save_folder(path: Any, obj: Any, overwrite: bool, attrs: dict[str, Any] | None) -> None:
    if not isinstance(obj, PackedMatrix):
        raise InputError(
            f"parts: goes with one packed matrix, not with {type(obj).__name__}; leave it out"
        )
    whole = obj if isinstance(obj, RowParts) else RowParts((obj,), meta=obj.meta)
    write_folder(path, (part for _, part in whole.opened()), whole.meta, attrs, overwrite)


def _encode(obj: Any, name: str) -> Group:
    return encode_array(obj, name) if isinstance(obj, np.ndarray) else encode(obj, name)


def load(
    path: str | os.PathLike[str], *, name: str | None = None, progress: Progress = False
) -> Any:
    """Read what `lplr.save` wrote, after every byte of the file is verified.

    Parameters
    ----------
    path : str or path-like
        Of a folder of parts, the manifest and the headers are verified now, each part when it is
        needed.
    name : str, optional
        Of many matrices in a file, the one to return.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    packed matrix, LPLR, KNeighborsClassifier, or dict of str to such
        What was saved; a dict, which may have arrays, is in the order in which it was.

    Raises
    ------
    MissingFileError, FolderError, FilePermissionError, InputError
        If no readable file is at ``path``; the first three are `InputError` as well.
    InputError
        If the file has no matrix of this name.
    CorruptFileError
        If the file is damaged, not of this format, or needs a newer version of the package.
    UnsafeFileError
        If it uses a feature of HDF5 that the format forbids.

    Notes
    -----
    The codes are the bytes of the file, not copies: the matrices of a file share them, and the
    memory is free when the last of them is. With ``name``, all is read and verified, and only that
    matrix is kept.

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
    with tracked(progress, "loading"):
        if is_folder(path):
            if name is not None:
                raise InputError(f"name: {str(path)!r} holds one matrix in parts; leave it out")
            return Folder.read(path).load()
        return read_stored(path).decode(name, own=name is not None)


def verify(path: str | os.PathLike[str], *, progress: Progress = False) -> str:
    """Check every byte and every component of a file, and return the SHA-256 of its payload.

    Parameters
    ----------
    path : str or path-like
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    str, 64 hexadecimal digits
        Equal for equal packed matrices saved with equal ``attrs`` by the same build of zlib. Of a
        folder of parts, which are read one by one, the digest of their digests.

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
    with tracked(progress, "verifying"):
        if is_folder(path):
            return Folder.read(path).verify()
        stored = read_stored(path)
        stored.decode()
        return stored.sha256


def inspect(path: str | os.PathLike[str], *, progress: Progress = False) -> dict[str, Any]:
    """Describe what a file holds, from its verified header and structure, without decoding it.

    Parameters
    ----------
    path : str or path-like
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    dict, which JSON can express
        ``format_version``; ``file_nbytes``; ``sha256``; ``attrs``, as given to `lplr.save`; and
        ``groups``, which has one dict per group under its path ("/" is the whole matrix):
        ``encoding``, ``version``, ``meta`` (how it was made), ``values`` (its scalars) and
        ``datasets`` (name to ``dtype``, ``shape`` and ``nbytes``). For a file of many matrices, in
        place of ``groups``, ``objects``: such groups by name. For a folder of parts,
        ``parts`` has their names, rows, sizes and digests; only their headers are read.

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
    with tracked(progress, "reading"):
        if is_folder(path):
            return Folder.read(path).describe()
        return read_stored(path).describe()
