"""``lplr bounds``: the bounds of the papers against simulation, and the quantizers' errors."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lplr.cli.bounds_matrix import add_matrix_options, check_matrix_options, run_on_matrix
from lplr.cli.bounds_report import DISTORTION, as_row, print_list, print_report, summary
from lplr.cli.options import (
    add_command,
    add_json,
    add_seed,
    check_output,
    check_table,
    near,
    print_json,
)
from lplr.exceptions import InputError

if TYPE_CHECKING:
    from lplr.theory.records import Cell, Statement

__all__ = ["add_parser", "run"]

_LEVEL = 1e-6
_FEWEST = 30  # a fair coin shows heads as often in a row once in 10^9 times
_PARTLY = 3  # exit code

_DESCRIPTION = """
Each statement is tested on a grid of matrices and settings by independent random trials; one
statement at one setting is a cell. A bound on a mean is refuted by a one-sided test, with a
probability of 1e-6 that any true bound of the table is refuted; a mean above its bound by no more
than chance explains is "not refuted", with the p-value. A bound on each value is refuted by one
trial. Where a quantizer left its range, the statement says nothing: assumption not met.
With --matrix, the bounds on A ~ L R are compared with simulation on your own matrix, along --x.
The exit code is 1 if a bound is refuted, else 3 if a picture could not be drawn. --list explains
all symbols.
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "bounds",
        "test the bounds of the papers by simulation",
        "lplr bounds\nlplr bounds --list\nlplr bounds lplr_bound --all --plot bounds.png\n"
        "lplr bounds --plot bounds.pdf\n"
        "lplr bounds distortion\nlplr bounds --full --trials 1000 --out bounds.jsonl\n"
        "lplr bounds --matrix weights.npy --x rank --bits 6 --plot rank.pdf",
        _DESCRIPTION,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a statement, or the function of lplr.theory.bounds that it is about (default: all "
        "statements); 'distortion' for a table of the quantizers' errors; with --matrix, the "
        "bounds to compare with (default: all on LPLR; lplr_svd_bound and direct_svd_bound for the "
        "methods of their names)",
    )
    parser.add_argument("--list", action="store_true", help="list the statements and run nothing")
    parser.add_argument(
        "--trials",
        type=int,
        default=200,
        metavar="N",
        help="trials per cell, or per value of --x, at least 30 (default: 200)",
    )
    parser.add_argument("--full", action="store_true", help="test on real matrices too")
    parser.add_argument(
        "--all",
        action="store_true",
        help="print all cells instead of a summary; with 'distortion', all widths",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw measured against bound: a .pdf with a page for each statement; a folder, made "
        "where it does not exist, for a .png of each; or a .png or .svg file of one statement. "
        "With --matrix: a .pdf, .svg or .png",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="write all cells, or all values of --x, to a .jsonl or .csv file",
    )
    add_matrix_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    check_matrix_options(args)
    if args.list:
        print_list(_chosen(args.names), args.json, not args.names or DISTORTION in args.names)
        return 0
    if args.trials < _FEWEST:
        raise InputError(
            f"--trials: must be at least {_FEWEST}, found {args.trials}; "
            "fewer cannot carry a test of that level"
        )
    if args.seed < 0:
        raise InputError(f"--seed: must not be negative, found {args.seed}")
    if args.matrix is not None:
        return run_on_matrix(args)
    chosen = _chosen(args.names)
    _check_files(args, chosen)
    report: dict[str, Any] = {}
    cells: list[Cell] = []
    if chosen:
        start = time.perf_counter()
        cells = _measure(args, list(chosen.values()))
        report = {
            "trials": args.trials,
            "seed": args.seed,
            "level": _LEVEL,
            "full": args.full,
            "seconds": round(time.perf_counter() - start, 1),
            "statements": [summary(chosen[name], cells) for name in chosen],
            "cells": [as_row(cell) for cell in cells],
        }
    if DISTORTION in args.names:
        report[DISTORTION] = _distortion(args.seed, args.all)
    if args.json:
        print_json(report)
    else:
        print_report(report, cells, args.all)
    if args.out is not None:
        _write_table(args, cells, chosen)
    drawn = args.plot is None or _draw(args.plot, cells, chosen)
    if any(cell.verdict == "refuted" for cell in cells):
        return 1
    return 0 if drawn else _PARTLY


