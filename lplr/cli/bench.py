"""``lplr bench``: methods against each other at equal stored bits, and speed on this machine.

The matrices of a benchmark, and those of the files that ``lplr bench layers FILE`` is given, go
through one grid into one table, which is resumed, printed, and shown as a page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lplr.cli.bench_speed import add_speed
from lplr.cli.options import INPUTS, add_command, add_json, check_output, print_json

__all__ = ["add_parser", "run"]

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


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "bench",
        "compare methods at equal stored bits, and measure speed",
        "lplr bench all --quick --html report.html\nlplr bench knn --budgets 1 --methods "
        "feedback,PQ\nlplr bench layers model.safetensors --budgets 2\nlplr bench speed",
    )
    kinds = parser.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    for what, summary in _SUMMARIES.items():
        _add_grid(kinds, common, what, summary)
    add_speed(kinds, common)


def _add_grid(kinds: Any, common: argparse.ArgumentParser, what: str, summary: str) -> None:
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
    options = {
        "--budgets": ("LIST", f"bits per entry, separated by commas (default: {_BUDGETS})"),
        "--methods": ("LIST", "separated by commas (default: all that fit the benchmark)"),
        "--families": ("LIST", "all methods of these: " + ", ".join(_ALL_FAMILIES)),
        "--seeds": ("LIST", "separated by commas (default: 0,1; with --quick or FILE: 0)"),
        "--out": ("FILE", "results, .jsonl or .csv; both are written (default: bench-WHAT.jsonl)"),
        "--html": ("FILE", "write a report as one HTML file"),
    }
    for option, (metavar, text) in options.items():
        parser.add_argument(option, metavar=metavar, help=text)
    for option, text in (
        ("--quick", "small matrices and one seed: minutes in all"),
        ("--restart", "forget the results that are there"),
        ("--overwrite", "replace an existing report"),
    ):
        parser.add_argument(option, action="store_true", help=text)
    add_json(parser)
    parser.set_defaults(run=run, what=what, files=[], hessians=None)
    if what == "layers":
        parser.add_argument(
            "files",
            nargs="*",
            metavar="FILE",
            help="measure every matrix of these files instead, by default by lplr compress: "
            + INPUTS,
        )
        parser.add_argument(
            "--hessians",
            metavar="FILE",
            help="with FILE: second moments of the inputs, or inputs, by the names of the layers",
        )


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.evaluation.figures import draw_or_warn
    from lplr.evaluation.grid import Grid
    from lplr.evaluation.pictures import PictureCollector
    from lplr.evaluation.report import write_report
    from lplr.evaluation.results_file import ResultsFile

    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite, "")
    file = ResultsFile(args.out or _default_name(args))
    for path in file.paths:
        check_output(str(path), (path.suffix.lower(),), True, "")
    budgets = _numbers(args.budgets or _BUDGETS, "--budgets", float)
    single = args.quick or args.files
    seeds = _numbers(args.seeds or ("0" if single else "0,1"), "--seeds", int)
    methods = _methods(args)
    grid = Grid(_tasks(args), methods, budgets, seeds)
    collector = PictureCollector(grid, methods[0]) if args.html else None
    rows = _measure(args, grid, file, collector)
    speed = None
    if args.what == "all":
        from lplr.cli import bench_speed

        speed = bench_speed.measure(args.quick)
    files = [str(path) for path in file.paths]
    if args.json:
        print_json({"files": files, "attrs": file.attrs, "rows": rows, "speed": speed})
    else:
        _print(rows, file.attrs, [*files, *([args.html] if args.html else [])])
        if speed:
            print("\nSpeed")
            bench_speed.print_rows(speed)
    code = _PARTLY if any(row["status"] == "failed" for row in rows) else 0
    if collector and not draw_or_warn(
        write_report, args.html, rows, file.attrs, collector.pictures(), overwrite=args.overwrite
    ):
        code = _PARTLY
    return code


def _default_name(args: argparse.Namespace) -> str:
    named = args.what
    if args.files:
        from lplr.inputs import split_input

        named = Path(split_input(args.files[0])[0]).stem
    return f"bench-{named}{'-quick' if args.quick else ''}.jsonl"


def _tasks(args: argparse.Namespace) -> list[Any]:
    from lplr.evaluation.tasks import Task, load_suite
    from lplr.exceptions import InputError

    if not args.files:
        if args.hessians:
            raise InputError("--hessians: name the FILE with the layers as well")
        return load_suite(args.what, args.quick)
    layers = _open_all(args.files)
    hessians = _open_all([args.hessians]) if args.hessians else {}
    # Hessians of other layers, and layers without one, are no error.
    if args.hessians and not hessians.keys() & layers.keys():
        names = ", ".join(list(layers)[:5])
        raise InputError(f"--hessians: {args.hessians} has none for {names}")
    return [Task(name, read, hessian=hessians.get(name)) for name, read in layers.items()]


def _open_all(files: Sequence[str]) -> dict[str, Any]:
    """How to read each matrix, by its name in its file where that tells it from the others."""
    from lplr.exceptions import InputError
    from lplr.inputs import members, read_member, split_input

    def read(path: str, member: str) -> Any:
        return read_member(path, member).array

    found: dict[str, Any] = {}
    for file in files:
        path, member = split_input(file)
        for name in [member] if member else members(path):
            label = name or Path(path).stem
            label = f"{path}:{name}" if label in found else label
            found[label] = partial(read, path, name)
    if not found:
        raise InputError(f"{', '.join(files)}: hold no arrays")
    return found


def _measure(args: argparse.Namespace, grid: Any, file: Any, collector: Any) -> Any:
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.grid import remaining, run_grid
    from lplr.evaluation.results_file import describe
    from lplr.exceptions import LplrError

    if args.restart:
        for path in file.paths:
            path.unlink(missing_ok=True)
    with Progress(remaining(grid, []) + 5.0) as progress, watch_compilation(progress):
        default = grid.runs()[0].method.name
        rows = file.resume(describe(grid, args.quick, default, progress.step))
        progress.total = remaining(grid, rows) + 5.0
        if rows:
            progress.say(f"going on with {file.paths[0]}, which has {len(rows)} rows")
        with progress.step("loading kernels", 5.0):
            _warm_up(grid.methods)
        see = collector.see if collector else None
        rows = run_grid(grid, rows, save=file.save, step=progress.step, see=see)
        for run in collector.missing() if collector else []:
            with (
                progress.step(f"{run.task.name}: picture of {run.method.name}", 0.0),
                suppress(LplrError),  # the table says why there is no picture
            ):
                collector.see(run, run.method.run(run.task.A, run.budget, rng=run.seed))
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


def _methods(args: argparse.Namespace) -> list[str]:
    """Names of methods, the default first, of those that were asked for or fit the benchmark."""
    from lplr.evaluation.baselines import DEFAULT, METHODS
    from lplr.exceptions import InputError

    if args.methods is None and args.families is None:
        if args.files:
            return [DEFAULT]
        families: Sequence[str] = _FAMILIES.get(args.what, _ALL_FAMILIES)
    else:
        families = _words(args.families, "--families", _ALL_FAMILIES)
    picked = _words(args.methods, "--methods", tuple(METHODS))
    picked += [method.name for method in METHODS.values() if method.family in families]
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

    from lplr.cli.bench_tables import print_by_budget, print_runs, print_skipped
    from lplr.evaluation.report.headline import headline
    from lplr.evaluation.report.results import gather

    results = gather(rows, attrs["default"])
    if len({entry.method for entry in results.entries}) == 1:
        print_runs(rows, attrs)
    else:
        for sentence in headline(results):
            print(textwrap.fill(sentence, 100))
        print_by_budget(results, attrs["limits"])
    print_skipped(results.skipped)
    print(f"\nSee {', '.join(files)}")
