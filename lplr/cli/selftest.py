"""``lplr selftest``: the guarantees of the package, attacked on this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lplr.cli.options import add_command, add_json, add_seed, print_json

if TYPE_CHECKING:
    from lplr.selftest.run import Line

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "selftest",
        "try to break what the package guarantees",
        "lplr selftest\nlplr selftest --long --json > report.json\nlplr selftest --only G4,G5",
        "Damaged and hostile files, killed and starved processes, hostile numbers: what was tried "
        "of each guarantee, and how often it failed. A minute on two cores, and twenty of them "
        "with --long. Everything happens in temporary folders. Exit code 1 if a guarantee fails.",
    )
    parser.add_argument("--long", action="store_true", help="the whole campaigns, for minutes")
    parser.add_argument(
        "--only", metavar="NAMES", default="", help="these guarantees or campaigns: G1,G4,mutants"
    )
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import in_seconds
    from lplr.progress import tracked
    from lplr.selftest.run import run, selected
    from lplr.selftest.trials import GUARANTEES, Scale
    from lplr.validation.arguments import check_integer

    names = selected([name for name in args.only.split(",") if name])
    scale, lines = Scale(args.long, check_integer(args.seed, "--seed", 0)), []
    with Progress(1.0) as progress, watch_compilation(progress), tracked(progress.tell, "start"):
        for found in run(names, scale):
            lines += found
            taken = in_seconds(sum(line.seconds for line in found))
            progress.say(f"{found[0].campaign}: {_counted(found)}, {taken}")
            for failure in (failure for line in found for failure in line.failures):
                progress.say(f"failed: {failure}")
    failed = sum(line.failed for line in lines)
    if args.json:
        print_json(
            {
                "long": args.long,
                "seed": args.seed,
                "guarantees": GUARANTEES,
                "lines": [asdict(line) for line in lines],
                "trials": sum(line.trials for line in lines),
                "failed": failed,
            }
        )
    else:
        _print(lines, args)
    return 1 if failed else 0


def _print(lines: list[Line], args: argparse.Namespace) -> None:
    from lplr.cli.tables import in_seconds, table
    from lplr.selftest.trials import GUARANTEES

    for name in args.only.split(","):
        if name in GUARANTEES:
            print(f"{name}: {GUARANTEES[name]}")
    rows = [
        (", ".join(line.guarantees.split()), line.what, f"{line.trials:,}", f"{line.failed:,}",
         in_seconds(line.seconds))
        for line in lines
    ]  # fmt: skip
    print(table(("guarantees", "tried", "trials", "failed", "time"), rows, left=2))
    failures = [(line, failure) for line in lines for failure in line.failures]
    for line, failure in failures:
        print(f"\nfailed: {line.campaign}: {line.what}: {failure}")
    again = f"lplr selftest{' --long' if args.long else ''} --seed {args.seed}"
    print(f"\n{_counted(lines)}{f'; the same again: {again}' if failures else ''}")


def _counted(lines: list[Line]) -> str:
    trials, failed = sum(line.trials for line in lines), sum(line.failed for line in lines)
    return f"{trials:,} trial{'s' * (trials != 1)}, {f'{failed:,}' if failed else 'none'} failed"
