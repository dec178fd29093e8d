"""The results of `lplr bench` as one HTML file that needs nothing else: to read, print and mail.

What it says is on top, then comes each data set, then the rest.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lplr.evaluation.charts import Styles, rate_chart, time_chart
from lplr.evaluation.figures import inline_svg
from lplr.evaluation.metrics import bits_text, metric, number
from lplr.evaluation.pictures import Picture
from lplr.evaluation.report.headline import headline
from lplr.evaluation.report.page import anchor, document, escape, typeset
from lplr.evaluation.report.results import Entry, Results, gather
from lplr.evaluation.report.tables import (
    comparisons_table,
    dataset_table,
    losses_table,
    paper_table,
    skipped_table,
)
from lplr.storage.atomic import write_atomic

__all__ = ["write_report"]

_TITLE = "What a bit buys: lplr against its baselines"
_FAMILIES = ("lplr", "paper", "sklearn", "naive", "faiss", "scipy")  # in the order of the palette


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
        per entry), ``metric``, ``value``, ``status`` ("ok", or another word for what did not run)
        and, where known, ``shape``, ``protocol``, ``seed``, ``bits_per_entry`` (stored),
        ``stored_bytes``, ``seconds``, ``peak_mb`` and ``note``. The family "lplr" is this
        project, "reference" the uncompressed data, every other one a baseline. The rows of
        `lplr.evaluation.grid.run_grid`, of ``lplr bench --json`` and ``lplr demo --json`` are such.
    attrs : mapping
        ``limits``, by data set and budget, and ``default``, the method that the others are
        compared with ("compress" if absent), are used; everything else is printed at the end.
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
    ...     row | {"method": "compress", "family": "lplr", "value": 0.1},
    ...     row | {"method": "PCA", "family": "sklearn", "value": 0.2},
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(os.path.join(folder, "report.html"), rows, {"machine": "a laptop"})
    ...     os.listdir(folder)
    ['report.html']
    """
    results = gather(rows, str(attrs.get("default", "compress")))
    sections = [
        _dataset(results, i, (attrs.get("limits") or {}).get(name, {}), (pictures or {}).get(name))
        for i, name in enumerate(results.shapes)
    ]
    parts = [_top(results), _navigation(results), _comparison(results), *sections]
    if results.skipped:
        parts.append(f'<h2 id="skipped">Not run, and why</h2>{skipped_table(results)}')
    about = {k: v for k, v in attrs.items() if k not in ("limits", "default")}
    parts.append(f'<h2 id="about">Machine, versions, settings</h2>{_listed(about)}')
    write_atomic(path, [document(_TITLE, "\n".join(parts)).encode()], overwrite)


