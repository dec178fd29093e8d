"""The page of ``lplr bench speed``: its tables, and how they changed since an earlier run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lplr.evaluation.report.page import Value, anchor, document, escape, listing, navigation, table
from lplr.evaluation.speed_tables import SAID, SpeedTable, speed_tables
from lplr.storage.atomic import write_atomic

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
    title = "Speed on this machine"
    tables = list(speed_tables(found["rows"]))
    names = [shown.benchmark for shown in tables] + ["Machine"]
    sections = [_table(shown) for shown in tables]
    about = {"machine": found["machine"], "versions": found["versions"]}
    if "compared" in found:
        about["compared with"] = found["compared"]
    sections.append(listing(about))
    body = "".join(
        f'<section><h2 id="{anchor(name)}">{escape(name)}</h2>{content}</section>'
        for name, content in zip(names, sections, strict=True)
    )
    links = navigation([(anchor(name), name) for name in names])
    page = document(
        title, f'<header><h1>{title}</h1><p class="lead">{escape(SAID)}</p></header>{links}{body}'
    )
    write_atomic(path, [page.encode()], overwrite)


def _table(shown: SpeedTable) -> str:
    numeric = range(shown.names, len(shown.heads))
    rows = [
        [Value(cells[j], values[j] if j in numeric else None) for j in range(len(cells))]
        for cells, values in zip(shown.cells, shown.values, strict=True)
    ]
    return table(f"What {shown.benchmark} took", shown.heads, rows, numeric=numeric)
