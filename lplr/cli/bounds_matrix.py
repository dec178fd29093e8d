"""``lplr bounds --matrix``: the bounds against simulation on a matrix of one's own."""

from __future__ import annotations

import argparse
import difflib
import time
from typing import TYPE_CHECKING, Any

from lplr.cli.options import INPUTS, check_output, check_table, print_json
from lplr.cli.tables import in_seconds
from lplr.exceptions import InputError

if TYPE_CHECKING:
    from lplr.theory import Comparison

__all__ = ["add_matrix_options", "check_matrix_options", "run_on_matrix"]

_OPTIONS = ("x", "values", "rank", "oversampling", "bits")  # go with --matrix alone
_OTHERS = ("list", "full", "all")  # never do


def add_matrix_options(parser: Any) -> None:
    """The options of this way to call ``lplr bounds``."""
    group = parser.add_argument_group(
        "a matrix of your own",
        "A ~ L R with m = rank + oversampling columns in L, both factors quantized; the error "
        "|L R - A|^2, relative to |A|^2, is measured and compared with bounds on its mean. The "
        "quantizers are dithered; in Python, lplr.theory.compare_bounds takes yours, and your "
        "bounds",
    )
    group.add_argument(
        "--matrix",
        metavar="FILE",
        help=f"the matrix: {INPUTS}; an array of one dimension is taken as the singular values of "
        "a square matrix",
    )
    group.add_argument(
        "--x",
        choices=("bits", "rank", "oversampling"),
        help="the parameter that varies (default: bits)",
    )
    group.add_argument(
        "--values",
        metavar="N,N,...",
        help="its values (default: 1 to 8 bits, or powers of two)",
    )
    group.add_argument(
        "--rank",
        type=int,
        metavar="K",
        help="the rank that is aimed at (default: a tenth of the smaller side)",
    )
    group.add_argument(
        "--oversampling",
        type=int,
        metavar="P",
        help="columns of the sketch beyond it, at least 2 (default: 8; bounds on an SVD have none)",
    )
    group.add_argument(
        "--bits",
        type=int,
        metavar="B",
        help="bits of each entry of L and R, from 1 to 16 (default: 8)",
    )


def check_matrix_options(args: argparse.Namespace) -> None:
    """Refuse options of the other way to call the command, which would do nothing."""
    wrong = _OTHERS if args.matrix is not None else _OPTIONS
    for name in wrong:
        if getattr(args, name) not in (None, False):
            how = "does not go with" if args.matrix is not None else "goes with"
            raise InputError(f"--{name}: {how} --matrix")


def run_on_matrix(args: argparse.Namespace) -> int:
    """Run the command on the matrix of ``--matrix``."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.figures import draw_or_warn
    from lplr.theory import compare_bounds
    from lplr.theory.figure import SUFFIXES as PICTURES

    method = _method(args.names)
    if args.plot is not None:
        check_output(args.plot, PICTURES, args.overwrite, args.matrix)
    if args.out is not None:
        check_table(args.out, args.overwrite, args.matrix)
    given = {key: getattr(args, key) for key in _OPTIONS if getattr(args, key) is not None}
    if "values" in given:
        given["values"] = _integers(args.values)
    start = time.perf_counter()
    with Progress(1.0) as progress, watch_compilation(progress):
        found = compare_bounds(
            args.matrix,
            **given,
            bounds=args.names or None,
            method=method,
            trials=args.trials,
            rng=args.seed,
            progress=progress.tell,
        )
    if args.json:
        print_json(_document(found))
    else:
        print(found)
        print(f"\n{args.trials} trials for each line, seed {args.seed}, ", end="")
        print(in_seconds(time.perf_counter() - start))
    if args.out is not None:
        found.save(args.out, overwrite=args.overwrite)
    drawn = args.plot is None or draw_or_warn(found.plot, args.plot)
    if any("refuted" in words for words in found.verdicts.values()):
        return 1
    return 0 if drawn else 3


def _method(names: list[str]) -> str:
    """The method that the bounds are about."""
    from lplr.theory.own_bound import METHODS, plain

    about = {bound: method for method, known in METHODS.items() for bound in known}
    for name in names:
        if plain(name) not in about:
            close = difflib.get_close_matches(plain(name), about, 1)
            hint = f"did you mean {close[0]}?" if close else f"use some of {', '.join(about)}"
            raise InputError(f"NAME: with --matrix, {name!r} is no bound on A ~ L R; {hint}")
    methods = {about[plain(name)]: name for name in names}
    if len(methods) > 1:
        first, second, *_ = methods.values()
        raise InputError(f"NAME: {first} and {second} are about two methods; ask for one at a time")
    return next(iter(methods), "lplr")


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--values: must be integers with commas between them, such as 2,4,8; found {text!r}"
        ) from None


def _document(found: Comparison) -> dict[str, Any]:
    return {
        "parameter": found.parameter,
        "method": found.method,
        "shape": list(found.shape),
        "squared_norm": found.energy,
        "seed": found.seed,
        "rows": found.rows(),
    }
