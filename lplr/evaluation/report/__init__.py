"""The results of `lplr bench` as one HTML file that needs nothing else: to read, print and mail.

An overview is on top; then what an error means, each data set, a glossary, and how it was measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lplr.evaluation.gallery import Sample
from lplr.evaluation.report.glossary import glossary
from lplr.evaluation.report.meaning import meaning
from lplr.evaluation.report.page import anchor, document, folded, listing, navigation
from lplr.evaluation.report.results import Results, gather
from lplr.evaluation.report.sections import dataset_section, matrices_section, overview
from lplr.progress import Progress, parts, tracked
from lplr.storage.atomic import write_atomic

__all__ = ["write_report"]

_TITLE = "What a bit buys"
_LEAD = "Matrices, stored by several methods in equally many bits, and how much of each is left."
_ALONE = "Matrices, stored in few bits, and how much of each is left."
_ELSEWHERE = ("limits", "default", "stores", "about")  # in charts, in words, in the glossary


def write_report(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, Any]],
    attrs: Mapping[str, Any],
    samples: Mapping[str, Sequence[Sample]] | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = False,
) -> None:
    """Write the results of a benchmark as one self-contained HTML file.

    The file loads nothing from anywhere, is readable without scripts, and is the same for equal
    arguments and versions.

    Parameters
    ----------
    path : str or path-like
    rows : iterable of mapping
        One value a row, with the keys ``dataset``, ``method``, ``family``, ``budget`` (asked bits
        per entry), ``metric``, ``value``, ``status`` ("ok", or another word for what did not run)
        and, where known, ``shape``, ``protocol``, ``seed``, ``bits_per_entry`` (stored),
        ``stored_bytes``, ``seconds``, ``peak_mb`` and ``note``; of a mean over queries also
        ``standard_error``, ``queries`` and ``correct``, without which differences of accuracy are
        taken at their face value. The family "lplr" is this
        project, "reference" the uncompressed data, every other one a baseline. The rows of
        `lplr.evaluation.grid.run_grid`, of ``lplr bench --json`` and ``lplr demo --json`` are such.
    attrs : mapping
        As `lplr.evaluation.results_file.describe` gives it: ``default``, the method that the others
        are compared with ("compress" if absent), and by data set ``limits``, ``spectra``, ``data``
        and ``queries`` are used; ``machine``, ``versions``, ``settings`` and whatever else there is
        are listed at the end.
    samples : mapping of str to sequence of Sample, optional
        Images of results, by data set, as `lplr.evaluation.gallery.read_gallery` gives them.
    overwrite : bool
        Whether an existing file is replaced.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Raises
    ------
    InputError
        If there is no row, a row lacks a key, or the file exists and ``overwrite`` is False.
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.report import write_report
    >>> row = {"dataset": "digits", "budget": 1.0, "metric": "relative error", "status": "ok"}
    >>> rows = [
    ...     row | {"method": "compress", "family": "lplr", "value": 0.1},
    ...     row | {"method": "PCA", "family": "sklearn", "value": 0.2},
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(os.path.join(folder, "report.html"), rows, {"machine": "a laptop"})
    ...     os.listdir(folder)
    ['report.html']
    """
    results = gather(rows, str(attrs.get("default", "compress")))
    with tracked(progress, "report"):
        page = _page(results, attrs, samples or {})
    write_atomic(path, [document(_TITLE, page).encode()], overwrite)


def _page(
    results: Results, attrs: Mapping[str, Any], samples: Mapping[str, Sequence[Sample]]
) -> str:
    """All sections, and links to them."""
    names = results.measured
    alone = len({e.method for e in results.entries if e.family != "reference"}) < 2
    top = overview(_TITLE, _ALONE if alone else _LEAD, results)
    told = meaning(results, samples)
    if alone and not samples:
        sections = [matrices_section(results)] * bool(names)
        links = [("matrices", "Matrices")] * bool(names)
    else:
        sections = [
            dataset_section(results, i, attrs, samples.get(names[i], ()))
            for i in parts(range(len(names)), what=lambda i: f"report: {names[i]}")
        ]
        links = [(anchor(name), name) for name in names]
    links = [("meaning", "What an error means")] * bool(told) + links
    links += [("glossary", "Glossary"), ("about", "Machine and versions")]
    words = glossary(attrs.get("stores") or {})
    about = {k: v for k, v in attrs.items() if k not in _ELSEWHERE}
    how = f'<h2 id="about">How it was measured</h2>{_about(about)}'
    return "\n".join([top, navigation(links), told, *sections, words, how])


def _about(attrs: Mapping[str, Any]) -> str:
    """Machine and versions in a line, everything folded."""
    return folded("Machine, versions, settings and data", listing(attrs))
