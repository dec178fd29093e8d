"""Plain-text tables and numbers."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from lplr.exceptions import spelled_out
from lplr.progress.display import in_seconds

__all__ = ["columns", "in_bytes", "in_seconds", "in_shape", "shown", "table"]

_NARROWEST = 20  # characters of a column of text that is wrapped


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, *, wrapped: bool = False
) -> str:
    """A table with the first ``left`` columns flush left and the others flush right.

    If all columns are flush left, or ``wrapped``, the last one is flush left, and is wrapped where
    the terminal is narrower than the table.
    """
    wrapped = wrapped or left == len(head)
    cells = [list(head), *(list(map(spelled_out, row)) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    if wrapped:
        terminal = shutil.get_terminal_size(fallback=(10_000, 24)).columns
        space = max(terminal - sum(widths[:-1]) - 2 * (len(head) - 1), _NARROWEST)
        cells = [line for row in cells for line in _wrapped(row, space)]
        widths[-1] = min(widths[-1], space)
    flush_left = {*range(left), *([len(head) - 1] if wrapped else [])}
    cells.insert(1, ["-" * width for width in widths])

    def line(row: list[str]) -> str:
        padded = [
            cell.ljust(width) if i in flush_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, cells))


def _wrapped(row: list[str], width: int) -> list[list[str]]:
    """The lines of a row whose last cell has at most so many characters in each line."""
    first, *rest = textwrap.wrap(row[-1], width, break_on_hyphens=False) or [""]
    return [[*row[:-1], first], *([""] * (len(row) - 1) + [text] for text in rest)]


def columns(pairs: Sequence[tuple[str, str]], indent: str = "") -> str:
    """Names and values, the values below each other; a value may have several lines."""
    names = [spelled_out(name) for name, _ in pairs]
    width = max(map(len, names))
    below = "\n" + indent + " " * (width + 2)
    values = (below.join(map(spelled_out, value.split("\n"))) for _, value in pairs)
    lines = zip(names, values, strict=True)
    return "\n".join(f"{indent}{name:{width}}  {value}" for name, value in lines)


def in_bytes(count: float) -> str:
    """A number of bytes with a decimal unit: ``1.23 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def in_shape(shape: Sequence[int]) -> str:
    """A shape: ``3 x 4``; of a single number, ``1``."""
    return " x ".join(map(str, shape)) or "1"


def shown(name: str, width: int = 64) -> str:
    """A name that is data, in one line: quoted if not plain, without its middle if long."""
    text = name if name.isprintable() and name.strip() == name != "" else repr(name)
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"
