"""The sections of the report: the overview, and one for each data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lplr.evaluation.charts import chart_floor, rate_chart, row_chart, time_chart
from lplr.evaluation.figures import inline_svg
from lplr.evaluation.gallery import Sample
from lplr.evaluation.metrics import bits_text, metric, number
from lplr.evaluation.report.glossary import term
from lplr.evaluation.report.headline import headline, listed, short_label
from lplr.evaluation.report.meaning import side_by_side
from lplr.evaluation.report.page import anchor, captioned, escape, folded, typeset
from lplr.evaluation.report.results import GROUPS, Comparison, Entry, Results
from lplr.evaluation.report.tables import (
    comparisons_table,
    dataset_table,
    first_table,
    matrices_table,
    not_run,
    paper_table,
)
from lplr.evaluation.significance import TWICE
from lplr.evaluation.styles import style_of

__all__ = ["dataset_section", "matrices_section", "overview"]

_LINKS = {"stored bits": "stored bits per entry", "no different": "no difference"}
_LINES = 5  # of a chart, beside its yardstick
_EXACT = 1e-9  # an error below which a result is exact
_ROWS = 14  # of the overview's picture
_LOOKS = {  # of a group in the overview's picture, as the method that stands for it
    "best of the paper": "lplr",
    "naive rounding": "naive",
    "best of scikit-learn, SciPy": "TruncatedSVD float16",
    "best of faiss": "ScalarQuantizer",
    "best other of ours": "feedback",
}


def overview(title: str, lead: str, results: Results) -> str:
    """Five lines and one picture; below them, folded, what they are made of."""
    lines = "".join(
        f"<dt>{escape(head)}</dt><dd>{_linked(text)}</dd>" for head, text in headline(results)
    )
    below = [comparisons_table(results), paper_table(results)]
    below += [not_run(results)] if results.skipped else []
    return (
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f'<div class="overview"><dl>{lines}</dl>'
        f"{_picture(results)}</div>{''.join(below)}</header>"
    )


def _linked(text: str) -> str:
    """Text as HTML, with links to the glossary."""
    text = escape(text)
    for words, name in _LINKS.items():
        text = text.replace(words, term(name, words))
    return text


def _picture(results: Results) -> str:
    """At the first budget: the errors of others as multiples of the default's, or its own."""
    own = {
        name: e
        for name in results.shapes
        for e in results.pick(
            dataset=name, metric=results.error_metric(name), method=results.default,
            budget=results.budget,
        )
        if 0 < e.mean < math.inf
    }  # fmt: skip
    if not own:
        return ""
    label, at = short_label(results.default), bits_text(results.budget or 0)
    rows: dict[str, dict[str, float]] = {}
    for name, mine in own.items():
        ratios = {
            group: e.mean / mine.mean
            for group, e in results.best_of_groups(name).items()
            if e.budget == mine.budget and 0 < e.mean < math.inf
        }
        if ratios:
            rows[f"{name} ({mine.mean:.3f})"] = ratios
    if rows:
        series = {g: style_of(_LOOKS.get(g, g)).line() for g in [*GROUPS.values(), *_others(rows)]}
        axis, line = f"error, as a multiple of that of {label}", results.default
        caption = (
            f"At {at} per entry, the error of others divided by that of {escape(label)}, whose own "
            f"is in brackets. Right of the line is worse. See {term('relative error')}."
        )
    else:
        worst = sorted(own, key=lambda name: -own[name].mean)[:_ROWS]
        series = {label: style_of(results.default).line()}
        rows = {name: {label: own[name].mean} for name in own if name in worst}
        axis, line = "error", ""
        more = f", the {_ROWS} largest of {len(own)}" if len(own) > _ROWS else ""
        caption = f"The {term('relative error', 'errors')} of {escape(label)} at {at}{more}."
    rows = dict(list(rows.items())[:_ROWS])
    told = "; ".join(
        f"{name}: " + ", ".join(f"{group} {x:.2f}" for group, x in row.items())
        for name, row in rows.items()
    )
    svg = inline_svg(row_chart(rows, series, axis, line), "top", f"{axis}, at {at}. {told}.")
    return captioned(svg, caption)


