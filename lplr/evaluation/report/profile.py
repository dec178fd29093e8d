"""The page of ``lplr bench profile``: its table, what the columns mean, and the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lplr.evaluation.profile_table import profile_cells, profile_heads, profile_title, profile_words
from lplr.evaluation.report.page import Value, escape, listing, table, write_page

__all__ = ["write_profile_page"]


def write_profile_page(
    path: str | os.PathLike[str], found: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write one profile as a self-contained HTML file.

    Parameters
    ----------
    path : str or path-like
    found : mapping
        Of `lplr.evaluation.profile.measure_profile`.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    InputError
        If the file exists and ``overwrite`` is False.
    StorageError
        If it cannot be written.
    """
    title = profile_title(found)
    heads = profile_heads(found)
    rows = [[Value(text, x) for text, x in line] for line in profile_cells(found)]
    steps = table(title, heads, rows, numeric=range(1, len(heads)), own=[len(rows) - 1])
    said = "".join(f"<p>{escape(line)}</p>" for line in profile_words(found))
    about = {name: found[name] for name in ("settings", "peaks", "machine", "versions")}
    sections = {"Steps": steps + said, "Machine": listing(about)}
    lead = "Each moment of a call belongs to one step. What is serial no thread can share."
    write_page(path, title, sections, lead=lead, overwrite=overwrite)
