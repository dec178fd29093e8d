"""The tables of the report, each pre-sorted by what a reader asks first, and folded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lplr.evaluation.metrics import bits_text, metric, number
from lplr.evaluation.report.headline import bits_listed, listed, short_label
from lplr.evaluation.report.page import Value, escape, folded, table, typeset
from lplr.evaluation.report.results import Comparison, Entry, Results
from lplr.evaluation.styles import style_of

__all__ = [
    "comparisons_table",
    "dataset_table",
    "first_table",
    "matrices_table",
    "not_run",
    "paper_table",
]

_PAPER = ("lplr", "lplr-svd", "direct-svd")  # methods of the paper, besides naive quantization
_VERDICTS = {1: ("better", "good"), 0: ("no difference", ""), -1: ("worse", "bad")}
_FIRST = 5  # data sets named one by one


def comparisons_table(results: Results) -> str:
    """The default against the best method that is not ours in error and accuracy, case by case."""
    found = [
        c
        for case in results.cases()
        for c in results.comparisons(*case)
        if c.default.metric in (results.error_metric(case[0]), "accuracy")
    ]
    if not found:
        return ""
    name = short_label(results.default)
    shown = table(
        "Mean ± standard error. A difference within twice its own standard error is none.",
        ("data set", "bits", "metric", name, "best not ours", "which", "difference", f"{name} is"),
        [_comparison_row(c) for c in found],
        numeric=(1, 3, 4, 6),
        sorted_by=None,
    )
    told = f"All {len(found)} comparisons with the best method that is not ours"
    return _folded(told, shown, [c.default.metric for c in found])


def _comparison_row(c: Comparison) -> list[Value]:
    mine, other = c.default, c.baseline
    gain = mine.mean - other.mean
    verdict, mark = _VERDICTS[c.verdict]
    return [
        Value(mine.dataset),
        _plain(mine.budget, "g"),
        Value(metric(mine.metric).short),
        _measured(mine),
        _measured(other),
        Value(style_of(other.method).label),
        Value(("+" if gain > 0 else "") + _difference(c, gain), gain),
        Value(verdict, mark=mark),
    ]


def _difference(c: Comparison, gain: float) -> str:
    if metric(c.default.metric).is_share:
        return f"{100 * gain:.1f} ± {100 * c.standard_error:.1f}".replace("-", "−")
    return number(gain, c.standard_error)


def paper_table(results: Results) -> str:
    """The paper's finding at one bit: below direct SVD and naive quantization, on each data set."""
    rows = []
    for default in results.pick(method=results.default, budget=1.0):
        if default.metric not in (results.error_metric(default.dataset), "accuracy"):
            continue
        same = results.pick(
            dataset=default.dataset, budget=1.0, metric=default.metric, protocol=default.protocol
        )
        found = {e.method: e for e in same}
        naive = next((e for e in same if e.family == "naive"), None)
        if naive or "direct-svd" in found:
            rows.append(_paper_row(default, [*(found.get(m) for m in _PAPER), naive]))
    if not rows:
        return ""
    name = short_label(results.default)
    labels = [style_of(method).label for method in _PAPER]
    shown = table(
        "At one bit per entry: the paper finds its algorithm better than direct SVD and naive "
        "rounding",
        ("data set", "metric", name, *labels, "naive rounding", f"holds for {name}", "for LPLR"),
        rows,
        numeric=(2, 3, 4, 5, 6),
    )
    return folded("The finding of the LPLR paper, measured again", shown)


def _paper_row(default: Entry, others: Sequence[Entry | None]) -> list[Value]:
    def holds(entry: Entry | None) -> Value:
        if entry is None:
            return Value("–")
        verdicts = [Comparison(entry, other).verdict for other in others[-2:] if other]
        words = {1: ("yes", "good"), 0: ("no difference", ""), -1: ("no", "bad")}
        text, mark = words[min(verdicts)]
        return Value(text, mark=mark)

    measured = map(_measured, [default, *others])
    row = [Value(default.dataset), Value(metric(default.metric).short), *measured]
    return [*row, holds(default), holds(others[0])]