def _others(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Groups that are not in `GROUPS`."""
    every = dict.fromkeys(group for row in rows.values() for group in row)
    return [group for group in every if group not in GROUPS.values()]


def matrices_section(results: Results) -> str:
    """All matrices in one table, where there is but one method."""
    return f'<section><h2 id="matrices">Matrices</h2>{matrices_table(results)}</section>'


def dataset_section(
    results: Results,
    i: int,
    attrs: Mapping[str, Any],
    samples: Sequence[Sample],
) -> str:
    """One data set: a sentence on it, what came out, two charts, images; the rest is folded."""
    dataset = results.measured[i]
    shape = results.shapes[dataset]
    head = f"{escape(dataset)} <small>{escape(shape)}</small>" if shape else escape(dataset)
    parts = [f'<section><h2 id="{anchor(dataset)}">{head}</h2>']
    about = _about(dataset, attrs)
    parts += [f'<p class="dim">{about}</p>'] if about else []
    rivals = [e.method for e in results.best_of_groups(dataset).values()]
    shown = [results.default, *rivals][:_LINES]
    limits = (attrs.get("limits") or {}).get(dataset, {})
    first, more = _charts(results, dataset, shown, limits, f"f{i}")
    figures, numbers = "".join(first.values()), first_table(results, dataset, shown)
    if len(first) == 1:  # there is room beside it
        parts.append(f'<div class="charts">{figures}<div>{numbers}</div></div>')
    else:
        parts.append((f'<div class="charts">{figures}</div>' if figures else "") + numbers)
    if samples and results.budget:
        parts.append(side_by_side(dataset, samples, results.budget))
    if more:
        told = escape(f"Chart{'s' * (len(more) > 1)} of {listed(list(more))}")
        parts.append(folded(told, f'<div class="charts">{"".join(more.values())}</div>'))
    return "\n".join([*parts, dataset_table(results, dataset), "</section>"])


def _about(dataset: str, attrs: Mapping[str, Any]) -> str:
    """What a matrix is, how many directions it has, and what is asked of it."""
    spectrum = (attrs.get("spectra") or {}).get(dataset, {})
    shape = (attrs.get("data") or {}).get(dataset, {}).get("shape", "")
    told = []
    if about := (attrs.get("about") or {}).get(dataset):
        told.append(f"{about[:1].upper()}{about[1:]}.")
    if spectrum.get("rank_50") and " x " in str(shape):
        least = min(map(int, str(shape).split(" x ")))
        told.append(
            f"Half of its sum of squares is in {spectrum['rank_50']} of {least} singular "
            f"directions, 90 % in {spectrum['rank_90']}."
        )
    if queries := (attrs.get("queries") or {}).get(dataset):
        told.append(f"{queries[:1].upper()}{queries[1:]}.")
    return escape(" ".join(told))


def _charts(
    results: Results, dataset: str, shown: Sequence[str], limits: Mapping[str, float], name: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Error and accuracy; and, to be shown on demand, neighbours kept, scores of images, time."""
    error = results.error_metric(dataset) or ""
    limit = sorted((float(b), float(v)) for b, v in limits.items())
    first: dict[str, str] = {}
    more: dict[str, str] = {}
    for j, (what, protocol) in enumerate(_wanted(results, dataset)):
        found = results.pick(dataset=dataset, metric=what, protocol=protocol)
        entries = [e for e in found if e.method in shown]
        plain = next((e for e in found if e.family == "reference" and what == "accuracy"), None)
        curves = _curves(entries, "bits_per_entry", shown, plain)
        if not _is_worth_drawing(curves):
            continue
        level = plain.mean if plain else None
        yardstick = limit if what == "relative error" else []
        chart = rate_chart(what, curves, results.default, limit=yardstick, level=level)
        text = _alternative(entries, results.default, level)
        svg = inline_svg(chart, f"{name}-{j}", text)
        caption = _caption(what, protocol, short_label(results.default))
        if what == error:
            caption += _below(curves, results.default, [y for _, y in yardstick if y > 0])
        place = first if what in (error, "accuracy") else more
        words = metric(what).short.partition(", ")[0]
        place[f"{words}, {protocol}" if words in place else words] = captioned(svg, caption)
    at = results.pick(dataset=dataset, metric=error, budget=results.budget)
    curves = _curves([e for e in at if e.method in shown], "seconds", shown)
    if curves and results.budget:
        told = (f"{m} {number(y)} in {x:.2g} s" for m, [(x, y, *_)] in curves.items())
        text = f"{error} against time: {'; '.join(told)}."
        svg = inline_svg(time_chart(error, curves, results.default), f"{name}-t", text)
        caption = f"{error} against time at {bits_text(results.budget)} per entry"
        more["time"] = captioned(svg, escape(caption))
    return first, more


def _wanted(results: Results, dataset: str) -> list[tuple[str, str]]:
    """The metrics that are drawn, each with its protocol: the error first."""
    error = results.error_metric(dataset)
    measured = dict.fromkeys((e.metric, e.protocol) for e in results.pick(dataset=dataset))
    names = (error, "accuracy", "psnr")
    wanted = [p for p in measured if p[0] in names or p[0].startswith("recall@")]
    return sorted(wanted, key=lambda pair: pair[0] != error)


def _caption(what: str, protocol: str, label: str) -> str:
    if what == "accuracy":
        with_protocol = f", {escape(protocol)}" if protocol else ""
        return (
            f"{term('kNN accuracy')}{with_protocol}. Band: twice the {term('standard error')} of "
            f"the difference between {escape(label)} and uncompressed data"
        )
    title = escape(f"{what}, {protocol}" if protocol else what)
    formula = metric(what).formula
    caption = f"{title}: {typeset(formula)}" if formula else title
    known = f". Dash-dotted: a {term('yardstick')}, no bound" if what == "relative error" else ""
    return caption + known


def _below(
    curves: Mapping[str, Sequence[tuple[float, ...]]], default: str, limit: Sequence[float]
) -> str:
    """Where lines go that leave a chart of errors below."""
    floor = chart_floor([*(y for _, y, *_ in curves.get(default, ())), *limit])
    told = [
        f"{style_of(method).label} to {'0' if y <= _EXACT else f'{y:.2g}'} at {x:.2g} bits"
        for method, points in curves.items()
        if (under := [(x, y) for x, y, *_ in points if y < floor])
        for x, y in under[:1]
    ]
    return escape(f". Below the chart: {listed(told)}") if told else ""


def _curves(
    entries: Sequence[Entry], across: str, order: Sequence[str], plain: Entry | None = None
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Points (x, mean, least, greatest) of each method that can be drawn, ascending.

    The band is twice the standard error: of the difference to the uncompressed data, if given.
    """
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    for e in sorted(entries, key=lambda e: order.index(e.method)):
        x = getattr(e, across) or (e.budget if across == "bits_per_entry" else 0.0)
        # An exact result is at the foot of a logarithmic scale.
        least = _EXACT if metric(e.metric).sign > 0 else -math.inf
        band = TWICE * (Comparison(e, plain).standard_error if plain else e.standard_error)
        mean, low, high = (max(y, least) for y in (e.mean, e.mean - band, e.mean + band))
        if x and math.isfinite(low + high):
            curves.setdefault(e.method, []).append((x, mean, low, high))
    return {method: sorted(points) for method, points in curves.items()}


def _is_worth_drawing(curves: Mapping[str, Sequence[tuple[float, ...]]]) -> bool:
    """Whether there is a line, and not only points at one budget, which the table has, or zeros."""
    several = any(len(points) > 1 for points in curves.values())
    return several and any(mean > _EXACT for points in curves.values() for _, mean, *_ in points)


def _alternative(entries: Sequence[Entry], default: str, level: float | None) -> str:
    """What the chart shows, in words: every line at every budget."""

    def told(points: Iterable[tuple[float, float]]) -> str:
        return ", ".join(f"{number(value)} at {bits_text(bits)}" for bits, value in points)

    text = f"{entries[0].metric} against stored bits per entry"
    for method in dict.fromkeys(e.method for e in entries):
        own = sorted((e.budget, e.mean) for e in entries if e.method == method)
        text += f"; {style_of(method).label}: {told(own)}"
    return text + (f"; uncompressed: {number(level)}" if level is not None else "") + "."
