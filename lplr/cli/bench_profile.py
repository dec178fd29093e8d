"""``lplr bench profile``: where the time of one compression goes, and what threads cannot share."""

from __future__ import annotations

import argparse
import re
from typing import Any

from lplr.cli.options import add_command, add_json, add_seed, bits, print_json

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
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.progress import Progress
    from lplr.evaluation.profile import ProfileSettings, measure_profile
    from lplr.exceptions import InputError

    size = re.fullmatch(r"(\d+)x(\d+)", args.size.strip())
    if size is None or not min(int(size[1]), int(size[2])):
        raise InputError(f"--size: must be two numbers such as 2048x4096, found {args.size!r}")
    settings = ProfileSettings(
        args.method, int(size[1]), int(size[2]), args.bits, args.rank, args.effort,
        args.quantizer, not args.no_hessian, args.seed,
    )  # fmt: skip
    with Progress(1.0) as progress:
        found = measure_profile(settings, progress=progress.tell)
    if args.json:
        print_json(found)
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    from lplr.cli.tables import table
    from lplr.evaluation.profile_table import profile_cells, profile_heads, profile_words

    cells = [[text for text, _ in line] for line in profile_cells(found)]
    print(table(profile_heads(found), cells))
    print(f"\n{profile_words(found)}")
