"""``lplr bench speed``: time and memory on this machine, each figure with the error it buys."""

from __future__ import annotations

import argparse
from itertools import groupby
from typing import Any

from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_speed", "measure", "print_rows", "run"]


def add_speed(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Describe the benchmark."""
    speed = add_command(
        kinds,
        common,
        "speed",
        "measure time, memory, imports, compilation and decoding",
        "lplr bench speed\nLPLR_NUM_THREADS=1 lplr bench speed --json",
        "Factorizations against scikit-learn's randomized_svd and against two bare matrix "
        "products, at the same rank and number of threads. Takes two to four minutes on two "
        "cores; leave the machine alone meanwhile.",
    )
    speed.add_argument(
        "--quick", action="store_true", help="one small matrix, two rounds, no compilation"
    )
    add_json(speed)
    speed.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    rows = measure(args.quick)
    if args.json:
        print_json({"rows": rows})
    else:
        print_rows(rows)
    return 0


def measure(quick: bool) -> list[dict[str, Any]]:
    """All figures, with progress on stderr."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.speed import measure_speed

    with Progress(1.0) as progress, watch_compilation(progress):
        return measure_speed(quick, progress=progress.tell)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table for each benchmark, with the columns that it has."""
    from lplr.cli.tables import in_seconds, table

    shown: dict[str, Any] = {
        "matrix": str,
        "what": str,
        "threads": str,
        "seconds": in_seconds,
        "ratio": "{:.2f}".format,
        "per_second": lambda x: f"{x / 1e6:.0f} M/s",
        "error": "{:.4f}".format,
        "extra_mb": "{:.1f} MB".format,
        "input_mb": "{:.1f} MB".format,
    }
    heads = {"seconds": "time", "per_second": "entries", "extra_mb": "extra", "input_mb": "input"}
    for benchmark, group in groupby(rows, key=lambda row: row["benchmark"]):
        own = list(group)
        names = [name for name in shown if any(row[name] is not None for row in own)]
        cells = [["-" if row[k] is None else shown[k](row[k]) for k in names] for row in own]
        left = 2 if "matrix" in names else 1
        print(f"\n{benchmark}\n")
        print(table([heads.get(name, name) for name in names], cells, left=left))
    print(
        "\ntime: the best of some rounds, kernels compiled. ratio: to the row of the same matrix "
        "where it is 1.\nextra: the peak of memory beyond the input."
    )
