"""``lplr bench knn``, ``layers``, ``image``, ``sklearn`` and ``all``: one table, one report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lplr.cli import bench_layers
from lplr.cli.options import add_command, add_json, check_output, print_json

__all__ = ["add_grids", "run"]

_PARTLY = 3
_SUMMARIES = {
    "knn": "nearest neighbours among compressed images and text embeddings",
    "layers": "layers of transformers, with and without the second moment of their inputs",
    "image": "the Shepp-Logan phantom and photographs",
    "sklearn": "this project's and the paper's methods against scikit-learn's",
    "all": "all of these, and speed",
}
_ALL_FAMILIES = ("lplr", "paper", "naive", "sklearn", "scipy", "faiss")
_FAMILIES = {"sklearn": _ALL_FAMILIES[:4]}  # of a benchmark, by default
_BUDGETS = "0.5,1,2,4"


def add_grids(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Describe the benchmarks."""
    for what, summary in _SUMMARIES.items():
        parser = add_command(
            kinds,
            common,
            what,
            summary,
            f"lplr bench {what} --quick --html report.html",
            "Every method stores at most the budget, everything that its decoder needs included. "
            "Results are written while it runs, and a run that was interrupted goes on where it "
            "stopped.",
        )
        parser.add_argument(
            "--quick", action="store_true", help="small matrices and one seed: minutes in all"
        )
        parser.add_argument(
            "--budgets",
            default=_BUDGETS,
            metavar="LIST",
            help=f"bits an entry, separated by commas (default: {_BUDGETS})",
        )
        parser.add_argument(
            "--methods",
            metavar="LIST",
            help="separated by commas (default: all that fit the benchmark)",
        )
        parser.add_argument(
            "--families",
            metavar="LIST",
            help="all methods of these, beside --methods: " + ", ".join(_ALL_FAMILIES),
        )
        parser.add_argument(
            "--seeds", metavar="LIST", help="separated by commas (default: 0,1; --quick: 0)"
        )
        parser.add_argument(
            "--out",
            metavar="FILE",
            help="results, .h5 or .csv; both are written (default: bench-WHAT.h5)",
        )
        parser.add_argument(
            "--restart", action="store_true", help="forget the results that are there"
        )
        parser.add_argument("--html", metavar="FILE", help="write a report as one HTML file")
        parser.add_argument("--overwrite", action="store_true", help="replace an existing report")
        add_json(parser)
        parser.set_defaults(run=run, what=what, files=[], hessians=None)
        if what == "layers":
            bench_layers.add_files(parser)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.evaluation.cases import load_suite
    from lplr.evaluation.gallery import Gallery
    from lplr.evaluation.grid import Grid
    from lplr.evaluation.ledger import Ledger, describe

    if args.files or args.hessians:
        budgets = _numbers(args.budgets, "--budgets", float)
        return bench_layers.run(args, budgets, _numbers(args.seeds or "0", "--seeds", int))
    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite, "")
    ledger = Ledger(args.out or f"bench-{args.what}{'-quick' if args.quick else ''}.h5")
    for path in ledger.paths:
        check_output(str(path), (path.suffix.lower(),), True, "")
    budgets = _numbers(args.budgets, "--budgets", float)
    seeds = _numbers(args.seeds or ("0" if args.quick else "0,1"), "--seeds", int)
    methods = _methods(args.methods, args.families, args.what)
    grid = Grid(load_suite(args.what, args.quick), methods, budgets, seeds)
    attrs = describe(grid, args.quick, methods[0])
    if args.restart:
        for path in ledger.paths:
            path.unlink(missing_ok=True)
    rows = ledger.resume(attrs)
    gallery = Gallery(grid, methods[0]) if args.html else None
    rows = _measure(grid, rows, ledger, gallery)
    attrs = ledger.attrs
    if args.html:
        from lplr.evaluation.report import write_report

        assert gallery is not None
        write_report(args.html, rows, attrs, gallery.pictures(), overwrite=args.overwrite)
    speed = None
    if args.what == "all":
        from lplr.cli import bench_speed

        speed = bench_speed.measure(args.quick)
    if args.json:
        files = [str(path) for path in ledger.paths]
        print_json({"files": files, "attrs": attrs, "rows": rows, "speed": speed})
    else:
        _print(rows, attrs, [*map(str, ledger.paths), *([args.html] if args.html else [])])
        if speed:
            print("\nSpeed\n")
            bench_speed.print_report(speed)
    return _PARTLY if any(row["status"] == "failed" for row in rows) else 0


def _measure(grid: Any, rows: list[dict[str, Any]], ledger: Any, gallery: Any) -> Any:
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.grid import remaining, run_grid

    done = len(rows)
    with Progress(remaining(grid, rows) + 5.0) as progress, watch_compilation(progress):
        if done:
            progress.say(f"going on with {ledger.paths[0]}, which has {done} rows")
        with progress.step("loading kernels", 5.0):
            _warm_up(grid.methods)
        rows = run_grid(
            grid, rows, save=ledger.save, step=progress.step, see=gallery.see if gallery else None
        )
        for run in gallery.missing() if gallery else []:
            with progress.step(f"{run.case.name}: picture of {run.method.name}", 0.0):
                _draw_again(run, gallery)
    return rows


