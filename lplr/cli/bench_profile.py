"""``lplr bench profile``: where the time of one compression goes, and what threads cannot share."""

from __future__ import annotations

import argparse
import re
from typing import Any

from lplr.cli.options import add_command, add_json, add_seed, bits, check_output, print_json

__all__ = ["add_profile", "run"]

_METHODS = ("compress", "caldera", "factorize", "quantize")


def add_profile(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Describe the benchmark."""
    parser = add_command(
        kinds,
        common,
        "profile",
        "time of the steps of one compression, on one thread and on all",
        "lplr bench profile\n"
        "lplr bench profile --size 4096x4096 --bits 2\n"
        "lplr bench profile --method caldera --size 4096x4096 --rank 128\n"
        "lplr bench profile --method quantize --quantizer e8p --json > quantize.json",
        "Compresses a random matrix. Each moment is counted for one step, so that steps add up to "
        "the time. What is outside of the blocks that threads share is serial.",
    )
    parser.add_argument("--method", choices=_METHODS, default="compress", help="what is called")
    parser.add_argument(
        "--size", default="2048x2048", metavar="NxD", help="of the matrix (default: 2048x2048)"
    )
    parser.add_argument(
        "--bits", type=bits, default=2, metavar="B", help="bits per entry (default: 2)"
    )
    parser.add_argument("--rank", type=int, metavar="K", help="of caldera and factorize")
    parser.add_argument("--effort", choices=("fast", "default", "best"), help="as of the method")
    parser.add_argument("--quantizer", metavar="NAME", help="as of the method")
    parser.add_argument("--no-hessian", action="store_true", help="weigh all columns alike")
    parser.add_argument(
        "--functions",
        action="store_true",
        help="each function of the package is a step, those with most serial time first",
    )
    add_seed(parser)
    parser.add_argument("--html", metavar="PAGE", help="write the table as one HTML file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.profile import measure_profile

    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite)
    settings = _settings(args)
    with Progress(1.0) as progress, watch_compilation(progress):
        found = measure_profile(settings, functions=args.functions, progress=progress.tell)
    if args.json:
        print_json(found)
    else:
        _print(found)
    if args.html:
        from lplr.evaluation.report.profile import write_profile_page

        write_profile_page(args.html, found, overwrite=args.overwrite)
    return 0


def _settings(args: argparse.Namespace) -> Any:
    from lplr.evaluation.profile import ProfileSettings
    from lplr.exceptions import InputError

    size = re.fullmatch(r"(\d+)x(\d+)", args.size.strip())
    if size is None or not min(int(size[1]), int(size[2])):
        raise InputError(f"--size: must be two numbers such as 2048x4096, found {args.size!r}")
    return ProfileSettings(
        args.method, int(size[1]), int(size[2]), args.bits, args.rank, args.effort,
        args.quantizer, not args.no_hessian, args.seed,
    )  # fmt: skip


def _print(found: dict[str, Any]) -> None:
    from lplr.cli.tables import table
    from lplr.evaluation.profile_table import (
        profile_cells,
        profile_heads,
        profile_title,
        profile_words,
    )

    cells = [[text for text, _ in line] for line in profile_cells(found)]
    print(profile_title(found) + "\n")
    print(table(profile_heads(found), cells))
    print("\n" + "\n".join(profile_words(found)))
