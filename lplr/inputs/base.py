"""What every reader returns, and which member of a file it takes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lplr.exceptions import (
    CorruptFileError,
    FilePermissionError,
    FolderError,
    InputError,
    LplrError,
    MissingFileError,
)
from lplr.memory import available_memory

__all__ = ["Input", "check_fits", "check_readable", "choose", "reread"]


@dataclass(frozen=True)
class Input:
    """An array as a file holds it.

    Parameters
    ----------
    array : ndarray, or what gives slices of its rows
        It has the stored dtype if NumPy knows that; .npy and .safetensors files are mapped. What
        `open_input` opens without reading it has ``shape``, ``dtype`` and slices of rows.
    path : str
        The file.
    member : str
        The array, tensor, dataset or page that was taken; empty if the file holds one array only.
    note : str
        What was changed while reading; empty if nothing.
    stored_bits : int
        Bits of an entry in the file, before compression of the file, where they are not those of
        ``array``: 16 of BF16, 8 of most pictures; else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.inputs import Input
    >>> Input(np.eye(2), "weights.npz", "eye").member
    'eye'
    """

    array: Any
    path: str
    member: str = ""
    note: str = ""
    stored_bits: int = 0

    @property
    def bits(self) -> int:
        """Bits of an entry in the file."""
        return self.stored_bits or 8 * self.array.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all entries in the file."""
        return -(-math.prod(self.array.shape) * self.bits // 8)

    def loaded(self) -> Input:
        """The same with an ndarray: read as a whole, unless it is mapped.

        CorruptFileError says that what the file declares cannot be read from it, InputError that
        it does not fit in memory.
        """
        if isinstance(self.array, np.ndarray):
            return self
        check_fits(math.prod(self.array.shape) * self.array.dtype.itemsize, self.path)
        try:
            return replace(self, array=np.asarray(self.array))
        except LplrError:
            raise
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            # Of a decoder that is not ours.
            said = " ".join(str(error).split())
            raise CorruptFileError(f"{self.path}: is damaged: {said}; write it again") from None


def check_fits(nbytes: int, name: str) -> None:
    """InputError says that there is no memory for so many bytes, which a small file may declare."""
    if nbytes > available_memory():
        raise InputError(
            f"{name}: takes {nbytes} bytes in memory, more than is available; save it as .npy, "
            "which is not read as a whole"
        )


def check_readable(path: str) -> None:
    """Refuse what is no file, or may not be read.

    Parameters
    ----------
    path : str

    Raises
    ------
    MissingFileError, FolderError, FilePermissionError, InputError
        The first three are `InputError` as well.

    Examples
    --------
    >>> from lplr.inputs import check_readable
    >>> check_readable("/no/such/file")
    Traceback (most recent call last):
        ...
    lplr.exceptions.MissingFileError: /no/such/file: no such file; check the name
    """
    if not os.path.exists(path):
        raise MissingFileError(f"{path}: no such file; check the name", path)
    if os.path.isdir(path):
        raise FolderError(f"{path}: is a folder, not a regular file; name a file", path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: is not a regular file; name a file")
    if not os.access(path, os.R_OK):
        raise FilePermissionError(f"{path}: may not be read; change its permissions", path)


def choose(path: str, member: str, names: list[str]) -> str:
    """The member that was named, or the only one; InputError lists what there is."""
    listed = ", ".join(sorted(names)[:10]) + (", ..." if len(names) > 10 else "")
    if member in names:  # a tensor may have the empty name
        return member
    if member:
        raise InputError(f"{path}: has no {member!r}; it has: {listed or 'nothing'}")
    if len(names) != 1:
        raise InputError(f"{path}: has {len(names)} arrays; name one, {path}:NAME, of: {listed}")
    return names[0]


def reread(read: Callable[[str, str], Input], path: str, member: str) -> Any:
    """The array of a file, where another process unpickles it."""
    return read(path, member).array
