"""Tidy tables of results as files: HDF5 for programs, CSV for people and spreadsheets.

A table is a list of rows; a column holds texts, integers, floats or truth values, one kind of
them, and any cell of it may be missing. Both formats give back what was written, type for type.

**HDF5** is the format of `lplr.storage.container` with the encoding ``table``, version 1. The root
group has the attributes ``rows`` (int64), ``columns`` (JSON, name to kind, in order) and
``attrs``. Each column is a one-dimensional dataset of its name: ``str`` as fixed-length,
null-padded UTF-8, ``int`` as int64, ``float`` as float64, ``bool`` as uint8. Where cells are
missing, the group ``missing``, a table of bools, has a column of the same name that is 1 there.

**CSV** follows RFC 4180 in UTF-8: fields with commas, quotes or line breaks are quoted, lines end
in CR LF. Floats have the digits of `repr`, which restore every bit; truth values are ``true`` and
``false``; a missing cell is empty. A text that a reader would take for one of these, and one that a
spreadsheet would run as a formula, gets an apostrophe in front, which spreadsheets know as the sign
of a text; `read_table` takes it away. A CSV file has no digest and no attrs.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.storage.atomic import write_atomic
from lplr.storage.columns import Columns, columns_of
from lplr.storage.container import read_tree, write_tree
from lplr.storage.encoding import from_json, to_json
from lplr.storage.hdf5 import TABLE, Node
from lplr.storage.table_csv import from_csv, to_csv

__all__ = ["SUFFIXES", "read_table", "write_table"]

SUFFIXES = (".h5", ".hdf5", ".csv")

Row = dict[str, Any]  # to str, int, float, bool or None

_VERSION = 1
_MISSING = "missing"  # the group of the masks
_MAX_JSON = 60000  # bytes; an attribute of HDF5 1.8 is at most 64 KiB
_DTYPES = {"int": "<i8", "float": "<f8", "bool": "u1"}
_ZERO: dict[str, Any] = {"str": "", "int": 0, "float": float("nan"), "bool": False}


def write_table(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    attrs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a table to a ``.h5`` (``.hdf5``) or ``.csv`` file: all of it or nothing.

    Parameters
    ----------
    path : str or path-like
        Its suffix chooses the format.
    rows : sequence of mapping of str to str, int, float, bool or None
        None and absent are the same: missing. A column of integers and floats is one of floats.
    attrs : mapping, optional
        JSON-able, about all of the table; only HDF5 keeps it.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    InputError
        If the suffix, a name, a cell or ``attrs`` is not one that the formats hold, or the file
        exists and ``overwrite`` is False.
    StorageError
        If the file cannot be written; what was at ``path`` before is intact.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.storage.table import read_table, write_table
    >>> rows = [{"method": "LPLR", "error": 0.25}, {"method": "SVD", "error": None}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "results.h5")
    ...     write_table(path, rows, attrs={"seed": 0})
    ...     read_table(path) == (rows, {"seed": 0})
    True
    """
    suffix = _suffix(path)
    columns = columns_of(rows, InputError)
    about = _small_json({} if attrs is None else attrs, "attrs")
    if suffix == ".csv":
        write_atomic(path, [to_csv(columns, len(rows))], overwrite)
        return
    root = _node(columns, len(rows))
    root.attributes["attrs"] = about
    masks = {
        name: ("bool", [value is None for value in values])
        for name, (_, values) in columns.items()
        if None in values
    }
    root.groups[_MISSING] = _node(masks, len(rows))
    write_tree(path, root, overwrite)


def read_table(path: str | os.PathLike[str]) -> tuple[list[Row], dict[str, Any]]:
    """The rows and the attrs of a file of `write_table`.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    rows : list of dict
        Each with every column, in order; None where a cell is missing.
    attrs : dict
        Empty for CSV.

    Raises
    ------
    InputError
        If there is no readable file of a known suffix at ``path``.
    CorruptFileError
        If it is damaged or no table. Of CSV only the form can be checked.
    UnsafeFileError
        If it uses a feature of HDF5 that the format forbids.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.storage.table import read_table, write_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "results.csv")
    ...     write_table(path, [{"name": "=1+1", "error": 0.1}])
    ...     with open(path) as file:
    ...         print(file.read().strip())
    ...     read_table(path)[0]
    name,error
    '=1+1,0.1
    [{'name': '=1+1', 'error': 0.1}]
    """
    if _suffix(path) != ".csv":
        rows, attrs = read_tree(path, _from_node)
        return rows, attrs
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as exc:
        raise InputError(f"path {str(path)!r} cannot be read: {exc.strerror or exc}") from exc
    try:
        return from_csv(data), {}
    except (UnicodeDecodeError, csv.Error) as exc:
        raise CorruptFileError(f"{str(path)!r} is damaged or no CSV file: {exc}") from exc
    except CorruptFileError as exc:
        raise CorruptFileError(f"{str(path)!r}: {exc}") from exc


