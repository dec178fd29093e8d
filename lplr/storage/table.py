"""Tables of results as text files that pandas reads: JSON lines and CSV.

A table is a list of rows; a row is a dict of texts, numbers, truth values and None (missing).

* ``results.jsonl`` holds one JSON object on each line: ``pandas.read_json(path, lines=True)``.
  Not-a-number and infinities are ``NaN`` and ``Infinity``, as Python and pandas write them.
* ``results.csv`` holds the same rows for spreadsheets: ``pandas.read_csv(path)``. A text that a
  spreadsheet would run as a formula gets an apostrophe in front.
* ``results.meta.json``, beside either of them, says how the table was made.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, MissingFileError
from lplr.memory import json_nbytes
from lplr.storage.atomic import write_atomic, written
from lplr.storage.names import sync_folder
from lplr.storage.text import check_needed, from_json

__all__ = ["SUFFIXES", "meta_path", "read_table", "write_attrs", "write_table"]

SUFFIXES = (".jsonl", ".csv")

Row = dict[str, Any]  # to str, int, float, bool or None

_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the first letters of one, full-width too


def write_table(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    attrs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a table to a ``.jsonl`` or ``.csv`` file, and its attributes beside it.

    Parameters
    ----------
    path : str or path-like
        Its suffix chooses the format.
    rows : sequence of mapping of str to str, int, float, bool or None
    attrs : mapping, optional
        How the table was made, as JSON can say it: goes to `meta_path`.
    overwrite : bool
        Whether existing files are replaced.

    Raises
    ------
    InputError
        If the suffix, a cell or ``attrs`` is not one that the formats hold.
    ExistingFileError
        If a file exists and ``overwrite`` is False.
    StorageError
        If a file cannot be written; each file is the complete new one or the untouched old one.

    Notes
    -----
    Rows never have the attributes of others: for the moment in which both files are replaced there
    are no attributes.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.storage.table import read_table, write_table
    >>> rows = [{"method": "LPLR", "error": 0.25}, {"method": "SVD", "error": None}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "results.jsonl")
    ...     write_table(path, rows, attrs={"seed": 0})
    ...     read_table(path) == (rows, {"seed": 0})
    True
    """
    as_text = _to_csv if _suffix(path) == ".csv" else _to_lines
    text = as_text([_checked(row, i) for i, row in enumerate(rows)])
    if attrs is None:
        write_atomic(path, [text.encode()], overwrite)
        return
    about = Path(os.path.realpath(meta_path(path)))
    with (
        written(path, [text.encode()], overwrite) as name_rows,
        written(about, [_about(attrs)], overwrite) as name_attrs,
    ):
        if overwrite and about.exists():
            about.unlink()
            sync_folder(about.parent)
        name_rows()
        sync_folder(os.path.dirname(os.path.realpath(path)))  # or a power cut could lose them alone
        name_attrs()


def write_attrs(path: str | os.PathLike[str], attrs: Mapping[str, Any]) -> None:
    """Write the attributes of a table alone, in the place of those that are there.

    Parameters
    ----------
    path : str or path-like
        Of the table.
    attrs : mapping
        As of `write_table`, and true of the rows that are there as well.

    Raises
    ------
    InputError, StorageError
        As `write_table`.
    """
    write_atomic(meta_path(path), [_about(attrs)], overwrite=True)


def _about(attrs: Mapping[str, Any]) -> bytes:
    return (_dump(attrs, "attrs", indent=1, sort_keys=True) + "\n").encode()


def read_table(path: str | os.PathLike[str]) -> tuple[list[Row], dict[str, Any]]:
    """The rows and the attributes of a ``.jsonl`` file of `write_table`.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    rows : list of dict
    attrs : dict
        Empty if there is no file of attributes.

    Raises
    ------
    InputError
        If the file cannot be read, or is of another kind; `MissingFileError` if there is none.
    CorruptFileError
        If it is truncated, or a line is no JSON object.
    """
    if _suffix(path) != ".jsonl":
        other = Path(path).with_suffix(".jsonl")
        raise InputError(f"{path}: only .jsonl tables are read back; name the one beside, {other}")
    rows = []
    text = _read(path)
    check_needed(json_nbytes(text), repr(str(path)), len(text))
    for i, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            raise CorruptFileError(f"{str(path)!r} is truncated: line {i} has no end")
        rows.append(from_json(line, f"{str(path)!r}: line {i}", finite=False))
    about = meta_path(path)
    if not os.path.lexists(about):
        return rows, {}
    return rows, from_json(_read(about), repr(str(about)), finite=False)


def meta_path(path: str | os.PathLike[str]) -> Path:
    """The file of attributes beside a table: ``results.meta.json`` for ``results.csv``."""
    return Path(path).with_suffix(".meta.json")


def _suffix(path: str | os.PathLike[str]) -> str:
    try:
        suffix = Path(os.fsdecode(path)).suffix.lower()
    except TypeError as exc:
        raise InputError(f"path must be the name of a file, not {path!r}") from exc
    if suffix not in SUFFIXES:
        old = "; tables in HDF5 are no longer read" if suffix in (".h5", ".hdf5") else ""
        raise InputError(f"path: a table ends in {' or '.join(SUFFIXES)}, found {str(path)!r}{old}")
    return suffix


def _checked(row: Mapping[str, Any], i: int) -> Row:
    """The row, with Python's numbers in place of NumPy's."""
    if not isinstance(row, Mapping):
        raise InputError(f"rows[{i}] must be a dict, not {type(row).__name__}")
    cells = {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
    for key, value in cells.items():
        if not isinstance(key, str) or not isinstance(value, (str, int, float, type(None))):
            raise InputError(f"rows[{i}]: {key!r} is {value!r}; a cell is a text or a number")
    return cells


def _to_lines(rows: Sequence[Row]) -> str:
    return "".join(_dump(row, f"rows[{i}]") + "\n" for i, row in enumerate(rows))


def _to_csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(buffer)
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    """A cell of a CSV file: a text that begins like a formula is marked as a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _dump(value: Any, name: str, **options: Any) -> str:
    try:
        return json.dumps(value, **options)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"{name} cannot be written as JSON: {exc}") from exc


def _read(path: str | os.PathLike[str]) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would wait, a device never end
        raise InputError(f"path {str(path)!r} is not a regular file; name a file")
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as exc:
        raise MissingFileError(
            f"path {str(path)!r}: no such file; check the name", str(path)
        ) from exc
    except OSError as exc:
        raise InputError(f"path {str(path)!r} cannot be read: {exc.strerror or exc}") from exc