def first_table(results: Results, dataset: str, methods: Sequence[str]) -> str:
    """At the first budget: the methods of the charts, and the data without compression."""
    budget = results.budget
    every = results.pick(dataset=dataset)
    entries = [e for e in every if e.method in methods and e.budget == budget]
    columns = list(dict.fromkeys((e.metric, e.protocol) for e in entries))
    columns = sorted((c for c in columns if metric(c[0]).sign), key=lambda c: c[0] != "accuracy")
    error = results.error_metric(dataset)
    columns.sort(key=lambda column: column[0] != error)
    found = {(e.method, e.metric, e.protocol): e for e in entries}
    plain = {(e.metric, e.protocol): e for e in every if e.family == "reference"}
    shown = [m for m in methods if any((m, *column) in found for column in columns)]
    rows = []
    for method in shown:
        own = [found.get((method, *column)) for column in columns]
        defaults = [found.get((results.default, *column)) for column in columns]
        rows.append([Value(style_of(method).label), *map(_judged, own, defaults)])
    if plain:
        rows.append([Value("uncompressed"), *(_measured(plain.get(column)) for column in columns)])
    if not rows:
        return ""
    alike = any("≈" in value.text for row in rows for value in row)
    name = short_label(results.default)
    return table(
        f"At {bits_text(budget or 0)} per entry, of each kind the method with the least error"
        + (f"; ≈ marks no difference from {name}" if alike else ""),
        ("method", *_named(columns)),
        rows,
        numeric=range(1, len(columns) + 1),
        own=[i for i, method in enumerate(shown) if method == results.default],
    )


def _named(columns: Sequence[tuple[str, str]]) -> list[str]:
    """Heads of columns: the metric, its unit, and the protocol where there are several."""
    several = len({protocol for _, protocol in columns if protocol}) > 1
    return [
        metric(name).short + (f", {protocol}" if protocol and several else "")
        for name, protocol in columns
    ]


def _judged(entry: Entry | None, default: Entry | None) -> Value:
    """A value that is marked where it cannot be told from the default's."""
    value = _measured(entry)
    if entry is None or default is None or entry is default or Comparison(default, entry).verdict:
        return value
    return Value(f"≈ {value.text}", value.key)


def dataset_table(results: Results, dataset: str) -> str:
    """All results on one data set: a line for each method and budget, a column for each metric."""
    entries = results.pick(dataset=dataset)
    error = results.error_metric(dataset)
    columns = list(dict.fromkeys((e.metric, e.protocol) for e in entries))
    columns.sort(key=lambda column: column[0] != error)
    groups: dict[tuple[float, str], dict[tuple[str, str], Entry]] = {}
    for e in entries:
        groups.setdefault((e.budget, e.method), {})[e.metric, e.protocol] = e

    def rank(item: Any) -> tuple[float, float]:
        (budget, _), found = item
        return budget, next((e.mean for e in found.values() if e.metric == error), float("inf"))

    ordered = sorted(groups.items(), key=rank)
    rows = [
        [Value(style_of(method).label), *_cells(budget, found, columns)]
        for (budget, method), found in ordered
    ]
    heads = (
        "method",
        "bits",
        "stored bits",
        *_named(columns),
        "seconds",
        "peak MB",
        "bytes",
        "seeds",
    )
    shown = table(
        f"{dataset}: mean ± standard error; by bits, then by {error or 'name'}",
        (*heads, "note"),
        rows,
        numeric=range(1, len(heads)),
        sorted_by=1,
        own=[i for i, ((_, method), _) in enumerate(ordered) if method == results.default],
    )
    told = f"All {len(rows)} results on {escape(dataset)}"
    return _folded(told, shown, [name for name, _ in columns])


