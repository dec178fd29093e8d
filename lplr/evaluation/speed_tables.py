"""What ``lplr bench speed`` measured, as tables: for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lplr.progress.display import in_seconds

__all__ = ["SAID", "SpeedTable", "speed_tables"]

SAID = (
    "time: the median of five rounds in turn, of two with --quick, kernels compiled; large layers "
    "and faithful\niterations once. ratio: to the row of the same matrix where it is 1. extra: "
    "the peak of memory beyond the\ninput. before: the time of the earlier run; change: the ratio "
    "to it."
)
_NAMES = ("matrix", "what")
_SHOWN: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "matrix": ("matrix", str),
    "what": ("what", str),
    "threads": ("threads", str),
    "seconds": ("time", in_seconds),
    "before": ("before", in_seconds),
    "change": ("change", "{:.2f}".format),
    "ratio": ("ratio", "{:.2f}".format),
    "per_second": ("entries", lambda x: f"{x / 1e6:.0f} M/s"),
    "error": ("error", "{:.4f}".format),
    "extra_mb": ("extra", "{:.1f} MB".format),
    "input_mb": ("input", "{:.1f} MB".format),
}


@dataclass(frozen=True)
class SpeedTable:
    """One benchmark: heads, rows of text, rows of numbers, and how many columns are names."""

    benchmark: str
    heads: list[str]
    cells: list[list[str]]
    values: list[list[Any]]
    names: int


def speed_tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[SpeedTable]:
    """A table for each benchmark, with the columns that it has.

    Parameters
    ----------
    rows : sequence of mapping
        Of `lplr.evaluation.speed.measure_speed`, or `lplr.evaluation.speed_runs.compared`.

    Examples
    --------
    >>> from lplr.evaluation.speed_tables import speed_tables
    >>> [found] = speed_tables([{"benchmark": "kernels", "what": "copy", "seconds": 0.25}])
    >>> found.heads, found.cells
    (['what', 'time'], [['copy', '0.25 s']])
    """
    for benchmark, group in groupby(rows, key=lambda row: row["benchmark"]):
        own = list(group)
        keys = [key for key in _SHOWN if any(row.get(key) is not None for row in own)]
        values = [[row.get(key) for key in keys] for row in own]
        cells = [
            ["-" if x is None else _SHOWN[key][1](x) for key, x in zip(keys, line, strict=True)]
            for line in values
        ]
        heads = [_SHOWN[key][0] for key in keys]
        yield SpeedTable(benchmark, heads, cells, values, sum(key in _NAMES for key in keys))
