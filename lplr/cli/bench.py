"""``lplr bench``: methods against each other at equal stored bits, and speed on this machine.

The matrices of a benchmark, and those of the files that ``lplr bench layers FILE`` is given, go
through one grid into one table, which is resumed, printed, and shown as a page.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lplr.cli.bench_profile import add_profile
from lplr.cli.bench_report import add_report
from lplr.cli.bench_scale import add_scale
from lplr.cli.bench_speed import add_speed
from lplr.cli.options import add_command, add_json, check_output, near, print_json

__all__ = ["add_parser", "run"]

_PARTLY = 3
_SUMMARIES = {
    "knn": "nearest neighbours among compressed images and text embeddings",
    "layers": "layers of transformers, or all matrices of your files",
    "image": "the Shepp-Logan phantom and photographs",
    "sklearn": "this project's and the paper's methods against scikit-learn's",
    "all": "all of these, and speed",
}
_EXAMPLES = {
    "layers": "lplr bench layers model.safetensors --budgets 2 --html report.html\n"
    "lplr bench layers model.h5 --hessians hessians.npz --methods compress,naive",
}
_ALL_FAMILIES = ("lplr", "paper", "naive", "sklearn", "scipy", "faiss")
_FAMILIES = {"sklearn": _ALL_FAMILIES[:4]}  # of a benchmark, by default
_BUDGETS = "0.5,1,2,4"
_SETUP = 5.0  # roughly the seconds before the first run


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "bench",
        "compare methods at equal stored bits, and measure speed",
        "lplr bench all --quick --html report.html\nlplr bench knn --budgets 1 --methods "
        "feedback,PQ\nlplr bench layers model.safetensors --budgets 2\nlplr bench speed\n"
        "lplr bench report bench-all-quick.jsonl --html report.html",
    )
    kinds = parser.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    for what, summary in _SUMMARIES.items():
        _add_grid(kinds, common, what, summary)
    add_speed(kinds, common)
    add_profile(kinds, common)
    add_scale(kinds, common)
    add_report(kinds, common)


def _add_grid(kinds: Any, common: argparse.ArgumentParser, what: str, summary: str) -> None:
    parser = add_command(
        kinds,
        common,
        what,
        summary,
        _EXAMPLES.get(what, f"lplr bench {what} --quick --html report.html"),
        "Every method stores at most the budget, everything that its decoder needs included. "
        "Results are written while it runs, and a run that was interrupted goes on where it "
        "stopped.",
    )
    layers = what == "layers"
    name = f"bench-{what}.jsonl, with --quick bench-{what}-quick.jsonl"
    options = {
        "--budgets": ("LIST", f"bits per entry, separated by commas (default: {_BUDGETS})"),
        "--methods": (
            "LIST",
            "separated by commas (default: all that fit the benchmark"
            + (", with FILE compress)" if layers else ")"),
        ),
        "--families": (
            "LIST",
            "all methods of these, beside those of --methods: " + ", ".join(_ALL_FAMILIES),
        ),
        "--seeds": (
            "LIST",
            f"separated by commas (default: 0,1; with --quick{' or FILE' * layers} 0)",
        ),
        "--out": (
            "FILE",
            "results, .jsonl or .csv; both are written, and what belongs to them beside them "
            f"(default: {name}{', with FILE bench-STEM.jsonl' * layers})",
        ),
        "--html": ("FILE", "write a report as one HTML file"),
    }
    for option, (metavar, text) in options.items():
        parser.add_argument(option, metavar=metavar, help=text)
    for option, text in (
        ("--quick", "small matrices and one seed: minutes in all" + "; not with FILE" * layers),
        ("--restart", "forget the results that are there"),
        ("--overwrite", "replace an existing report"),
    ):
        parser.add_argument(option, action="store_true", help=text)
    add_json(parser)
    parser.set_defaults(run=run, what=what, files=[], hessians=None)
    if layers:
        parser.add_argument(
            "files",
            nargs="*",
            metavar="FILE",
            help="measure every matrix of these .npy, .npz, .h5, .safetensors or image files; "
            "FILE:MEMBER is one of them",
        )
        parser.add_argument(
            "--hessians",
            metavar="FILE",
            help="with FILE: second moments of the inputs, or inputs, by the names of the layers, "
            "with or without .weight at their end",
        )


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.bench_tables import print_results
    from lplr.cli.progress import Progress
    from lplr.evaluation.figures import draw_or_warn
    from lplr.evaluation.gallery import Gallery
    from lplr.evaluation.grid import Grid
    from lplr.evaluation.report import write_report
    from lplr.evaluation.results_file import ResultsFile

    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite)
    file = ResultsFile(args.out or _default_name(args))
    for path in file.paths:
        check_output(str(path), (path.suffix.lower(),), True, *args.files, args.hessians)
    budgets = _numbers(args.budgets or _BUDGETS, "--budgets", float)
    single = args.quick or args.files
    seeds = _numbers(args.seeds or ("0" if single else "0,1"), "--seeds", int)
    methods = _methods(args)
    grid = Grid(_tasks(args), methods, budgets, seeds)
    with file.alone():
        if args.restart:
            file.forget()
        if not file.tables[0].exists():
            file.gallery.unlink(missing_ok=True)  # of other rows
        gallery = Gallery(grid, methods[0], file.gallery)
        rows = _measure(args, grid, file, gallery)
    speed = None
    if args.what == "all":
        from lplr.cli import bench_speed

        speed = bench_speed.measure(args.quick)
    files = [str(path) for path in file.paths if path.exists()]
    if args.json:
        print_json({"files": files, "attrs": file.attrs, "rows": rows, "speed": speed})
    else:
        print_results(rows, file.attrs, [*files, *([args.html] if args.html else [])])
        if speed:
            print("\nSpeed")
            bench_speed.print_rows(speed)
    code = _PARTLY if any(row["status"] == "failed" for row in rows) else 0
    if args.html:
        page = rows, file.attrs, gallery.samples
        with Progress(1.0) as progress:
            how = {"overwrite": args.overwrite, "progress": progress.tell}
            if not draw_or_warn(write_report, args.html, *page, **how):
                code = _PARTLY
    return code


def _default_name(args: argparse.Namespace) -> str:
    named = args.what
    if args.files:
        from lplr.inputs import split_input

        named = Path(split_input(args.files[0])[0]).stem
    return f"bench-{named}{'-quick' if args.quick else ''}.jsonl"


def _tasks(args: argparse.Namespace) -> list[Any]:
    from lplr.algorithms.collection import matched
    from lplr.cli.hessians import as_hessian
    from lplr.evaluation.tasks import Task, load_suite
    from lplr.exceptions import InputError

    if not args.files:
        if args.hessians:
            raise InputError("--hessians: name the FILE with the layers as well")
        return load_suite(args.what, args.quick)
    if args.quick:
        raise InputError("--quick: the matrices of FILE are measured whole; leave one of them out")
    layers = _open_all(args.files)
    hessians = _open_all([args.hessians], as_hessian) if args.hessians else {}
    # Hessians of other layers, and layers without one, are no error.
    known = [name for name in hessians if {name, f"{name}.weight"} & layers.keys()]
    if args.hessians and not known:
        names = ", ".join(list(layers)[:5])
        raise InputError(f"--hessians: {args.hessians} has none for {names}")
    of = {layer: hessians[name] for layer, name in matched(known, list(layers)).items()}
    return [Task(name, read, hessian=of.get(name)) for name, read in layers.items()]


def _open_all(
    files: Sequence[str], change: Callable[[Any], Any] = lambda array: array
) -> dict[str, Any]:
    """How to read each matrix, by its name in its file where that tells it from the others."""
    from lplr.exceptions import InputError
    from lplr.inputs import members, read_member, split_input

    def read(path: str, member: str) -> Any:
        return change(read_member(path, member).array)

    found: dict[str, Any] = {}
    for file in files:
        path, member = split_input(file)
        for name in [member] if member else members(path):
            label = name.lstrip("/") or Path(path).stem
            label = f"{path}:{name}" if label in found else label
            label = os.fsencode(label).decode(errors="backslashreplace")  # tables hold texts
            found[label] = partial(read, path, name)
    if not found:
        raise InputError(f"{', '.join(files)}: hold no arrays")
    return found


def _measure(args: argparse.Namespace, grid: Any, file: Any, gallery: Any) -> Any:
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.grid import remaining, run_grid
    from lplr.evaluation.results_file import describe
    from lplr.progress import tracked, until

    def save(rows: list[dict[str, Any]]) -> None:
        gallery.save()
        file.save(rows)

    ready = _SETUP / (_SETUP + remaining(grid, []))
    with (
        Progress(1.0) as progress,
        watch_compilation(progress),
        tracked(progress.tell, "reading the matrices"),
    ):
        with until(ready / 2):
            default = grid.runs()[0].method.name
            about = describe(grid, args.quick, default, known=file.known())
        rows = file.resume(about)
        if rows:
            progress.say(f"going on with {file.paths[0]}; rows so far: {len(rows)}")
        with until(ready, "loading kernels"):
            _warm_up(grid.methods)
        return run_grid(grid, rows, save=save, see=gallery.see)


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
    """Names of methods that were asked for or fit the benchmark, ours first: the default."""
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
    ours = {name: METHODS[name].family == "lplr" for name in picked}
    return sorted(ours, key=lambda name: (name != DEFAULT, not ours[name]))


def _words(text: str | None, option: str, offered: Sequence[str]) -> list[str]:
    from lplr.exceptions import InputError

    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in offered:
            raise InputError(
                f"{option}: there is no {word!r}{near(word, offered)}; there are "
                + ", ".join(offered)
            )
    return words


def _numbers(text: str, option: str, kind: type) -> list[Any]:
    from lplr.exceptions import InputError

    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option}: must be numbers separated by commas, found {text!r}") from None