def _warm_up(methods: Sequence[str]) -> None:
    """Compile or load what the clock should not see."""
    import numpy as np

    from lplr.evaluation.baselines import METHODS
    from lplr.exceptions import LplrError

    A = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    for name in methods:
        with suppress(LplrError):  # the table will say so
            METHODS[name].run(A, 2.0, rng=0).to_dense()


def _draw_again(run: Any, gallery: Any) -> None:
    from lplr.exceptions import LplrError

    with suppress(LplrError):  # the table says why there is no picture
        gallery.see(run, run.method.run(run.case.A, run.budget, rng=run.seed))


def _methods(names: str | None, families: str | None, what: str) -> list[str]:
    """Names of methods, the default first, of those that were asked for or fit the benchmark."""
    from lplr.evaluation.baselines import DEFAULT, METHODS
    from lplr.exceptions import InputError

    if names is None and families is None:
        wanted: Sequence[str] = _FAMILIES.get(what, _ALL_FAMILIES)
    else:
        wanted = _words(families, "--families", _ALL_FAMILIES)
    picked = _words(names, "--methods", tuple(METHODS))
    picked += [method.name for method in METHODS.values() if method.family in wanted]
    if not picked:
        raise InputError("--methods, --families: name at least one")
    return sorted(dict.fromkeys(picked), key=lambda name: name != DEFAULT)


def _words(text: str | None, option: str, offered: Sequence[str]) -> list[str]:
    from lplr.exceptions import InputError

    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in offered:
            raise InputError(f"{option}: there is no {word!r}; there are {', '.join(offered)}")
    return words


def _numbers(text: str, option: str, kind: type) -> list[Any]:
    from lplr.exceptions import InputError

    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option}: must be numbers separated by commas, found {text!r}") from None


def _print(rows: list[dict[str, Any]], attrs: dict[str, Any], files: list[str]) -> None:
    import textwrap

    from lplr.evaluation.report.headline import headline
    from lplr.evaluation.report.metrics import metric
    from lplr.evaluation.report.results import gather

    results = gather(rows, attrs["default"])
    for sentence in headline(results):
        print(textwrap.fill(sentence, 100))
    for dataset, shape in results.shapes.items():
        for name in ("relative error", "relative error under H", "accuracy", "psnr"):
            cells = results.pick(dataset=dataset, metric=name)
            if cells:
                print(f"\n{dataset}, {shape}: {name} = {metric(name).formula}\n")
                print(_by_budget(cells, name, attrs["limits"].get(dataset, {})))
    _print_skipped(results.skipped)
    print(f"\nSee {', '.join(files)}")


def _by_budget(cells: Any, name: str, limits: dict[str, float]) -> str:
    """Methods in rows, budgets in columns, the mean over seeds in the cells, the best first."""
    from lplr.cli.tables import table
    from lplr.evaluation.report.metrics import bits_text, metric

    budgets = sorted({cell.budget for cell in cells if cell.family != "reference"})
    found: dict[str, dict[float, Any]] = {}
    for cell in cells:
        found.setdefault(cell.method, {})[cell.budget] = cell
    sign = -1 if metric(name).better == "higher" else 1
    shown = [b for b in budgets if b >= 1] or budgets
    lines: list[list[str]] = []
    for method, own in sorted(
        found.items(),
        key=lambda item: (
            item[1][shown[0]].mean * sign if shown and shown[0] in item[1] else float("inf")
        ),
    ):
        if own.keys() == {32.0}:
            lines.insert(0, [method, *[f"{own[32.0].mean:.4f}" for _ in budgets]])
            continue
        lines.append([method, *(f"{own[b].mean:.4f}" if b in own else "-" for b in budgets)])
    if name == "relative error":
        known = [limits.get(f"{b:g}") for b in budgets]
        lines.append(["limit", *("-" if v is None else f"{v:.4f}" for v in known)])
    return table(("method", *(bits_text(b) for b in budgets)), lines)


def _print_skipped(skipped: list[dict[str, Any]]) -> None:
    """What has no value, a line a method and reason."""
    from lplr.cli.tables import table

    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in skipped:
        what = row["method"] if row["metric"] is None else f"{row['method']}: {row['metric']}"
        key = (what, row["status"], row["note"] or "")
        groups.setdefault(key, []).append(f"{row['dataset']} at {row['budget']:g}")
    if groups:
        print("\nNot measured\n")
        lines = [
            [
                what,
                status,
                f"{cases[0]}" + (f" and {len(cases) - 1} more" if cases[1:] else ""),
                note,
            ]
            for (what, status, note), cases in groups.items()
        ]
        print(table(("method", "status", "where", "why"), lines, left=4))
