"""Columns of a table: one kind each, checked, from rows of plain Python objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lplr.storage.hdf5 import is_name

__all__ = ["KINDS", "RESERVED", "Columns", "columns_of"]

KINDS = ("str", "int", "float", "bool")
# Names that mean something else where the columns are members of a group.
RESERVED = ("missing", "rows", "columns", "attrs", "meta", "encoding-type", "encoding-version")

_MAX_COLUMNS = 4096
_MAX_TEXT = 32767  # characters; what the cell of a spreadsheet takes

Columns = dict[str, tuple[str, list[Any]]]  # name -> kind and cells, None where missing


def columns_of(rows: Sequence[Mapping[str, Any]], error: type[Exception]) -> Columns:
    """Checked columns of rows, in the order in which the rows bring them up.

    Parameters
    ----------
    rows : sequence of mapping
    error : exception type
        Raised for what no table holds: whether it is the caller's fault or a file's.
    """
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Sequence):
        raise error(f"rows must be a list of dicts, not {type(rows).__name__}")
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise error(f"rows[{i}] must be a dict, not {type(row).__name__}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if rows and not names:
        raise error("rows: no row has a column; pass an empty list for an empty table")
    if len(names) > _MAX_COLUMNS:
        raise error(f"rows: {len(names)} columns are too many for a table")
    for name in names:
        if not isinstance(name, str) or not is_name(name) or name in RESERVED:
            raise error(
                f"rows: {name!r} cannot name a column; use at most 64 letters, digits, _ and -, "
                f"a letter or _ first, and none of {', '.join(RESERVED)}"
            )
    return {name: _column(name, [row.get(name) for row in rows], error) for name in names}


def _column(name: str, values: list[Any], error: type[Exception]) -> tuple[str, list[Any]]:
    """Kind of a column, and its cells as Python objects of that kind."""
    cells = [value.item() if isinstance(value, np.generic) else value for value in values]
    kinds = {type(value).__name__ for value in cells if value is not None}
    unknown = kinds - set(KINDS)
    if unknown:
        raise error(f"rows: column {name!r} holds {unknown.pop()}; a cell is text or a number")
    if kinds == {"int", "float"}:
        if any(type(v) is int and (abs(v) > 2**53) for v in cells):
            raise error(f"rows: column {name!r} mixes floats and integers beyond 2**53")
        return "float", [None if v is None else float(v) for v in cells]
    if len(kinds) > 1:
        raise error(f"rows: column {name!r} mixes {' and '.join(sorted(kinds))}; use one kind")
    kind = kinds.pop() if kinds else "float"
    for i, value in enumerate(cells):
        if kind == "int" and value is not None and not -(2**63) <= value < 2**63:
            raise error(f"rows[{i}]: {name!r} does not fit in 64 bits")
        if kind == "str" and value is not None:
            _check_text(value, f"rows[{i}]: {name!r}", error)
    return kind, cells


def _check_text(text: str, where: str, error: type[Exception]) -> None:
    if "\0" in text or len(text) > _MAX_TEXT:
        raise error(f"{where} has NUL, or more than {_MAX_TEXT} characters; shorten or clean it")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise error(f"{where} is not valid text: {exc}") from exc
