"""One page from one results table: what it says on top, then each data set, then the rest."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lplr.evaluation.plots import Picture
from lplr.evaluation.report.charts import rate_chart, time_chart
from lplr.evaluation.report.headline import headline
from lplr.evaluation.report.looks import Looks
from lplr.evaluation.report.metrics import bits_text, metric, number
from lplr.evaluation.report.page import anchor, document, escape, typeset
from lplr.evaluation.report.results import Results, gather
from lplr.evaluation.report.tables import (
    dataset_table,
    defeats_table,
    duels_table,
    paper_table,
    skipped_table,
)
from lplr.storage.atomic import write_atomic

__all__ = ["write_report"]

_TITLE = "What a bit buys: lplr against its baselines"


def write_report(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, Any]],
    attrs: Mapping[str, Any],
    pictures: Mapping[str, Sequence[Picture]] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write the results of a benchmark as one self-contained HTML file.

    The file loads nothing from anywhere, is readable without scripts, and is the same for equal
    arguments and versions.

    Parameters
    ----------
    path : str or path-like
    rows : iterable of mapping
        One value a row, with the keys ``dataset``, ``method``, ``family``, ``budget`` (asked bits
        an entry), ``metric``, ``value``, ``status`` ("ok", or another word for what did not run)
        and, where known, ``shape``, ``protocol``, ``seed``, ``bits_per_entry`` (stored),
        ``stored_bytes``, ``seconds``, ``peak_mb`` and ``note``. The family "lplr" is this
        project, "reference" the uncompressed data, every other one a baseline.
    attrs : mapping
        ``limits``, by data set and budget, and ``default``, the method that the others are
        compared with ("feedback" if absent), are used; everything else is printed at the end.
    pictures : mapping of str to sequence of Picture, optional
        Images to show side by side, by data set; the first is the original.
    overwrite : bool
        Whether an existing file is replaced.

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
    ...     row | {"method": "feedback", "family": "lplr", "value": 0.1},
    ...     row | {"method": "PCA", "family": "sklearn", "value": 0.2},
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(os.path.join(folder, "report.html"), rows, {"machine": "a laptop"})
    ...     os.listdir(folder)
    ['report.html']
    """
    results = gather(rows, str(attrs.get("default", "feedback")))
    limits = {
        str(name): {float(budget): float(value) for budget, value in curve.items()}
        for name, curve in (attrs.get("limits") or {}).items()
    }
    body = "\n".join(
        [
            _top(results),
            _navigation(results),
            _comparison(results),
            *_datasets(results, limits, pictures or {}),
            _skipped(results),
            _about(attrs),
        ]
    )
    write_atomic(path, [document(_TITLE, body).encode()], overwrite)


def _top(results: Results) -> str:
    said = headline(results)
    lost = any(results.defeats(*case) for case in results.cases())
    lines = [f"<h1>{escape(_TITLE)}</h1>"]
    for i, sentence in enumerate(said):
        kind = "lead lost" if lost and i == 0 else "lead"
        lines.append(f'<p class="{kind}">{escape(sentence)}</p>')
    lines.append(
        '<p class="dim">All methods store the asked number of bits an entry of the matrix or less, '
        "scales, codebooks and everything else that a decoder needs included; a note says so where "
        "one stores more. A is the matrix, B what is stored of it. The limit is the "
        "rate–distortion limit for the singular values: a yardstick for random singular vectors, "
        "not a theorem about one matrix.</p>"
    )
    if results.skipped:
        methods = len({row["method"] for row in results.skipped})
        lines.append(
            f'<p class="dim">{len(results.skipped)} results of {methods} '
            f'method{"s" if methods > 1 else ""} are missing: <a href="#skipped">why</a>.</p>'
        )
    return "\n".join(lines)


def _navigation(results: Results) -> str:
    links = [("comparison", "Default against baselines")]
    links += [(anchor(name), name) for name in results.datasets]
    links += [("skipped", "Not run")] if results.skipped else []
    links += [("about", "Machine and versions")]
    items = "".join(f'<li><a href="#{to}">{escape(text)}</a></li>' for to, text in links)
    return f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def _comparison(results: Results) -> str:
    parts = ['<h2 id="comparison">The default against the best baseline</h2>']
    parts += [defeats_table(results), duels_table(results), paper_table(results)]
    return "\n".join(part for part in parts if part)