def _top(results: Results) -> str:
    lost = any(results.losses(*case) for case in results.cases())
    lines = [f"<h1>{escape(_TITLE)}</h1>"]
    for i, sentence in enumerate(headline(results)):
        kind = "lead lost" if lost and i == 0 else "lead"
        lines.append(f'<p class="{kind}">{escape(sentence)}</p>')
    lines.append(
        '<p class="dim">All methods store the asked number of bits per entry of the matrix or '
        "less, scales, codebooks and everything else that a decoder needs included; a note says so "
        "where one stores more. A is the matrix, B what is stored of it. The limit is the "
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
    links += [(anchor(name), name) for name in results.shapes]
    links += [("skipped", "Not run")] if results.skipped else []
    links += [("about", "Machine and versions")]
    items = "".join(f'<li><a href="#{to}">{escape(text)}</a></li>' for to, text in links)
    return f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def _comparison(results: Results) -> str:
    parts = ['<h2 id="comparison">The default against the best baseline</h2>']
    parts += [losses_table(results), comparisons_table(results), paper_table(results)]
    return "\n".join(part for part in parts if part)


def _dataset(
    results: Results, i: int, limits: Mapping[str, float], pictures: Sequence[Picture] | None
) -> str:
    dataset, shape = list(results.shapes.items())[i]
    head = f"{escape(dataset)} <small>{escape(shape)}</small>" if shape else escape(dataset)
    parts = [f'<section><h2 id="{anchor(dataset)}">{head}</h2>']
    charts = _charts(results, dataset, limits, f"f{i}")
    if charts:
        parts.append(f'<div class="charts">{"".join(charts)}</div>')
    if pictures:
        parts.append(_side_by_side(dataset, pictures))
    return "\n".join([*parts, dataset_table(results, dataset), "</section>"])


def _styles(results: Results) -> Styles:
    """Families in the order of the palette, the default first."""
    families = {e.method: e.family for e in results.entries if e.family != "reference"}

    def place(method: str) -> tuple[bool, int]:
        known = families[method] in _FAMILIES
        return method != results.default, _FAMILIES.index(families[method]) if known else 99

    return Styles(results.default, {m: families[m] for m in sorted(families, key=place)})


def _charts(results: Results, dataset: str, limits: Mapping[str, float], name: str) -> list[str]:
    """Error, accuracy and recall by protocol, PSNR, and time, as far as they were measured."""
    styles = _styles(results)
    charts = []
    error = results.error_metric(dataset) or ""
    measured = dict.fromkeys((e.metric, e.protocol) for e in results.pick(dataset=dataset))
    wanted = [pair for pair in measured if pair[0] in (error, "accuracy", "psnr")]
    wanted += [pair for pair in measured if pair[0].startswith("recall@")]
    wanted.sort(key=lambda pair: pair[0] != error)
    limit = sorted((float(b), float(v)) for b, v in limits.items())
    for j, (what, protocol) in enumerate(wanted):
        entries = results.pick(dataset=dataset, metric=what, protocol=protocol)
        curves = _curves(entries, "bits_per_entry")
        if not curves:
            continue
        plain = [e.mean for e in entries if e.family == "reference" and what == "accuracy"]
        shown = limit if what == "relative error" else []
        level = plain[0] if plain else None
        chart = rate_chart(what, curves, styles, limit=shown, level=level)
        text = _alternative(entries, results.default, shown, level)
        title = escape(f"{what}, {protocol}" if protocol else what)
        formula = metric(what).formula
        caption = f"{title}: {typeset(formula)}" if formula else title
        charts.append(_captioned(inline_svg(chart, f"{name}-{j}", text), caption))
    budgets = {e.budget for e in results.pick(dataset=dataset, metric=error, method=styles.default)}
    if budgets:
        budget = min(budgets, key=lambda b: (abs(math.log2(b)), b))
        curves = _curves(results.pick(dataset=dataset, metric=error, budget=budget), "seconds")
        if curves:
            told = (f"{m} {number(y)} in {x:.2g} s" for m, [(x, y, *_)] in curves.items())
            text = f"{error} against time: {'; '.join(told)}."
            svg = inline_svg(time_chart(error, curves, styles), f"{name}-t", text)
            caption = f"{error} against time at {bits_text(budget)} per entry"
            charts.append(_captioned(svg, escape(caption)))
    return charts


def _curves(
    entries: Sequence[Entry], across: str
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Points (x, mean, least, greatest) of each method that can be drawn, ascending."""
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    for e in entries:
        x = getattr(e, across) or (e.budget if across == "bits_per_entry" else 0.0)
        # An exact result is at the foot of a logarithmic scale.
        least = 1e-9 if metric(e.metric).sign > 0 else -math.inf
        mean, low, high = (max(y, least) for y in (e.mean, min(e.values), max(e.values)))
        if x and e.family != "reference" and math.isfinite(low + high):
            curves.setdefault(e.method, []).append((x, mean, low, high))
    return {method: sorted(points) for method, points in curves.items()}


def _alternative(
    entries: Sequence[Entry],
    default: str,
    limit: Sequence[tuple[float, float]],
    level: float | None,
) -> str:
    """What the chart shows, in words: the default at each budget, and the limit."""

    def told(points: Iterable[tuple[float, float]]) -> str:
        return ", ".join(f"{number(value)} at {bits_text(bits)}" for bits, value in points)

    methods = len({e.method for e in entries})
    text = f"{entries[0].metric} against stored bits per entry for {methods} methods"
    mine = sorted((e.budget, e.mean) for e in entries if e.method == default)
    text += f"; the default, {default}: {told(mine)}" if mine else ""
    text += f"; limit: {told(limit)}" if limit else ""
    text += f"; uncompressed: {number(level)}" if level is not None else ""
    return text + ". The table below has all numbers."


def _captioned(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def _side_by_side(dataset: str, pictures: Sequence[Picture]) -> str:
    shown = []
    for picture in pictures:
        image = np.asarray(picture.image)
        small = ' class="small"' if max(image.shape[:2]) < 150 else ""
        img = (
            f'<img{small} width="{image.shape[1]}" height="{image.shape[0]}" '
            f'alt="{escape(f"{dataset}: {picture.caption}")}" src="{_data_uri(image)}">'
        )
        shown.append(_captioned(img, escape(picture.caption)))
    return f'<div class="pictures">{"".join(shown)}</div>'


def _data_uri(image: np.ndarray) -> str:
    """A PNG, grey or RGB, of values from 0 to 1."""
    from PIL import Image

    buffer = io.BytesIO()
    codes = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    Image.fromarray(codes).save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _listed(value: Any) -> str:
    """Nested mappings as lists of terms, everything else as it prints."""
    if isinstance(value, Mapping):
        terms = (f"<dt>{escape(k)}</dt><dd>{_listed(v)}</dd>" for k, v in value.items())
        return f"<dl>{''.join(terms)}</dl>"
    if isinstance(value, (list, tuple)):
        return escape(", ".join(map(str, value)))
    return escape(number(value) if isinstance(value, float) else value)
