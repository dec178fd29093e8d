"""``lplr info``: what a packed file holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "info",
        "show what a packed file holds",
        "lplr info weights.h5",
        "Header, every component with its bits, and how it was made. The whole file is verified.",
    )
    parser.add_argument("file", metavar="FILE", help="a file that lplr wrote")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import lplr

    document = lplr.inspect(args.file)
    f = lplr.load(args.file)
    document = {
        "file": args.file,
        "type": type(f).__name__,
        "shape": list(f.shape),
        "rank": f.rank,
        "stored_nbytes": f.nbytes,
        "bits_per_entry": f.bits_per_entry,
        **document,
    }
    if args.json:
        print_json(document)
    else:
        _print(document)
    return 0


def _print(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import columns, in_bytes, table

    rows, cols = document["shape"]
    rank = f", rank {document['rank']}" if document["rank"] else ""
    overhead = document["file_nbytes"] - document["stored_nbytes"]
    summary = [
        ("file", f"{document['file']}, {document['file_nbytes']} bytes"),
        ("format", f"version {document['format_version']}"),
        ("sha-256", f"{document['sha256']} (verified)"),
        ("content", f"{document['type']}, {rows} x {cols}{rank}"),
        (
            "stored",
            f"{document['stored_nbytes']} bytes, {document['bits_per_entry']:.4f} bits per entry",
        ),
        ("rest", f"{in_bytes(overhead)} of header and structure"),
    ]
    print(columns(summary))
    parts, arrays = [], []
    for path, group in document["groups"].items():
        values = ", ".join(f"{name} {value}" for name, value in group["values"].items())
        parts.append([path, f"{group['encoding']} {group['version']}", values])
        for name, array in group["datasets"].items():
            shape = " x ".join(map(str, array["shape"]))
            place = f"{path.rstrip('/')}/{name}"
            arrays.append([place, array["dtype"], shape, str(array["nbytes"])])
    print("\n" + table(("component", "encoding", "values"), parts, left=3))
    if arrays:
        print("\n" + table(("array", "type", "shape", "bytes"), arrays, left=2))
    for path, group in document["groups"].items():
        if group["meta"]:
            _print_meta(path, group["meta"])
    if document["attrs"]:
        print("\nattributes\n" + columns(_as_pairs(document["attrs"]), indent="  "))


def _print_meta(path: str, meta: Mapping[str, Any]) -> None:
    """How a component was made."""
    from lplr.cli.compress_report import search_of, search_table
    from lplr.cli.tables import columns, table
    from lplr.provenance import as_call

    shown = ("call", "plan", "others", "history")
    rest = {name: meta[name] for name in meta if name not in shown}
    what = "it" if path == "/" else path
    if call := as_call(meta):
        rest = {"call": call, **rest}
    if rest:
        print(f"\nhow {what} was made\n" + columns(_as_pairs(rest), indent="  "))
    if search := search_of(meta):
        print("\nthe choice (*) and what else was considered")
        print(search_table(search))
    if history := meta.get("history"):
        print(f"\nthe error of {what} after each step; the best result was kept")
        steps = [
            [str(step["iteration"]), step["step"], f"{step['error']:.5f}"]
            if isinstance(step, Mapping)
            else [str(i), "L R", f"{step:.5f}"]
            for i, step in enumerate(history)
        ]
        print(table(("round", "step", "error"), steps, left=2))


def _as_pairs(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _in_words(value)) for name, value in record.items()]


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
