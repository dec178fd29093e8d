"""The tables of the report, each pre-sorted by what a reader asks first."""

from __future__ import annotations

from collections.abc import Sequence

from lplr.evaluation.report.metrics import metric, number
from lplr.evaluation.report.page import Value, escape, table, typeset
from lplr.evaluation.report.results import Cell, Duel, Results

__all__ = ["dataset_table", "defeats_table", "duels_table", "paper_table", "skipped_table"]

_PAPER = ("lplr", "lplr-svd", "direct-svd")  # methods of the paper, besides naive quantization


def formulas(names: Sequence[str]) -> str:
    """What each metric is, as a line below its table.

    Parameters
    ----------
    names : sequence of str
    """
    known = [(name, metric(name).formula) for name in names if metric(name).formula]
    if not known:
        return ""
    items = "; ".join(f"<b>{escape(name)}</b> = {typeset(formula)}" for name, formula in known)
    return f'<p class="dim">{items}.</p>'


def defeats_table(results: Results) -> str:
    """Baselines that are better than the default in error and, with labels, in accuracy too.

    Parameters
    ----------
    results : Results
    """
    rows = []
    for dataset, budget in results.cases():
        for error, vote in results.defeats(dataset, budget):
            rows.append(
                [
                    Value(dataset),
                    Value(f"{budget:g}", budget),
                    Value(error.rival.method),
                    _measured(error.rival),
                    _measured(error.default),
                    _measured(vote.rival if vote else None),
                    _measured(vote.default if vote else None),
                    Value(vote.default.protocol if vote else ""),
                ]
            )
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


def duels_table(results: Results) -> str:
    """The default against the best baseline in error and accuracy, case by case; losses first.

    Parameters
    ----------
    results : Results
    """
    duels = [
        duel
        for case in results.cases()
        for duel in results.duels(*case)
        if duel.default.metric in (results.error_name(case[0]), "accuracy")
    ]
    if not duels:
        return ""
    lost = sum(duel.lost for duel in duels)
    duels.sort(key=lambda duel: not duel.lost)
    names = list(dict.fromkeys(duel.default.metric for duel in duels))
    rows = [_duel_row(duel) for duel in duels]
    seeds = sorted({len(duel.default.values) for duel in duels})
    heads = ("data set", "bits", "metric", results.default, "best baseline", "which", "difference")
    shown = table(
        f"Mean ± standard deviation over the seeds ({'–'.join(map(str, seeds))} each); "
        "lost comparisons first",
        (*heads, "better"),
        rows,
        numeric=(1, 3, 4, 6),
    )
    told = f"All {len(duels)} comparisons of error and accuracy; {lost} lost"
    return f"<details><summary>{told}</summary>{shown}{formulas(names)}</details>"


def _duel_row(duel: Duel) -> list[Value]:
    mine, other = duel.default, duel.rival
    gain = mine.mean - other.mean
    equal = mine.mean == other.mean
    close = not equal and abs(gain) <= max(mine.spread, other.spread)
    verdict = "equal" if equal else "baseline" if duel.lost else "default"
    return [
        Value(mine.dataset),
        Value(f"{mine.budget:g}", mine.budget),
        Value(_named(mine)),
        _measured(mine),
        _measured(other),
        Value(other.method),
        Value(("+" if gain > 0 else "") + number(gain), gain),
        Value(
            verdict + (", within the spread" if close else ""),
            mark="bad" if duel.lost else "" if equal else "good",
        ),
    ]


def paper_table(results: Results) -> str:
    """The paper's finding at one bit: below direct SVD and naive quantization, on each data set.

    Parameters
    ----------
    results : Results
    """
    rows = []
    for default in results.pick(method=results.default, budget=1.0):
        if default.metric not in (results.error_name(default.dataset), "accuracy"):
            continue
        same = results.pick(
            dataset=default.dataset, budget=1.0, metric=default.metric, protocol=default.protocol
        )
        found = {c.method: c for c in same}
        naive = next((c for c in same if c.family == "naive"), None)
        if naive or "direct-svd" in found:
            rows.append(_paper_row(default, [*(found.get(m) for m in _PAPER), naive]))
    if not rows:
        return ""
    heads = ("data set", "metric", results.default, *_PAPER, "naive", "seeds", "holds")
    return (
        "<h3>The paper’s finding: better than direct SVD and naive quantization at one bit</h3>"
        + table(
            "At one bit an entry; it holds where the paper’s algorithm (lplr) or the default is "
            "better than both direct-svd and naive",
            heads,
            rows,
            numeric=(2, 3, 4, 5, 6, 7),
        )
    )