def _chosen(names: Sequence[str]) -> dict[str, Statement]:
    """The statements of these names, in the order of the registry; all if none is named."""
    from lplr.theory.statements import STATEMENTS, find_statements

    for name in names:
        if name != DISTORTION and (hint := near(name.lower(), [DISTORTION])):
            raise InputError(f"NAME: there is no {name!r}{hint}")
    found = {s.name for n in names if n != DISTORTION for s in find_statements(n, "NAME")}
    return {n: s for n, s in STATEMENTS.items() if n in found or not names}


def _check_files(args: argparse.Namespace, statements: Mapping[str, Statement]) -> None:
    """Refuse outputs that could not be written, before minutes are spent on them."""
    for option in ("plot", "out", "full"):
        if getattr(args, option) not in (None, False) and not statements:
            raise InputError(f"--{option}: is about cells of statements; name a statement too")
    if args.out is not None:
        check_table(args.out, args.overwrite)
    if args.plot is not None:
        from lplr.evaluation.plot_bounds import files_of_bounds

        for file in files_of_bounds(args.plot, list(statements)):
            folder = file.parent == Path(args.plot)
            if folder and not file.parent.is_dir():
                check_output(args.plot, (file.parent.suffix,), args.overwrite)
                break
            check_output(str(file), (file.suffix,), args.overwrite)


def _measure(args: argparse.Namespace, statements: Sequence[Statement]) -> list[Cell]:
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.theory import montecarlo

    work = {
        s.name: float(args.trials * (len(s.grid) + len(s.full) * args.full)) for s in statements
    }
    told = 0.0
    with Progress(work) as progress, watch_compilation(progress):

        def show(share: float, what: str) -> None:
            nonlocal told
            trials, told = (share - told) * sum(work.values()), share
            with progress.step(f"statement {what}", trials, what):
                pass

        return montecarlo.run(
            statements,
            trials=args.trials,
            rng=args.seed,
            level=_LEVEL,
            full=args.full,
            progress=show,
        )


def _write_table(
    args: argparse.Namespace, cells: Sequence[Cell], statements: Mapping[str, Statement]
) -> None:
    from lplr.provenance import versions
    from lplr.storage.table import write_table

    about = {
        name: {"title": s.title, "source": s.source, "function": s.function}
        for name, s in statements.items()
    }
    settings = {"trials": args.trials, "level": _LEVEL, "full": args.full}
    attrs = {"settings": settings, "statements": about, "seed": args.seed, "versions": versions()}
    rows = [as_row(cell) for cell in cells]
    write_table(args.out, rows, attrs=attrs, overwrite=args.overwrite)


def _draw(path: str, cells: Sequence[Cell], statements: Mapping[str, Statement]) -> bool:
    """Draw the cells; the table is out already and survives a picture that fails."""
    from lplr.evaluation.bound_panels import panels_of
    from lplr.evaluation.figures import draw_or_warn
    from lplr.evaluation.plot_bounds import draw_bounds

    panels = panels_of(cells, notes={n: s.title for n, s in statements.items()})
    return draw_or_warn(draw_bounds, path, panels)


def _distortion(seed: int, everything: bool) -> list[dict[str, Any]]:
    """Rows of the table; fractions of a bit and other names for the same code if asked for."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.quantizers import QUANTIZERS, get_codebook
    from lplr.theory import quantizer_distortion

    work = []
    for name, (widths, *_) in QUANTIZERS.items():
        for bits in widths:
            with suppress(InputError):  # a width without a table among those that are shipped
                book = get_codebook(name, bits)
                if everything or (book.name == name and bits == int(bits)):
                    work.append((name, bits))
    rows = []
    with Progress(len(work)) as progress, watch_compilation(progress):
        for name, bits in work:
            with progress.step(f"distortion of {name}, {bits:g} bits", 1.0):
                rows.append(asdict(quantizer_distortion(name, bits, rng=seed)))
    return rows
