"""The page of ``lplr bench speed``: its tables, and how they changed since an earlier run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lplr.evaluation.report.page import Value, listing, table, write_page
from lplr.evaluation.speed_tables import SAID, SpeedTable, speed_tables

__all__ = ["write_speed_page"]


def write_speed_page(
    path: str | os.PathLike[str], found: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write one run as a self-contained HTML file.

    Parameters
    ----------
    path : str or path-like
    found : mapping
        Of `lplr.evaluation.speed_runs.speed_document`, or `compared` with an earlier one.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    InputError
        If the file exists and ``overwrite`` is False.
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.report.speed import write_speed_page
    >>> from lplr.evaluation.speed_runs import speed_document
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_speed_page(os.path.join(folder, "speed.html"), speed_document([]))
    ...     os.listdir(folder)
    ['speed.html']
    """
    sections = {shown.benchmark: _table(shown) for shown in speed_tables(found["rows"])}
    about = {"machine": found["machine"], "versions": found["versions"]}
    if "compared" in found:
        about["compared with"] = found["compared"]
    sections["Machine"] = listing(about)
    write_page(path, "Speed on this machine", sections, lead=SAID, overwrite=overwrite)


def _table(shown: SpeedTable) -> str:
    numeric = range(shown.names, len(shown.heads))
    rows = [
        [Value(cells[j], values[j] if j in numeric else None) for j in range(len(cells))]
        for cells, values in zip(shown.cells, shown.values, strict=True)
    ]
    return table(f"What {shown.benchmark} took", shown.heads, rows, numeric=numeric)
