"""``lplr append``: new rows for a matrix in parts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from lplr.cli.options import INPUTS, add_command, add_json, print_json

__all__ = ["add_parser", "in_words", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "append",
        "add rows below a compressed matrix in parts",
        "lplr append embeddings.parts new.npy",
        "They are coded on the basis that is there, with its codebooks and scales, and become "
        "parts of their own: the old ones are neither read as a whole nor changed. All rows are "
        "added or, after an error or a kill, none. Several processes may append to one folder: "
        "they wait for each other.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a folder of parts that lplr wrote")
    parser.add_argument("rows", metavar="NEW", help=f"new rows: {INPUTS}")
    parser.add_argument(
        "--hessian", metavar="FILE", help="the one that the matrix was compressed under, if any"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import lplr
    from lplr.algorithms.fit import fit_of_new_rows
    from lplr.cli.hessians import as_hessian
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import in_shape
    from lplr.inputs import read_input
    from lplr.sources import open_source

    hessian = None if args.hessian is None else as_hessian(read_input(args.hessian).array)
    source = open_source(args.rows, "rows")
    what = f"appending {in_shape(source.shape)}"
    with Progress(0) as progress, watch_compilation(progress), progress.step(what, 1.0):
        f = lplr.append(args.folder, source, hessian=hessian)
    fit = fit_of_new_rows(lplr.inspect(args.folder))
    if args.json:
        document = {"folder": args.folder, "appended": source.shape[0], "shape": list(f.shape)}
        print_json({**document, "parts": len(f.blocks), "stored_nbytes": f.nbytes, "new_rows": fit})
    else:
        print(f"{args.folder}: {in_shape(f.shape)} in {len(f.blocks)} parts")
        print("\n".join(in_words(fit)))
    return 0


def in_words(fit: Mapping[str, Any] | None) -> list[str]:
    """What `lplr.algorithms.fit.fit_of_new_rows` has found."""
    if fit is None:
        return []
    old, worse = fit["relative_error_of_old_rows"], fit["worse"]
    said = f"{fit['rows']:,} rows were appended; their relative error is "
    said += f"{fit['relative_error']:.5f}, that of the others "
    if old is None:
        return [said + "was not recorded"]
    told = [said + f"{old:.5f}"]
    if not worse:
        return [*told, "they fit the basis of the others as well"]
    file = max(worse, key=worse.get)
    where = f"those in {file}" if len(worse) == 1 else f"those in {len(worse)} parts, {file} most,"
    times = f" is {worse[file] / old:.2f} times the error" if old else ""
    return [
        *told,
        f"{where} fit the old basis worse: {worse[file]:.5f}{times}; compress all rows anew, or "
        "these by themselves",
    ]
