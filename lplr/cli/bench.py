"""``lplr bench``: methods against each other at equal stored bits, and speed on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli.bench_grid import add_grids
from lplr.cli.bench_speed import add_speed
from lplr.cli.options import add_command

__all__ = ["add_parser"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "bench",
        "compare methods at equal stored bits, and measure speed",
        "lplr bench all --quick --html report.html\nlplr bench knn --budgets 1 --methods "
        "feedback,PQ\nlplr bench speed",
    )
    kinds = parser.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    add_grids(kinds, common)
    add_speed(kinds, common)
