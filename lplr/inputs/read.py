"""One door for all kinds of files: the suffix says which reader opens it.

Nothing is executed and nothing followed: pickles, soft links, external links, virtual datasets
and external storage are refused, and a file must have exactly the size that it declares.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lplr.exceptions import InputError
from lplr.inputs import hdf5, images, npy, parquet, safetensors, vectors
from lplr.inputs.base import Input, check_readable

__all__ = ["ArrayFile", "members", "open_input", "read_input", "read_member", "split_input"]

_HDF5 = (".h5", ".hdf5")
# For each suffix: what opens a member of a file, and what lists the members.
_Kind = tuple[Callable[[str, str], Input], Callable[[str], list[str]]]
_KINDS: dict[str, _Kind] = {
    ".npy": (npy.read_npy, npy.npy_names),
    ".npz": (npy.read_npz, npy.npz_names),
    **dict.fromkeys(_HDF5, (hdf5.read, hdf5.names)),
    ".safetensors": (safetensors.read, safetensors.names),
    **dict.fromkeys(vectors.ENTRIES, (vectors.read, vectors.names)),
    ".parquet": (parquet.read, parquet.names),
    **dict.fromkeys(images.SUFFIXES, (images.read, images.names)),
}

# A file and a member of it; the colon of a Windows drive is not followed by a match.
_SUFFIXES = "|".join(x[1:] for x in _KINDS if x not in (".npy", *vectors.ENTRIES))
_MEMBER = re.compile(rf"(?P<file>.+\.(?:{_SUFFIXES})):(?P<member>.+)", re.IGNORECASE | re.DOTALL)


def split_input(name: str) -> tuple[str, str]:
    """File and member of a name.

    Parameters
    ----------
    name : str
        ``FILE`` or ``FILE:MEMBER``.

    Returns
    -------
    tuple of str
        No member, an empty one, where none is named or a file has all of the name.

    Examples
    --------
    >>> from lplr.inputs import split_input
    >>> split_input("model.safetensors:layer.0"), split_input("weights.npy")
    (('model.safetensors', 'layer.0'), ('weights.npy', ''))
    """
    match = None if os.path.exists(name) else _MEMBER.fullmatch(name)
    return (match["file"], match["member"]) if match else (name, "")


def read_input(name: str) -> Input:
    """Open the array that a command line names.

    Parameters
    ----------
    name : str
        ``FILE``, ``FILE.npz:MEMBER``, ``FILE.safetensors:TENSOR``, ``FILE.h5:/PATH``,
        ``FILE.parquet:COLUMN`` or ``FILE.parquet:COLUMN,COLUMN``, or ``FILE.tif:PAGE``, pages
        counted from 1.

    Returns
    -------
    Input

    Raises
    ------
    InputError
        If there is no such file or member, or its content cannot be read here; where one of them
        fits `MissingFileError`, `FolderError` or `FilePermissionError`.
    CorruptFileError
        If the file is truncated, overlong or damaged.
    UnsafeFileError
        If reading it would execute or follow something.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.inputs import read_input
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> np.savez(path, up=np.eye(2), down=np.zeros((2, 3)))
    >>> read_input(f"{path}:down").array.shape
    (2, 3)
    """
    return read_member(*split_input(name))


def open_input(name: str) -> Input:
    """Open the array that a command line names, without reading all of it.

    Parameters
    ----------
    name : str
        As of `read_input`.

    Returns
    -------
    Input
        Its ``array`` is an ndarray, which may be mapped, or gives slices of rows.

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `read_input`; about the content also when it is read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.inputs import open_input
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> np.savez(path, up=np.eye(2))
    >>> open_input(path).array[1:2]
    array([[0., 1.]])
    """
    path, member = split_input(name)
    read, _ = _kind(path)
    return read(path, member)


def read_member(path: str, member: str) -> Input:
    """Open one array of a file.

    Parameters
    ----------
    path : str
    member : str
        One of `members`; empty if the file has only one.

    Returns
    -------
    Input

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `read_input`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.inputs import read_member
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npy")
    >>> np.save(path, np.eye(2))
    >>> read_member(path, "").array.shape
    (2, 2)
    """
    read, _ = _kind(path)
    return read(path, member).loaded()


def members(path: str) -> list[str]:
    """List what a file holds.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of str
        Names for `read_member`, in the order of the file; one empty name where nothing is named.

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `read_input`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.inputs import members
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> np.savez(path, up=np.eye(2), down=np.zeros((2, 3)))
    >>> members(path)
    ['up', 'down']
    """
    _, names = _kind(path)
    return names(path)


class ArrayFile(Mapping[str, Input]):
    """The arrays of a file by name, each read anew whenever it is looked up.

    Parameters
    ----------
    path : str

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `read_input`, also on looking up.

    Notes
    -----
    Datasets of HDF5 have the name of their path without the first "/". The array of a .npy file and
    a picture have that of the file, without its folder and suffix.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.inputs import ArrayFile
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> np.savez(path, up=np.eye(2), down=np.zeros((2, 3)))
    >>> {name: found.array.shape for name, found in ArrayFile(path).items()}
    {'up': (2, 2), 'down': (2, 3)}
    """

    def __init__(self, path: str) -> None:
        self.path = path
        names = found = members(path)
        if found == [""]:
            names = [Path(path).stem]
        elif Path(path).suffix.lower() in _HDF5:
            names = [name.lstrip("/") for name in found]
        self._members = dict(zip(names, found, strict=True))

    def __getitem__(self, name: str) -> Input:
        return read_member(self.path, self._members[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _kind(path: str) -> _Kind:
    """The reader of a file that is there and may be read."""
    check_readable(path)
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        accepted = ", ".join(_KINDS)
        raise InputError(f"{path}: the suffix {suffix!r} is not known; an input ends in {accepted}")
    return _KINDS[suffix]
