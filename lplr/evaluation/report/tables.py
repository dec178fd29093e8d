"""The tables of the report, each pre-sorted by what a reader asks first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lplr.evaluation.metrics import metric, number
from lplr.evaluation.report.page import Value, escape, table, typeset
from lplr.evaluation.report.results import Comparison, Entry, Results

__all__ = [
    "comparisons_table",
    "dataset_table",
    "losses_table",
    "paper_table",
    "skipped_table",
]

_PAPER = ("lplr", "lplr-svd", "direct-svd")  # methods of the paper, besides naive quantization


def losses_table(results: Results) -> str:
    """Baselines that are better than the default in error and, with labels, in accuracy too."""
    rows = [
        [
            Value(dataset),
            _plain(budget, "g"),
            Value(error.baseline.method),
            *map(_measured, (error.baseline, error.default)),
            *map(_measured, (vote.baseline, vote.default) if vote else (None, None)),
            Value(vote.default.protocol if vote else ""),
        ]
        for dataset, budget in results.cases()
        for error, vote in results.losses(dataset, budget)
    ]
    if not rows:
        return ""
    heads = ("data set", "bits", "baseline", "its error", "default’s error")
    return "<h3>Where a baseline is better</h3>" + table(
        "Baselines with lower error and higher accuracy than the default, or with lower error "
        "where there are no labels",
        (*heads, "its accuracy", "default’s accuracy", "protocol"),
        rows,
        numeric=(1, 3, 4, 5, 6),
    )


def comparisons_table(results: Results) -> str:
    """The default against the best baseline in error and accuracy, case by case; losses first."""
    found = [
        c
        for case in results.cases()
        for c in results.comparisons(*case)
        if c.default.metric in (results.error_metric(case[0]), "accuracy")
    ]
    if not found:
        return ""
    lost = sum(c.lost for c in found)
    found.sort(key=lambda c: not c.lost)
    seeds = sorted({len(c.default.values) for c in found})
    heads = ("data set", "bits", "metric", results.default, "best baseline", "which", "difference")
    shown = table(
        f"Mean ± standard deviation over the seeds ({'–'.join(map(str, seeds))} each); "
        "lost comparisons first",
        (*heads, "better"),
        [_comparison_row(c) for c in found],
        numeric=(1, 3, 4, 6),
    )
    told = f"All {len(found)} comparisons of error and accuracy; {lost} lost"
    return _details(told, shown, [c.default.metric for c in found])


def _comparison_row(c: Comparison) -> list[Value]:
    mine, other = c.default, c.baseline
    gain = mine.mean - other.mean
    close = 0 < abs(gain) <= max(mine.spread, other.spread)
    verdict = "baseline" if c.lost else "default" if mine.mean != other.mean else "equal"
    return [
        Value(mine.dataset),
        _plain(mine.budget, "g"),
        Value(_named(mine)),
        _measured(mine),
        _measured(other),
        Value(other.method),
        Value(("+" if gain > 0 else "") + number(gain), gain),
        Value(
            verdict + (", within the spread" if close else ""),
            mark={"baseline": "bad", "default": "good", "equal": ""}[verdict],
        ),
    ]


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
    heads = ("data set", "metric", results.default, *_PAPER, "naive", "seeds", "holds")
    title = "The paper’s finding: better than direct SVD and naive quantization at one bit"
    return f"<h3>{title}</h3>" + table(
        "At one bit per entry; it holds where the paper’s algorithm (lplr) or the default is "
        "better than both direct-svd and naive",
        heads,
        rows,
        numeric=(2, 3, 4, 5, 6, 7),
    )


def _paper_row(default: Entry, others: Sequence[Entry | None]) -> list[Value]:
    sign = metric(default.metric).sign

    def beats(entry: Entry | None) -> bool:
        return entry is not None and all(
            sign * entry.mean < sign * other.mean for other in others[-2:] if other
        )

    held = [name for name, entry in (("default", default), ("lplr", others[0])) if beats(entry)]
    return [
        Value(default.dataset),
        Value(_named(default)),
        *map(_measured, [default, *others]),
        _plain(len(default.values), "d"),
        Value(f"for {' and '.join(held)}" if held else "no", mark="good" if held else "bad"),
    ]


def dataset_table(results: Results, dataset: str) -> str:
    """All results on one data set: a line for each method and budget, a column for each metric."""
    entries = results.pick(dataset=dataset)
    if not entries:
        return '<p class="dim">Nothing ran on this data set; the reasons are below.</p>'
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
    rows = []
    for (budget, method), found in ordered:
        some = next(iter(found.values()))
        rows.append(
            [
                Value(method),
                _plain(budget, "g"),
                _plain(some.bits_per_entry, ".3f"),
                *(_measured(found.get(column)) for column in columns),
                _plain(some.seconds, ".3g"),
                _plain(some.peak_mb, ".1f"),
                _plain(some.stored_bytes, ",.0f"),
                _plain(len(some.values), "d"),
                Value("; ".join(some.notes), mark="w" if some.notes else ""),
            ]
        )
    named = [f"{name}, {protocol}" if protocol else name for name, protocol in columns]
    heads = ("method", "bits", "stored bits", *named)
    heads += ("seconds", "peak MB", "stored bytes", "seeds", "note")
    shown = table(
        f"{dataset}: mean ± standard deviation over the seeds; by bits, then by {error or 'name'}",
        heads,
        rows,
        numeric=range(1, len(heads) - 1),
        sorted_by=1,
        own=[i for i, ((_, method), _) in enumerate(ordered) if method == results.default],
    )
    told = f"All {len(rows)} results on {escape(dataset)}"
    return _details(told, shown, [name for name, _ in columns])


def skipped_table(results: Results) -> str:
    """What did not run, with its reason; equal reasons in one line."""
    groups: dict[tuple[str, str, str, str], set[float]] = {}
    for row in results.skipped:
        reason = str(row.get("note") or "no reason is recorded")
        what = f"{row['method']}: {row['metric']}" if row.get("metric") else str(row["method"])
        key = (what, str(row["dataset"]), str(row["status"]), reason)
        groups.setdefault(key, set()).add(float(row["budget"]))
    rows = [
        [
            Value(method),
            Value(dataset),
            Value(", ".join(f"{b:g}" for b in sorted(budgets))),
            Value(status),
            Value(reason, mark="w"),
        ]
        for (method, dataset, status, reason), budgets in sorted(groups.items())
    ]
    heads = ("method", "data set", "bits", "status", "reason")
    caption = "Methods that did not run, by data set and budget"
    return table(caption, heads, rows, numeric=(), sorted_by=0)


def _details(summary: str, shown: str, names: Sequence[str]) -> str:
    """A table that is unfolded, with the formulas of its metrics below."""
    known = [m for name in dict.fromkeys(names) if (m := metric(name)).formula]
    items = "; ".join(f"<b>{escape(m.name)}</b> = {typeset(m.formula)}" for m in known)
    below = f'<p class="dim">{items}.</p>' if items else ""
    return f"<details><summary>{summary}</summary>{shown}{below}</details>"


def _measured(entry: Entry | None) -> Value:
    return Value(number(entry.mean, entry.spread), entry.mean) if entry else Value("–")


def _named(entry: Entry) -> str:
    return f"{entry.metric}, {entry.protocol}" if entry.protocol else entry.metric


def _plain(value: float | None, kind: str) -> Value:
    return Value("–" if value is None else format(value, kind), value)