def _suffix(path: str | os.PathLike[str]) -> str:
    try:
        suffix = Path(os.fsdecode(path)).suffix.lower()
    except TypeError as exc:
        raise InputError(f"path must be the name of a file, not {path!r}") from exc
    if suffix not in SUFFIXES:
        raise InputError(f"path: a table ends in {', '.join(SUFFIXES)}, found {str(path)!r}")
    return suffix


def _small_json(value: Mapping[str, Any], name: str) -> bytes:
    text = to_json(value, name)
    if len(text) > _MAX_JSON:
        raise InputError(f"{name} takes {len(text)} bytes as JSON; at most {_MAX_JSON} fit")
    return text


def _node(columns: Columns, count: int) -> Node:
    # Not sorted, as `to_json` would: the order of the columns is part of the table.
    kinds = json.dumps({name: kind for name, (kind, _) in columns.items()}, separators=(",", ":"))
    if len(kinds) > _MAX_JSON:
        raise InputError(f"rows: {len(columns)} columns are too many for an HDF5 table")
    node = Node(
        {
            "encoding-type": TABLE,
            "encoding-version": _VERSION,
            "rows": count,
            "columns": kinds.encode("ascii"),
        }
    )
    for name, (kind, values) in columns.items():
        filled = [_ZERO[kind] if value is None else value for value in values]
        if kind == "str":
            encoded = [text.encode() for text in filled]
            width = max([1, *map(len, encoded)])
            node.arrays[name] = np.array(encoded, f"S{width}")
        else:
            node.arrays[name] = np.array(filled, _DTYPES[kind])
    return node


def _from_node(root: Node) -> tuple[list[Row], dict[str, Any]]:
    count, columns = _from_columns(root)
    if set(root.groups) != {_MISSING} or root.groups[_MISSING].groups:
        raise CorruptFileError("the groups are not those of a table")
    same_count, masks = _from_columns(root.groups[_MISSING])
    if same_count != count or not set(masks) <= set(columns):
        raise CorruptFileError("the masks of missing cells do not fit the columns")
    for name, mask in masks.items():
        if set(map(type, mask)) - {bool}:
            raise CorruptFileError(f"the mask of column {name!r} is not of truth values")
        columns[name] = [None if out else v for out, v in zip(mask, columns[name], strict=True)]
    rows = [{name: values[i] for name, values in columns.items()} for i in range(count)]
    return rows, from_json(root, "attrs")


def _from_columns(node: Node) -> tuple[int, dict[str, list[Any]]]:
    """Number of rows, and the cells of each column, missing ones as they are filled."""
    kind, version, count = (
        node.attributes.get(key) for key in ("encoding-type", "encoding-version", "rows")
    )
    if kind != TABLE:
        raise CorruptFileError("it holds no table; lplr.load reads compressed matrices")
    if version != _VERSION:
        raise CorruptFileError(f"table of version {version!r}; this package reads {_VERSION}")
    if type(count) is not int or not 0 <= count < 2**31:
        raise CorruptFileError(f"{count!r} is no number of rows")
    kinds = from_json(node, "columns")
    if set(kinds) != set(node.arrays):
        raise CorruptFileError("the datasets are not the columns that the table names")
    columns = {}
    for name, of in kinds.items():
        array = node.arrays[name]
        stored = "str" if array.dtype.kind == "S" else array.dtype.str
        wanted = {"str": "str", "int": "<i8", "float": "<f8", "bool": "|u1"}
        if stored != wanted.get(str(of)) or array.shape != (count,):
            raise CorruptFileError(f"column {name!r} has not the type or the length it should")
        columns[name] = _restored(name, of, array)
    return count, columns


def _restored(name: str, kind: str, array: np.ndarray) -> list[Any]:
    if kind == "str":
        try:
            return [raw.decode() for raw in array.tolist()]
        except UnicodeDecodeError as exc:
            raise CorruptFileError(f"column {name!r} is not UTF-8: {exc}") from exc
    if kind == "bool":
        if array.size and array.max() > 1:
            raise CorruptFileError(f"column {name!r} holds what is no truth value")
        return array.astype(bool).tolist()
    return list(array.tolist())