def _datasets(
    results: Results,
    limits: Mapping[str, Mapping[float, float]],
    pictures: Mapping[str, Sequence[Picture]],
) -> list[str]:
    looks = Looks.of(results)
    sections = []
    for i, dataset in enumerate(results.datasets):
        shape = results.shapes[dataset]
        head = f"{escape(dataset)} <small>{escape(shape)}</small>" if shape else escape(dataset)
        parts = [f'<section><h2 id="{anchor(dataset)}">{head}</h2>']
        charts = _charts(results, looks, dataset, limits.get(dataset), f"f{i}")
        if charts:
            parts.append(f'<div class="charts">{"".join(charts)}</div>')
        if dataset in pictures:
            parts.append(_side_by_side(dataset, pictures[dataset]))
        parts.append(dataset_table(results, dataset))
        sections.append("\n".join([*parts, "</section>"]))
    return sections


def _charts(
    results: Results,
    looks: Looks,
    dataset: str,
    limit: Mapping[float, float] | None,
    name: str,
) -> list[str]:
    """Error, accuracy and recall by protocol, PSNR, and time, as far as they were measured."""
    charts = []
    error = results.error_name(dataset)
    measured = dict.fromkeys((c.metric, c.protocol) for c in results.pick(dataset=dataset))
    wanted = [pair for pair in measured if pair[0] in (error, "accuracy", "psnr")]
    wanted += [pair for pair in measured if pair[0].startswith("recall@")]
    wanted.sort(key=lambda pair: pair[0] != error)
    for j, (what, protocol) in enumerate(wanted):
        cells = results.pick(dataset=dataset, metric=what, protocol=protocol)
        plain = [c.mean for c in cells if c.family == "reference"]
        level = plain[0] if plain and what == "accuracy" else None
        levels = limit if what == "relative error" else level
        title = f"{what}, {protocol}" if protocol else what
        chart = rate_chart(cells, looks, f"{name}-{j}", levels)
        formula = metric(what).formula
        caption = escape(title) + (f": {typeset(formula)}" if formula else "")
        charts.append(_captioned(chart, caption))
    budgets = {c.budget for c in results.pick(dataset=dataset, metric=error, method=looks.default)}
    if budgets:
        budget = min(budgets, key=lambda b: (abs(np.log2(b)), b))
        cells = results.pick(dataset=dataset, metric=error, budget=budget)
        chart = time_chart(cells, looks, f"{name}-t")
        caption = f"{error} against time at {bits_text(budget)} an entry"
        charts.append(_captioned(chart, escape(caption)))
    return [chart for chart in charts if chart]


def _captioned(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>" if chart else ""


def _side_by_side(dataset: str, pictures: Sequence[Picture]) -> str:
    shown = []
    for picture in pictures:
        image = np.asarray(picture.image)
        small = ' class="small"' if max(image.shape[:2]) < 150 else ""
        shown.append(
            f'<figure><img{small} width="{image.shape[1]}" height="{image.shape[0]}" '
            f'alt="{escape(f"{dataset}: {picture.caption}")}" src="{_data_uri(image)}">'
            f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        )
    return f'<div class="pictures">{"".join(shown)}</div>'


def _data_uri(image: np.ndarray) -> str:
    """A PNG, grey or RGB, of values from 0 to 1."""
    from PIL import Image

    buffer = io.BytesIO()
    codes = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    Image.fromarray(codes).save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _skipped(results: Results) -> str:
    if not results.skipped:
        return ""
    return f'<h2 id="skipped">Not run, and why</h2>{skipped_table(results)}'


def _about(attrs: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in attrs.items() if k not in ("limits", "default")}
    return f'<h2 id="about">Machine, versions, settings</h2>{_listed(shown)}'


def _listed(value: Any) -> str:
    """Nested mappings as lists of terms, everything else as it prints."""
    if isinstance(value, Mapping):
        terms = (f"<dt>{escape(k)}</dt><dd>{_listed(v)}</dd>" for k, v in value.items())
        return f"<dl>{''.join(terms)}</dl>"
    if isinstance(value, (list, tuple)):
        return escape(", ".join(map(str, value)))
    if isinstance(value, float):
        return escape(number(value))
    return escape(value)
