"""Columns of Parquet tables as matrices, decoded a few rows at a time.

A column of lists of numbers, all of one length, is a matrix, as tables of embeddings have it; so
are columns of plain numbers beside each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, LplrError
from lplr.extras import optional
from lplr.inputs.base import Input, choose, reread
from lplr.inputs.forward import Forward

__all__ = ["names", "read"]

_PIECE = 1 << 20  # bytes decoded at a time


def names(path: str) -> list[str]:
    """The columns of lists; without any, one empty name for all columns beside each other."""
    fields = _opened(path).schema_arrow
    return [field.name for field in fields if _is_list(field.type)] or [""]


def read(path: str, member: str) -> Input:
    """Open a column of lists, or the columns of numbers ``A,B,C``; by default all there are."""
    file = _opened(path)
    fields = {field.name: field.type for field in file.schema_arrow}
    if not 0 < len(fields) == len(file.schema_arrow):
        raise InputError(f"{path}: has no columns, or two of one name; give each a name of its own")
    if not member and (listed := names(path)) != [""]:
        member = choose(path, "", listed)
    columns = [member] if member in fields else member.split(",") if member else list(fields)
    for column in columns:
        choose(path, column, list(fields))
        _check_type(fields[column], f"{path}:{column}", len(columns) > 1)
    lists = _is_list(fields[columns[0]])
    d = _length(file, columns[0], f"{path}:{columns[0]}") if lists else len(columns)
    if not d:
        raise InputError(f"{path}:{columns[0]}: begins with no list of numbers; drop such rows")
    entries = [fields[column].value_type if lists else fields[column] for column in columns]
    dtype = np.result_type(*(entry.to_pandas_dtype() for entry in entries))
    n = file.metadata.num_rows
    height = max(1, _PIECE // (d * dtype.itemsize))

    def begin(row: int) -> tuple[int, Iterator[np.ndarray]]:
        return _from(path, columns, (n, d), dtype, height, row)

    again = (reread, read, os.path.abspath(path), member)
    return Input(Forward((n, d), dtype, height, begin, again), path, member)


def _opened(path: str) -> Any:
    """The file, its footer read."""
    parquet = optional("pyarrow.parquet", path)
    with _decoding(path):
        return parquet.ParquetFile(
            path, buffer_size=_PIECE, pre_buffer=False, page_checksum_verification=True
        )


@contextmanager
def _decoding(path: str) -> Iterator[None]:
    """Whatever Arrow reports becomes a typed error.

    Arrow makes its buffers as large as the header of a page says, which nobody sees before.
    """
    try:
        yield
    except LplrError:
        raise
    except MemoryError:
        raise InputError(f"{path}: takes more memory than is available, or is damaged") from None
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError) as error:
        said = " ".join(str(error).split())
        raise CorruptFileError(f"{path}: is damaged or no Parquet file: {said}") from None


def _is_list(kind: Any) -> bool:
    types = optional("pyarrow.types", "a Parquet file")
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _check_type(kind: Any, name: str, several: bool) -> None:
    types = optional("pyarrow.types", "a Parquet file")
    entry = kind
    if _is_list(kind):
        if several:
            raise InputError(f"{name}: is a column of lists, which is a matrix alone; name it only")
        entry = kind.value_type
    if not (types.is_floating(entry) or types.is_integer(entry) or types.is_boolean(entry)):
        raise InputError(
            f"{name}: is a column of {kind}, not of numbers; name columns of numbers, as "
            f"{name.rpartition(':')[0]}:NAME or {name.rpartition(':')[0]}:A,B,C"
        )


def _length(file: Any, column: str, name: str) -> int:
    """The length of the lists of a column, from the type or the first one."""
    kind = file.schema_arrow.field(column).type
    if optional("pyarrow.types", "a Parquet file").is_fixed_size_list(kind):
        return int(kind.list_size)
    with _decoding(name):
        first = next(file.iter_batches(1, columns=[column]), None)
        return 0 if first is None else len(first.column(0)[0] or ())


def _from(
    path: str, columns: list[str], shape: tuple[int, int], dtype: np.dtype, height: int, row: int
) -> tuple[int, Iterator[np.ndarray]]:
    """The first row of the row group that has this row, and the pieces from there."""
    file = _opened(path)
    if file.metadata.num_rows != shape[0]:
        raise InputError(f"{path}: has another number of rows than before; leave it as it is")
    heights = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    edges = np.cumsum([0, *heights])
    group = int(np.searchsorted(edges, row, "right")) - 1
    batches = file.iter_batches(height, range(group, len(heights)), columns)

    def pieces() -> Iterator[np.ndarray]:
        first = int(edges[group])
        for batch in batches:
            yield _matrix(batch, columns, shape[1], dtype, path, first)
            first += len(batch)

    return int(edges[group]), pieces()


def _matrix(
    batch: Any, columns: list[str], d: int, dtype: np.dtype, path: str, first: int
) -> np.ndarray:
    """A record batch as rows."""
    compute = optional("pyarrow.compute", path)
    found = [batch.column(column) for column in columns]
    if _is_list(found[0].type):
        lengths = compute.fill_null(compute.list_value_length(found[0]), 0).to_numpy()
        wrong = np.flatnonzero(lengths != d)
        if len(wrong):
            raise InputError(
                f"{path}:{columns[0]}: row {first + wrong[0]} has {lengths[wrong[0]]} numbers, and "
                f"the first one {d}; drop such rows"
            )
        found = [found[0].flatten()]
    for column, values in zip(columns, found, strict=True):
        if values.null_count:
            at = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            row = first + at * len(batch) // len(values)
            raise InputError(f"{path}:{column}: row {row} has a missing value; fill it first")
    parts = [values.to_numpy(zero_copy_only=False) for values in found]
    return np.stack(parts, axis=1).astype(dtype, copy=False).reshape(-1, d)
