"""One door: what is read in blocks of rows, and what is an array in memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lplr.exceptions import InputError, LplrError
from lplr.inputs import open_input
from lplr.sources.base import Source
from lplr.sources.chunks import by_chunks
from lplr.sources.dask_source import DaskSource
from lplr.sources.mapped import MappedSource
from lplr.validation.matrices import as_array, check_block

__all__ = ["is_source", "loaded", "open_source", "opened"]


def is_source(A: Any) -> bool:
    """Whether a matrix is read in blocks of rows: a file, or an object that need not be in memory.

    False for arrays, lists and whatever else NumPy takes as an array, and for what is no matrix.
    """
    if isinstance(A, (Source, str, os.PathLike)):
        return True
    if isinstance(A, np.memmap):
        return A._mmap is not None  # type: ignore[attr-defined]
    if isinstance(A, np.ndarray) or hasattr(A, "todense"):
        return False
    try:
        np.dtype(A.dtype)
        return hasattr(A, "__getitem__") and isinstance(A.shape, tuple)
    except (AttributeError, TypeError):
        return False
    except Exception:  # of any package: a dataset whose file is closed, say
        return True


def open_source(A: Any, name: str = "A") -> Source:
    """Open a matrix that is read in blocks of rows.

    Parameters
    ----------
    A : object
        The name of a file, ``FILE`` or ``FILE:MEMBER``: .npy, .npz, .h5, .fvecs and .bvecs (the
        vectors of faiss), .parquet (columns), and whatever else `lplr.inputs.read_input` reads; a
        `numpy.memmap`; a dataset of h5py; an array of zarr or dask, its chunks of any heights; any
        object with ``shape``, ``dtype`` and slices of rows; or an array in memory, which is not
        copied.
    name : str
        What messages call it; those about a file name the file.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        If it is no matrix of real numbers, or empty.
    CorruptFileError, UnsafeFileError
        If a file is damaged, or leads elsewhere.
    MissingPackageError
        If reading the file needs a package that is not installed.

    Notes
    -----
    Images, .safetensors tensors of BF16 or 8 bits, and arrays of .npz archives in Fortran order are
    read as a whole when they are opened.

    A source that lies in files can be pickled: another process opens the same files.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.sources import open_source
    >>> open_source(np.eye(3)).rows(0, 1)
    array([[1., 0., 0.]])
    """
    if isinstance(A, Source):
        return A
    if isinstance(A, (str, os.PathLike)):
        name = os.fspath(A)
        A = open_input(name).array
    if not is_source(A):
        return Source(as_array(A, name), name)
    if isinstance(A, np.memmap):
        return MappedSource(A, name)
    try:
        return (
            DaskSource(A, name)
            if hasattr(A, "__dask_graph__")
            else Source(by_chunks(A, name), name)
        )
    except LplrError:
        raise
    except Exception as error:  # of any package
        raise InputError(
            f"{name}: cannot be opened: {type(error).__name__}: {error}; mend the data"
        ) from error


def loaded(A: Any, name: str = "A") -> Any:
    """The finite array of what `is_source`, if memory allows; everything else as it is."""
    if not is_source(A):
        return A
    array = np.asarray(open_source(A, name))
    if array.dtype.kind == "f":
        check_block(array, name, 0)
    return array


def opened(A: Any, name: str = "A") -> Any:
    """A source of what `is_source`, and everything else as it is."""
    return open_source(A, name) if is_source(A) else A
