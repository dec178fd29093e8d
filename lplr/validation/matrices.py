"""The gate of matrices, behind which everything trusts its input.

Each check returns the value that it accepts, or raises an InputError that names the argument, says
what was found and what to do.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, LplrError
from lplr.parallel import run_blocks
from lplr.validation.arguments import check_integer

__all__ = [
    "as_array",
    "bits_of",
    "bring_into_range",
    "check_block",
    "check_magnitude",
    "check_matrix",
    "check_operator",
    "check_shape",
    "check_sparse",
    "exact_dtype",
    "is_operator",
    "is_sparse",
    "range_unit",
]

# Outside this range float32 leaves no headroom for products of factors or for small steps.
LARGEST, SMALLEST = 1e30, 1e-30
_TINY = 64  # entries
_BLOCK = 1 << 16  # entries looked at together: they stay in the second-level cache


def check_matrix(A: Any, name: str = "A", *, dtype: type = np.float32) -> np.ndarray:
    """A finite, non-empty matrix, C-contiguous and native, without touching the caller's array.

    ``A`` is array_like of any real dtype, byte order, memory order or strides; it comes back itself
    where nothing has to change. No code is wider than 16 bits, so ``dtype`` float32 is enough;
    float64 is the other choice. InputError refuses what is no real matrix or empty, a NaN or an
    infinity (named by position), and a largest magnitude above 1e30 or, unless zero, below 1e-30.

    >>> check_matrix([[1, 2], [3, np.nan]])
    Traceback (most recent call last):
        ...
    lplr.exceptions.InputError: A: has nan at (1, 1); every entry must be finite
    """
    array = as_array(A, name)
    check_shape(array.shape, name)
    result = _converted(array, np.dtype(dtype))
    largest = _peak(result)
    if not np.isfinite(largest):
        _refuse_non_finite(array, name)
    if largest == 0 and result is not array:  # all of it may have underflowed in the conversion
        largest = float(np.abs(array).max())
    check_magnitude(largest, name)
    return result


def check_block(block: np.ndarray, name: str, first_row: int) -> float:
    """The largest magnitude of some rows of a matrix, all of whose entries are finite.

    InputError names a NaN or an infinity by its position in the matrix. Whether the magnitude of
    the whole matrix is in range, `check_magnitude` says.
    """
    peak = _peak(block)
    if not np.isfinite(peak):
        _refuse_non_finite(block, name, first_row)
    return peak


def check_magnitude(largest: float, name: str) -> None:
    """Refuse a matrix whose largest magnitude is above 1e30 or, unless zero, below 1e-30."""
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise InputError(
            f"{name}: its largest magnitude is {largest:.3g}, outside {SMALLEST:g} to {LARGEST:g}; "
            "multiply it by a constant first"
        )


def check_shape(shape: Sequence[int], name: str) -> tuple[int, int]:
    """The shape of a matrix that is not empty."""
    if len(shape) != 2:
        hint = "; make it one column, or one row" if len(shape) == 1 else ""
        raise InputError(f"{name}: must have 2 dimensions, found {len(shape)}{hint}")
    n, d = (check_integer(size, f"{name}.shape", 0, sys.maxsize) for size in shape)
    if n == 0 or d == 0:
        raise InputError(f"{name}: is empty, shape {tuple(shape)}; pass at least one entry")
    return n, d


def exact_dtype(A: Any) -> type:
    """float32 for an array or source of a dtype whose numbers it holds, else float64."""
    dtype = getattr(A, "dtype", None)
    return np.float32 if dtype is not None and np.can_cast(dtype, np.float32) else np.float64


def is_sparse(A: Any) -> bool:
    """Whether A is a sparse matrix or array of SciPy, of any format."""
    sparse = sys.modules.get("scipy.sparse")  # loaded by whoever made one
    return sparse is not None and bool(sparse.issparse(A))


def is_operator(A: Any) -> bool:
    """Whether A multiplies and is no array: packed matrices, which can be arrays, do not count."""
    multiplies = hasattr(A, "matvec") or hasattr(A, "matmat")
    return multiplies and hasattr(A, "shape") and not hasattr(A, "__array__")


def check_sparse(A: Any, name: str = "A") -> Any:
    """A finite, non-empty sparse matrix, CSR or CSC, that has each entry once.

    It shares the caller's arrays where nothing has to change; CSR and CSC are kept, other formats
    become CSR. InputError refuses what `check_matrix` refuses, and indices outside the matrix.
    """
    if A.ndim != 2:
        raise InputError(f"{name}: must have 2 dimensions, found {A.ndim}")
    if A.dtype.kind not in "fiub":
        raise InputError(f"{name}: dtype {A.dtype} is not real; convert it to float32")
    if 0 in A.shape:
        raise InputError(f"{name}: is empty, shape {A.shape}; pass at least one entry")
    try:
        A = A if A.format in ("csr", "csc") else A.tocsr()
        A = type(A)((A.data, A.indices, A.indptr), shape=A.shape)  # whose flags are its own
        A.check_format(full_check=True)
    except ValueError as error:
        raise InputError(f"{name}: is not a valid sparse matrix: {error}") from None
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    if A.nnz:
        largest = max(float(A.data.max()), -float(A.data.min()))
        if not np.isfinite(largest):
            _refuse_non_finite_sparse(A, name)
        check_magnitude(largest, name)
    return A


def _refuse_non_finite_sparse(A: Any, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(A.data))
    place = np.searchsorted(A.indptr, bad, side="right") - 1, A.indices[bad]
    i, j, k = min(zip(*(place if A.format == "csr" else place[::-1]), bad, strict=True))
    raise InputError(f"{name}: has {A.data[k]} at {int(i), int(j)}; every entry must be finite")


def check_operator(A: Any, name: str = "A") -> Any:
    """A linear operator of SciPy that makes the products of A."""
    from scipy.sparse.linalg import LinearOperator

    shape = A.shape
    try:
        n, d = (check_integer(side, name, 1) for side in shape)
    except (TypeError, ValueError):
        raise InputError(f"{name}: must have a shape of two sizes, found {shape!r}") from None
    dtype = np.dtype(getattr(A, "dtype", None) or np.float64)
    if dtype.kind not in "fiub":
        raise InputError(f"{name}: dtype {dtype} is not real; pass an operator of real products")
    if isinstance(A, LinearOperator):
        return A
    found = {what: getattr(A, what, None) for what in ("matvec", "rmatvec", "matmat", "rmatmat")}
    for what in ("", "r"):
        if found[f"{what}matvec"] is None and found[f"{what}matmat"] is not None:
            many = found[f"{what}matmat"]
            found[f"{what}matvec"] = lambda x, many=many: many(np.reshape(x, (-1, 1)))
    return LinearOperator((n, d), dtype=dtype, **found)


def as_array(A: Any, name: str) -> np.ndarray:
    """An array of real numbers, of any number of dimensions."""
    taken = "lplr.factorize and lplr.LPLR take it as it is; else pass"
    if hasattr(A, "todense") and not isinstance(A, np.ndarray):
        raise InputError(f"{name}: is sparse, and would be dense here; {taken} {name}.toarray()")
    if is_operator(A):
        raise InputError(
            f"{name}: is a linear operator, and its entries are needed here; {taken} "
            f"{name} @ numpy.eye({name}.shape[1])"
        )
    try:
        array = np.asanyarray(A)  # a masked one, if that is what A is read as
    except (LplrError, MemoryError):
        raise
    except Exception as error:  # of any package whose array it is
        raise InputError(f"{name}: is not an array: {error}") from error
    if any(map(np.ma.is_masked, A if isinstance(A, (list, tuple)) else (array,))):
        raise InputError(f"{name}: has masked entries; fill them first")
    array = np.asarray(array)
    if array.dtype.kind in "fiub":
        _refuse_cut(array, name)
        return array
    if array.ndim == 0:  # None, a path, a model
        raise InputError(f"{name}: must be an array, found a {type(A).__name__}")
    raise InputError(f"{name}: dtype {array.dtype} is not real; convert it to float32")


def _refuse_cut(array: np.ndarray, name: str) -> None:
    """Refuse a view of a file that was cut: who touches what is missing dies (SIGBUS)."""
    whole: Any = array
    while isinstance(whole, np.ndarray) and not isinstance(whole, np.memmap):
        whole = whole.base
    file = getattr(whole, "_mmap", None)  # none of a memmap that has become an array in memory
    if file is None:
        return
    missing = whole.offset - whole.offset % mmap.ALLOCATIONGRANULARITY + len(file) - file.size()
    if missing > 0:
        raise CorruptFileError(
            f"{name}: its file was cut by {missing} bytes after it was opened; write it again"
        )


def _converted(A: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A matrix as a C-contiguous one of a dtype: itself if it is that, else by blocks of rows."""
    if A.dtype == dtype and A.flags.c_contiguous:
        return np.ascontiguousarray(A)
    out = np.empty(A.shape, dtype)

    def rows(i: int, j: int) -> None:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            out[i:j] = A[i:j]

    run_blocks(rows, len(A), max(1, 8 * _BLOCK // A.shape[1]))
    return out


def _peak(A: np.ndarray) -> float:
    """Largest magnitude of a contiguous array; NaN or infinite if any entry is."""
    flat = A.reshape(-1)
    peaks = np.empty(-(-flat.size // _BLOCK), np.float64)

    def block(start: int, stop: int) -> None:
        # Extrema propagate NaN, so one pass finds the range and whether all is finite.
        part = flat[start:stop]
        peaks[start // _BLOCK] = np.maximum(part.max(), -part.min())

    run_blocks(block, flat.size, _BLOCK)
    return float(peaks.max())


def _refuse_non_finite(array: np.ndarray, name: str, first_row: int = 0) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        i, j = (int(index) for index in bad[0])
        raise InputError(
            f"{name}: has {array[i, j]} at {(first_row + i, j)}; every entry must be finite"
        )
    raise InputError(
        f"{name}: its largest magnitude is {np.abs(array).max():.3g}, above {LARGEST:g}; "
        "multiply it by a constant first"
    )


def bits_of(A: Any) -> float:
    """Bits that an entry of an array takes; infinite for what is no array, and for a tiny one.

    A tiny matrix needs more bits than it has, at least.
    """
    dtype = getattr(A, "dtype", None)
    if not isinstance(dtype, np.dtype) or math.prod(A.shape) <= _TINY:
        return np.inf
    if not is_sparse(A):
        return 8.0 * dtype.itemsize
    stored = dtype.itemsize + 4 * (1 if A.format in ("csr", "csc") else 2)
    return 8.0 * stored * A.nnz / math.prod(A.shape)


def bring_into_range(A: np.ndarray) -> tuple[float, np.ndarray]:
    """A power of two and A divided by it, so that float32 holds products of three entries.

    Where the power is 1, A is the argument itself, as `check_matrix` returns it.
    """
    unit = range_unit(_peak(A))
    return unit, A if unit == 1.0 else A * np.float32(1 / unit)


def range_unit(largest: float) -> float:
    """The power of two that brings a largest magnitude into range: 1 where it is."""
    if largest == 0 or 1e-6 < largest < 1e6:
        return 1.0
    return float(2.0 ** (np.frexp(largest)[1]))
