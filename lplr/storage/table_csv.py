"""Columns to CSV text and back, with kinds, and without formulas; rules in `lplr.storage.table`."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from lplr.exceptions import CorruptFileError
from lplr.storage.columns import Columns, columns_of

__all__ = ["from_csv", "to_csv"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:inf|nan)", re.IGNORECASE
)
_BOOL = {"true": True, "false": False}
# What starts a formula in some spreadsheet, full-width forms included, and the apostrophe itself.
_MARKED = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")


def to_csv(columns: Columns, count: int) -> bytes:
    """The text of a table of ``count`` rows, UTF-8."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)  # its defaults are those of RFC 4180
    writer.writerow(columns)
    for i in range(count):
        writer.writerow([_text(values[i]) for _, values in columns.values()])
    return buffer.getvalue().encode()


def from_csv(data: bytes) -> list[dict[str, Any]]:
    """The rows of such a text.

    Raises
    ------
    CorruptFileError, UnicodeDecodeError, csv.Error
    """
    text = data.decode("utf-8-sig")
    if not text.endswith("\n"):
        raise CorruptFileError("the last line has no end: the file is truncated or no table")
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    head, *body = lines
    if len(set(head)) < len(head):
        raise CorruptFileError("two columns have one name")
    for i, line in enumerate(body, 1):
        if len(line) != len(head):
            raise CorruptFileError(f"row {i} has {len(line)} cells and should have {len(head)}")
    cells = [dict(zip(head, map(_value, line), strict=True)) for line in body]
    columns = columns_of(cells, CorruptFileError)
    return [{name: columns[name][1][i] for name in head} for i in range(len(body))]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_MARKED) or _value(value) != value else value
    return repr(value)


def _value(text: str) -> Any:
    if not text:
        return None
    if text[0] == "'":
        return text[1:]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return _BOOL.get(text.lower(), text)
