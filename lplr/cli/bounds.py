"""``lplr bounds``: every bound of the papers against simulation, and the quantizers' distortion."""

from __future__ import annotations

import argparse
import difflib
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lplr.cli.options import add_command, add_json, add_seed, check_output, print_json
from lplr.exceptions import InputError

if TYPE_CHECKING:
    from lplr.theory.montecarlo import Cell, Statement

__all__ = ["add_parser", "run"]

_DISTORTION = "distortion"  # the one name that is no statement
_LEVEL = 1e-6
_FEWEST = 30  # a fair coin shows heads as often in a row once in 10^9 times
_ROUNDING = 1e-9  # ratio of a cell that measures nothing but rounding errors, and is no news
_VERDICTS = ("holds", "refuted", "assumption not met")

_DESCRIPTION = """\
Each statement is tested on a grid of matrices and settings by independent random trials. A bound
in expectation is refuted by a one-sided test whose level, 1e-6, is that of the whole table; a
bound that always holds by one trial. Where a quantizer left its range, a statement says nothing:
assumption not met. The exit code is 1 if any is refuted.
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "bounds",
        "test the bounds of the papers by simulation",
        "lplr bounds\nlplr bounds --list\nlplr bounds range-finder --all --plot bounds.png\n"
        "lplr bounds distortion\nlplr bounds --full --trials 1000 --out bounds.jsonl",
        _DESCRIPTION,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="of a statement (default: all); 'distortion' tabulates that of the quantizers",
    )
    parser.add_argument("--list", action="store_true", help="list the statements and run nothing")
    parser.add_argument(
        "--trials", type=int, default=200, metavar="N", help="of each cell (default: 200)"
    )
    parser.add_argument("--full", action="store_true", help="real matrices as well")
    parser.add_argument(
        "--all",
        action="store_true",
        help="print all cells, not a summary; of distortion, all widths",
    )
    parser.add_argument(
        "--plot", metavar="FILE.png", help="draw measured against bound along a parameter"
    )
    parser.add_argument("--out", metavar="FILE", help="write all cells to a .jsonl or .csv file")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.theory.statements import STATEMENTS

    chosen = _chosen(args.names, STATEMENTS)
    if args.list:
        _list(chosen, args.json)
        return 0
    if args.trials < _FEWEST:
        raise InputError(
            f"--trials: must be at least {_FEWEST}, found {args.trials}; "
            "fewer cannot carry a test of that level"
        )
    if args.seed < 0:
        raise InputError(f"--seed: must not be negative, found {args.seed}")
    _check_files(args, bool(chosen))
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
            "statements": [_summary(chosen[name], cells) for name in chosen],
            "cells": [_row(cell) for cell in cells],
        }
        _write_files(args, cells, chosen)
    if _DISTORTION in args.names:
        report[_DISTORTION] = _distortion(args.seed, args.all)
    if args.json:
        print_json(report)
    else:
        _print(report, cells, args.all)
    return int(any(cell.verdict == "refuted" for cell in cells))


def _chosen(names: Sequence[str], known: Mapping[str, Statement]) -> dict[str, Statement]:
    for name in names:
        if name not in known and name != _DISTORTION:
            close = difflib.get_close_matches(name, [*known, _DISTORTION], 1)
            hint = f"; did you mean {close[0]}" if close else ""
            raise InputError(
                f"NAME: no statement is called {name!r}{hint}? They are: {', '.join(known)}"
            )
    return {n: s for n, s in known.items() if n in names} if names else dict(known)


def _check_files(args: argparse.Namespace, has_cells: bool) -> None:
    """Refuse outputs that could not be written, before minutes are spent on them."""
    from lplr.storage.table import SUFFIXES

    for option, suffixes in (("plot", (".png",)), ("out", SUFFIXES)):
        name = getattr(args, option)
        if name is None:
            continue
        if not has_cells:
            raise InputError(f"--{option}: holds the cells of statements; name one besides")
        check_output(name, suffixes, args.overwrite, "")


def _measure(args: argparse.Namespace, statements: Sequence[Statement]) -> list[Cell]:
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.theory import montecarlo

    with Progress(1.0) as progress, watch_compilation(progress):

        def show(status: montecarlo.Status) -> None:
            progress.done = status.share if status.share > 0.01 else 0.0  # too early to tell
            with progress.step(f"{status.statement}, cell {status.cell + 1} of {status.cells}"):
                pass

        return montecarlo.run(
            statements,
            trials=args.trials,
            rng=args.seed,
            level=_LEVEL,
            full=args.full,
            progress=show,
        )


def _write_files(
    args: argparse.Namespace, cells: Sequence[Cell], statements: Mapping[str, Statement]
) -> None:
    from lplr.evaluation.plot_bounds import draw_bounds, panels_of
    from lplr.provenance import provenance
    from lplr.storage.table import write_table

    if args.out is not None:
        about = {name: {"title": s.title, "source": s.source} for name, s in statements.items()}
        settings = {"trials": args.trials, "level": _LEVEL, "full": args.full}
        attrs = {"settings": settings, "statements": about, **provenance(args.seed)}
        rows = [_row(cell) for cell in cells]
        write_table(args.out, rows, attrs=attrs, overwrite=args.overwrite)
    if args.plot is not None:
        notes = {name: s.title for name, s in statements.items()}
        draw_bounds(args.plot, panels_of(cells, notes=notes))


def _row(cell: Cell) -> dict[str, Any]:
    """A cell without nesting; what does not exist is None."""
    from lplr.theory.montecarlo import QUANTILES

    quantiles = zip(QUANTILES, cell.quantiles, strict=True)
    row = {
        "statement": cell.statement,
        **cell.setting,
        "trials": cell.trials,
        "mean": cell.mean,
        "standard_error": cell.standard_error,
        **{f"quantile_{100 * q:g}": value for q, value in quantiles},
        "bound": cell.bound,
        "ratio": cell.ratio,
        "largest_ratio": cell.worst,
        "saturated": cell.saturated,
        "p_value": cell.p_value,
        "verdict": cell.verdict,
    }
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def _summary(statement: Statement, cells: Sequence[Cell]) -> dict[str, Any]:
    found = [cell for cell in cells if cell.statement == statement.name]
    ratios = sorted(cell.ratio for cell in found if cell.ratio > _ROUNDING)
    return {
        "name": statement.name,
        "title": statement.title,
        "source": statement.source,
        "kind": statement.kind,
        "cells": len(found),
        **{verdict: sum(c.verdict == verdict for c in found) for verdict in _VERDICTS},
        "least_ratio": ratios[0] if ratios else None,
        "median_ratio": ratios[len(ratios) // 2] if ratios else None,
        "largest_ratio": ratios[-1] if ratios else None,
    }


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


def _table_of_distortion(rows: Sequence[Mapping[str, Any]]) -> str:
    from lplr.cli.tables import table

    head = ("quantizer", "bits", "error on N(0, 1)", "± s.e.", "/ limit", "published", "in")
    lines = [
        [
            row["quantizer"],
            _number(row["bits"]),
            f"{row['mse']:.4g}",
            "exact" if row["method"] == "quadrature" else f"{row['standard_error']:.1g}",
            f"{row['mse'] / row['limit']:.3f}",
            "-" if row["published"] is None else f"{row['published']:.4g}",
            row["source"] or "",
        ]
        for row in rows
    ]
    return (
        table(head, lines)
        + "\n\nerror: mean squared, at the scale the quantizer is used with; limit: 2^(-2 bits)"
    )


def _list(statements: Mapping[str, Statement], as_json: bool) -> None:
    listed = [
        {
            "name": s.name,
            "title": s.title,
            "source": s.source,
            "kind": s.kind,
            "cells": len(s.grid),
            "real": len(s.full),
        }
        for s in statements.values()
    ]
    if as_json:
        print_json({"statements": listed})
        return
    for s in listed:
        print(f"{s['name']}  ({s['cells']} cells, {s['real']} more with --full)")
        print(f"    {s['title']}\n    {s['source']}; {_KINDS[str(s['kind'])]}")
    print(f"{_DISTORTION}\n    Of each quantizer on N(0, 1), measured, against published values")


_KINDS = {
    "expectation": "the mean is at most the bound",
    "always": "each value is at most its bound",
    "identity": "each value equals its bound",
}


def _print(report: dict[str, Any], cells: Sequence[Cell], everything: bool) -> None:
    from lplr.cli.tables import in_seconds, table

    if cells:
        if everything:
            print(table(_HEAD, [_line(cell) for cell in cells], left=2))
        else:
            _print_summary(report["statements"], cells)
        counts = {verdict: sum(c.verdict == verdict for c in cells) for verdict in _VERDICTS}
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        print(
            f"\n{len(cells)} cells of {report['trials']} trials, seed {report['seed']}, "
            f"{in_seconds(report['seconds'])}: {said}"
        )
    if _DISTORTION in report:
        print("\n" * bool(cells) + _table_of_distortion(report[_DISTORTION]))


_HEAD = ("statement", "setting", "measured", "± s.e.", "bound", "ratio", "verdict")


def _line(cell: Cell) -> list[str]:
    rest = dict(cell.setting)
    words = []
    if {"matrix", "n", "d"} <= set(rest):
        words = [f"{rest.pop('matrix')} {rest.pop('n')} x {rest.pop('d')}"]
    setting = ", ".join(words + [f"{k} = {_number(v)}" for k, v in rest.items()])
    ratio = "-" if math.isnan(cell.ratio) else _in_short(cell.ratio)
    figures = [f"{cell.mean:.4g}", f"{cell.standard_error:.1e}", f"{cell.bound:.4g}", ratio]
    return [cell.statement, setting, *figures, cell.verdict]


def _in_short(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio == 0 or ratio >= 1e-3 else f"{ratio:.0e}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_summary(statements: Sequence[dict[str, Any]], cells: Sequence[Cell]) -> None:
    """A line a statement; then the cells where each is tightest and loosest, and every refuted."""
    from lplr.cli.tables import table

    rows = []
    for s in statements:
        ratios = [s[f"{which}_ratio"] for which in ("least", "median", "largest")]
        rows.append(
            [s["name"]]
            + [str(s[key]) for key in ("cells", *_VERDICTS)]
            + ["-" if ratio is None else _in_short(ratio) for ratio in ratios]
        )
    head = ("statement", "cells", "holds", "refuted", "not met", "ratio from", "median", "to")
    print(table(head, rows))
    print("\nratio = measured / bound; the cells where it is least and largest:\n")
    shown = []
    for s in statements:
        found = [c for c in cells if c.statement == s["name"] and c.ratio > _ROUNDING]
        found.sort(key=lambda cell: cell.ratio)
        shown += [_line(cell) for cell in (found[:1] + found[-1:])[: len(found)]]
    print(table(_HEAD, shown, left=2))
    refuted = [_line(cell) for cell in cells if cell.verdict == "refuted"]
    if refuted:
        print("\nrefuted:\n\n" + table(_HEAD, refuted, left=2))
