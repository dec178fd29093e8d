"""What ``lplr bench`` and ``lplr demo`` print of a table of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["print_by_budget", "print_results", "print_runs", "print_skipped"]

Rows = Sequence[Mapping[str, Any]]

_METRICS = ("relative error", "relative error under H", "accuracy", "psnr")
_SHARES = {"rank_50": "50 %", "rank_90": "90 %", "rank_99": "99 %"}


def print_results(rows: list[dict[str, Any]], attrs: Mapping[str, Any], files: list[str]) -> None:
    """All of a benchmark: what it says, its tables, what has no value, and where it is."""
    import textwrap

    from lplr.evaluation.report.headline import headline
    from lplr.evaluation.report.results import gather

    results = gather(rows, attrs.get("default", "compress"))
    if len({entry.method for entry in results.entries}) == 1:
        print_runs(rows, attrs)
    else:
        for head, sentence in headline(results):
            print(textwrap.fill(f"{head}: {sentence}", 100, subsequent_indent="  "))
        print_by_budget(results, attrs.get("limits", {}))
    print_skipped(results.skipped)
    print(f"\nSee {', '.join(files)}")


def print_by_budget(results: Any, limits: Mapping[str, Mapping[str, float]]) -> None:
    """For each data set and metric, methods in rows and budgets in columns."""
    from lplr.evaluation.metrics import metric

    for dataset, shape in results.shapes.items():
        for name in _METRICS:
            entries = results.pick(dataset=dataset, metric=name)
            if entries:
                print(f"\n{dataset}, {shape}: {name} = {metric(name).formula}\n")
                print(_by_budget(entries, name, limits.get(dataset, {})))


def _by_budget(entries: Any, name: str, limits: Mapping[str, float]) -> str:
    """The mean over seeds in the cells, the best first."""
    from lplr.cli.tables import table
    from lplr.evaluation.metrics import bits_text, metric

    budgets = sorted({e.budget for e in entries if e.family != "reference"})
    found: dict[str, dict[float, float]] = {}
    for e in entries:
        found.setdefault(e.method, {})[e.budget] = e.mean
    first = next((b for b in budgets if b >= 1), budgets[0] if budgets else 1.0)
    sign = metric(name).sign
    lines = [
        [method, *(f"{own[b]:.4f}" if b in own else "-" for b in budgets)]
        for method, own in sorted(
            found.items(), key=lambda item: sign * item[1].get(first, sign * float("inf"))
        )
        if own.keys() & set(budgets)
    ]
    for e in entries:
        if e.family == "reference":
            lines.insert(0, [e.method, *(f"{e.mean:.4f}" for _ in budgets)])
    if name == "relative error":
        known = [limits.get(f"{b:g}") for b in budgets]
        lines.append(["yardstick", *("-" if v is None else f"{v:.4f}" for v in known)])
    return table(("method", *(bits_text(b) for b in budgets)), lines)


def print_runs(rows: Rows, attrs: Mapping[str, Any]) -> None:
    """A line for each run, with all that is known of the matrix and of the result."""
    from lplr.cli.tables import columns, in_seconds, table
    from lplr.evaluation.metrics import metric
    from lplr.evaluation.spectrum import FORMULAS

    runs: dict[tuple[Any, ...], dict[str, Any]] = {}
    limits, spectra = attrs.get("limits", {}), attrs.get("spectra", {})
    for row in rows:
        if row["status"] == "ok" and row["family"] != "reference":
            key = row["dataset"], row["budget"], row["method"], row["seed"]
            run = runs.setdefault(key, dict(row))
            run |= {"limit": limits.get(row["dataset"], {}).get(f"{row['budget']:g}")}
            run |= spectra.get(row["dataset"], {}) | {row["metric"]: row["value"]}
    shown: dict[str, tuple[str, Any]] = {
        "dataset": ("matrix", str),
        "shape": ("shape", str),
        "stable_rank": ("stable rank", "{:.1f}".format),
        **{name: (head, str) for name, head in _SHARES.items()},
        "method": ("method", str),
        "budget": ("budget", "{:g}".format),
        "seed": ("seed", str),
        "kind": ("result", str),
        "rank": ("rank", str),
        "bits_per_entry": ("stored bits", "{:.3f}".format),
        "relative error": ("error", "{:.4f}".format),
        "limit": ("yardstick", "{:.4f}".format),
        "relative error under H": ("under H", "{:.4f}".format),
        "seconds": ("time", in_seconds),
        "peak_mb": ("memory", "{:.0f} MB".format),
    }
    if not runs:
        return

    def text(run: Mapping[str, Any], name: str) -> str:
        return "-" if run.get(name) is None else shown[name][1](run[name])

    # What all runs have in common is said once, above the table.
    values = {name: {run.get(name) for run in runs.values()} for name in shown}
    known = [name for name in shown if values[name] != {None}]
    common = [name for name in known if len(values[name]) == 1 < len(runs)]
    names = [name for name in known if name not in common]
    some = next(iter(runs.values()))
    if common:
        print("; ".join(f"{shown[name][0]} {text(some, name)}" for name in common) + "\n")
    cells = [[text(run, name) for name in names] for run in runs.values()]
    print(table([shown[name][0] for name in names], cells))
    formulas = {name: metric(name).formula for name in _METRICS} | dict(FORMULAS)
    formulas["limit"] = "least error of two ideally coded factors for this spectrum; no bound"
    print("\n" + columns([(shown[n][0], formulas[n]) for n in known if n in formulas]))


def print_skipped(skipped: Rows) -> None:
    """What has no value, a line for each method and reason."""
    from lplr.cli.tables import table

    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in skipped:
        what = row["method"] if row["metric"] is None else f"{row['method']}: {row['metric']}"
        key = (what, row["status"], row["note"] or "")
        groups.setdefault(key, []).append(f"{row['dataset']} at {row['budget']:g}")
    if groups:
        print("\nNot measured\n")
        lines = [
            [what, status, where[0] + (f" and {len(where) - 1} more" if where[1:] else ""), note]
            for (what, status, note), where in groups.items()
        ]
        print(table(("method", "status", "where", "why"), lines, left=4))
