"""The page of ``lplr bench scale``: curves over the number of rows, and the table behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lplr.evaluation.figures import inline_svg
from lplr.evaluation.report.page import Value, captioned, escape, listing, table, write_page
from lplr.evaluation.scale_chart import SCALE_VALUES, scale_chart
from lplr.evaluation.scale_table import SAID, SCALE_HEADS, scale_cells

__all__ = ["write_scale_page"]


def write_scale_page(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    attrs: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write a table as a self-contained HTML file.

    Parameters
    ----------
    path : str or path-like
    rows : sequence of mapping
        Of `lplr.evaluation.scale.measure_scale`.
    attrs : mapping
        The settings, the machine and the versions.
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
    >>> from lplr.evaluation.report.scale import write_scale_page
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_scale_page(os.path.join(folder, "scale.html"), [], {})
    ...     os.listdir(folder)
    ['scale.html']
    """
    sections: dict[str, str] = {}
    for name, (unit, what) in SCALE_VALUES.items():
        figure = scale_chart(rows, name)
        if figure is not None:
            drawn = inline_svg(figure, f"scale-{name}", f"{what} of each method by rows")
            sections[what.capitalize()] = captioned(drawn, escape(f"{what}, {unit}"))
    cells = [[Value(text, x) for text, x in line] for line in scale_cells(rows)]
    numeric = [i for i, head in enumerate(SCALE_HEADS) if head not in ("rows", "method")]
    sections["Table"] = table("What each method took and kept", SCALE_HEADS, cells, numeric=numeric)
    missing = [row for row in rows if row["status"] != "ok"]
    if missing:
        said = {f"{row['method']}, {row['rows']:,} rows": row["message"] for row in missing}
        sections["Not measured"] = listing(said)
    sections["Machine"] = listing(
        {name: attrs[name] for name in ("settings", "machine", "versions") if name in attrs}
    )
    write_page(path, "What more rows cost", sections, lead=SAID, overwrite=overwrite)
