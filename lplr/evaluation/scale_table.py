"""What ``lplr bench scale`` measured, as a table: for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lplr.evaluation.scale_chart import value_of
from lplr.progress.display import in_seconds

__all__ = ["SAID", "SCALE_HEADS", "scale_cells"]

SAID = (
    "time: of the clock; CPU: of all threads, per row; memory: its peak beyond what was taken "
    "before; bits: stored, per entry; error: relative, of 4096 rows."
)
SCALE_HEADS = ("rows", "method", "time", "CPU", "memory", "rank", "bits", "error")


def scale_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[tuple[str, float | None]]]:
    """The text and the number of each cell below `SCALE_HEADS`.

    Parameters
    ----------
    rows : sequence of mapping
        Of `lplr.evaluation.scale.measure_scale`; those that measured something.

    Examples
    --------
    >>> from lplr.evaluation.scale_table import scale_cells
    >>> row = {"rows": 1000, "columns": 8, "method": "PQ", "status": "ok", "seconds": 2.0,
    ...        "cpu_seconds": 4.0, "extra_nbytes": 1e6, "rank": None, "nbytes": 1000, "error": 0.5}
    >>> [text for text, _ in scale_cells([row])[0]]
    ['1,000', 'PQ', '2 s', '4000.0 us', '1.0 MB', '-', '1.000', '0.5000']
    """
    return [_cells(row) for row in rows if row["status"] == "ok"]


def _cells(row: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    stored = row["nbytes"]
    bits = stored and 8 * stored / (row["rows"] * row["columns"])
    values: list[tuple[float | None, str]] = [
        (value_of(row, "time"), "{:.1f} us"),
        (value_of(row, "memory"), "{:.1f} MB"),
        (row["rank"], "{}"),
        (bits, "{:.3f}"),
        (row["error"], "{:.4f}"),
    ]
    return [
        (f"{row['rows']:,}", row["rows"]),
        (row["method"], None),
        (in_seconds(row["seconds"]), row["seconds"]),
        *(("-" if x is None else form.format(x), x) for x, form in values),
    ]