def _cells(
    budget: float, found: dict[tuple[str, str], Entry], columns: Sequence[tuple[str, str]]
) -> list[Value]:
    """Of one method at one budget, what follows its name."""
    some = next(iter(found.values()))
    return [
        _plain(budget, "g"),
        _plain(some.bits_per_entry, ".3f"),
        *(_measured(found.get(column)) for column in columns),
        _plain(some.seconds, ".3g"),
        _plain(some.peak_mb, ".1f"),
        _plain(some.stored_bytes, ",.0f"),
        _plain(len(some.values), "d"),
        Value("; ".join(some.notes), mark="w" if some.notes else ""),
    ]


def matrices_table(results: Results) -> str:
    """One line for each matrix and budget, where one method was measured."""
    entries = [e for e in results.entries if e.family != "reference"]
    columns = list(dict.fromkeys(e.metric for e in entries))
    groups: dict[tuple[str, float], dict[tuple[str, str], Entry]] = {}
    for e in entries:
        groups.setdefault((e.dataset, e.budget), {})[e.metric, ""] = e
    rows = [
        [
            Value(name),
            Value(results.shapes[name]),
            *_cells(budget, found, [(column, "") for column in columns]),
        ]
        for (name, budget), found in groups.items()
    ]
    heads = ("matrix", "shape", "bits", "stored bits", *columns, "seconds", "peak MB", "bytes")
    shown = table(
        "Mean ± standard error over the seeds, where there are several",
        (*heads, "seeds", "note"),
        rows,
        numeric=range(2, len(heads) + 1),
    )
    return shown + _formulas(columns)


def not_run(results: Results) -> str:
    """What has no result, and why: a line for each reason, folded."""
    groups: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {}
    for row in results.skipped:
        note = str(row.get("note") or "no reason is recorded")
        reason = re.sub(r"^\w+: ", "", note)  # the name of an argument
        # Reasons that differ in their numbers only are one.
        key = str(row["status"]), re.sub(r"\d[\d.]*", "#", reason)
        groups.setdefault(key, []).append((reason, row))
    items = []
    for (status, _), found in groups.items():
        methods = dict.fromkeys(style_of(str(row["method"])).label if row.get("metric") is None
                                else metric(row["metric"]).short for _, row in found)  # fmt: skip
        datasets = list(dict.fromkeys(str(row["dataset"]) for _, row in found))
        many = f"{len(datasets)} data sets"
        where = many if len(datasets) > _FIRST else listed(datasets)
        budgets = bits_listed(sorted({float(row["budget"]) for _, row in found}))
        reasons = list(dict.fromkeys(reason for reason, _ in found))
        alike = f" (and {len(reasons) - 1} more like it)" if reasons[1:] else ""
        items.append(
            f"<li><b>{escape(listed(list(methods)))}</b> on {escape(where)} at {budgets}: "
            f"{'failed, ' if status == 'failed' else ''}{escape(reasons[0])}{alike}</li>"
        )
    return folded(f"Not run: {len(results.skipped)} (why)", f"<ul>{''.join(items)}</ul>")


def _folded(summary: str, shown: str, names: Sequence[str]) -> str:
    """A table that is unfolded, with the formulas of its metrics below."""
    return folded(summary, shown + _formulas(names))


def _formulas(names: Sequence[str]) -> str:
    known = [m for name in dict.fromkeys(names) if (m := metric(name)).formula]
    items = "; ".join(f"<b>{escape(m.name)}</b> = {typeset(m.formula)}" for m in known)
    return f'<p class="dim">{items}.</p>' if items else ""


def _measured(entry: Entry | None) -> Value:
    """The mean and its standard error; shares in per cent."""
    if entry is None:
        return Value("–")
    if metric(entry.metric).is_share:
        error = f" ± {100 * entry.standard_error:.1f}" if entry.standard_error else ""
        return Value(f"{100 * entry.mean:.1f}{error}", entry.mean)
    return Value(number(entry.mean, entry.standard_error), entry.mean)


def _plain(value: float | None, kind: str) -> Value:
    return Value("–" if value is None else format(value, kind), value)
