"""``lplr bench speed``: time and memory on this machine, each figure with the error it buys."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lplr.cli.options import add_command, add_json, check_output, print_json

__all__ = ["add_speed", "measure", "print_rows", "run"]


def add_speed(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Describe the benchmark."""
    speed = add_command(
        kinds,
        common,
        "speed",
        "measure time, memory, imports, compilation and decoding",
        "lplr bench speed --json > before.json\n"
        "lplr bench speed --compare before.json --html speed.html\n"
        "LPLR_NUM_THREADS=1 lplr bench speed --json",
        "Factorizations against scikit-learn's randomized_svd and against two bare matrix "
        "products, at the same rank and number of threads. Each time is the median of five rounds "
        "in turn. Takes three to five minutes on two cores; leave the machine alone meanwhile.",
    )
    speed.add_argument(
        "--quick", action="store_true", help="one small matrix, two rounds, no compilation"
    )
    speed.add_argument(
        "--compare",
        metavar="FILE.json",
        help="also show the times of an earlier run on this machine, what --json printed of it, "
        "and the ratio to them",
    )
    speed.add_argument("--html", metavar="PAGE", help="write the tables as one HTML file")
    speed.add_argument("--overwrite", action="store_true", help="replace an existing page")
    add_json(speed)
    speed.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.evaluation.speed_runs import compared, read_speed, speed_document
    from lplr.inputs import check_readable

    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite, args.compare)
    before = None
    if args.compare:
        check_readable(args.compare)
        before = read_speed(Path(args.compare).read_bytes(), args.compare)
        compared(speed_document(before["rows"]), before, args.compare)  # refused before any work
    document = speed_document(measure(args.quick))
    if before:
        document = compared(document, before, args.compare)
    if args.json:
        print_json(document)
    else:
        print_rows(document["rows"])
    if args.html:
        from lplr.evaluation.report.speed import write_speed_page

        write_speed_page(args.html, document, overwrite=args.overwrite)
    return 0


def measure(quick: bool) -> list[dict[str, Any]]:
    """All figures, with progress on stderr."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.speed import measure_speed

    with Progress(1.0) as progress, watch_compilation(progress):
        return measure_speed(quick, progress=progress.tell)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table for each benchmark, with the columns that it has."""
    from lplr.cli.tables import table
    from lplr.evaluation.speed_tables import SAID, speed_tables

    for shown in speed_tables(rows):
        print(f"\n{shown.benchmark}\n")
        print(table(shown.heads, shown.cells, left=shown.names))
    print(f"\n{SAID}")