def _paper_row(default: Cell, others: Sequence[Cell | None]) -> list[Value]:
    kind = metric(default.metric)
    rivals = [c.mean for c in others[-2:] if c]

    def beats(cell: Cell | None) -> bool:
        return cell is not None and all(kind.wins(cell.mean, rival) for rival in rivals)

    held = [name for name, cell in (("default", default), ("lplr", others[0])) if beats(cell)]
    return [
        Value(default.dataset),
        Value(_named(default)),
        *map(_measured, [default, *others]),
        Value(str(len(default.values)), len(default.values)),
        Value(f"for {' and '.join(held)}" if held else "no", mark="good" if held else "bad"),
    ]


def dataset_table(results: Results, dataset: str) -> str:
    """All results on one data set: one line a method and budget, one column a metric.

    Parameters
    ----------
    results : Results
    dataset : str
    """
    cells = results.pick(dataset=dataset)
    if not cells:
        return '<p class="dim">Nothing ran on this data set; the reasons are below.</p>'
    error = results.error_name(dataset)
    columns = list(dict.fromkeys((c.metric, c.protocol) for c in cells))
    columns.sort(key=lambda column: column[0] != error)
    groups: dict[tuple[float, str], dict[tuple[str, str], Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.budget, cell.method), {})[cell.metric, cell.protocol] = cell

    def rank(item: tuple[tuple[float, str], dict[tuple[str, str], Cell]]) -> tuple[float, float]:
        measured = next((c.mean for c in item[1].values() if c.metric == error), float("inf"))
        return item[0][0], measured

    ordered = sorted(groups.items(), key=rank)
    rows = []
    for (budget, method), found in ordered:
        some = next(iter(found.values()))
        rows.append(
            [
                Value(method),
                Value(f"{budget:g}", budget),
                _plain(some.bits, ".3f"),
                *(_measured(found.get(column)) for column in columns),
                _plain(some.seconds, ".3g"),
                _plain(some.peak_mb, ".1f"),
                _plain(some.stored_bytes, ",.0f"),
                Value(str(len(some.values)), len(some.values)),
                Value("; ".join(some.notes), mark="w" if some.notes else ""),
            ]
        )
    named = [f"{name}, {protocol}" if protocol else name for name, protocol in columns]
    heads = (
        "method",
        "bits",
        "stored bits",
        *named,
        "seconds",
        "peak MB",
        "stored bytes",
        "seeds",
        "note",
    )
    own = [i for i, ((_, method), _) in enumerate(ordered) if method == results.default]
    count = len(heads) - 2
    shown = table(
        f"{dataset}: mean ± standard deviation over the seeds; by bits, then by {error or 'name'}",
        heads,
        rows,
        numeric=range(1, count + 1),
        sorted_by=1,
        own=own,
    )
    return (
        f"<details><summary>All {len(rows)} results on {escape(dataset)}</summary>{shown}"
        f"{formulas(list(dict.fromkeys(name for name, _ in columns)))}</details>"
    )


def skipped_table(results: Results) -> str:
    """What did not run, with its reason; equal reasons in one line.

    Parameters
    ----------
    results : Results
    """
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
    return table(
        "Methods that did not run, by data set and budget",
        ("method", "data set", "bits", "status", "reason"),
        rows,
        numeric=(),
        sorted_by=0,
    )


def _measured(cell: Cell | None) -> Value:
    return Value(number(cell.mean, cell.spread), cell.mean) if cell else Value("–")


def _named(cell: Cell) -> str:
    return f"{cell.metric}, {cell.protocol}" if cell.protocol else cell.metric


def _plain(value: float | None, kind: str) -> Value:
    return Value("–" if value is None else format(value, kind), value)
