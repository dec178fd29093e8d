"""Plain-text tables and numbers."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["columns", "in_bytes", "in_seconds", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table: the first ``left`` columns flush left, the others flush right."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])

    def line(row: list[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, cells))


def columns(pairs: Sequence[tuple[str, str]], indent: str = "") -> str:
    """Names and values, the values below each other."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{indent}{name.ljust(width)}  {value}" for name, value in pairs)


def in_bytes(count: float) -> str:
    """A number of bytes with a decimal unit: ``1.23 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def in_seconds(seconds: float) -> str:
    """A duration as people read it: ``0.42 s``, ``12 s``, ``3:05``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
