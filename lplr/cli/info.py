"""``lplr info``: what a packed file holds."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lplr.cli import spend
from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_parser", "run"]

_TABLED = ("choice", "others")  # of a record: shown as a table


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
    from lplr.storage.container import inspect

    document = inspect(args.file)
    f = lplr.load(args.file)
    document = {
        "file": args.file,
        "type": type(f).__name__,
        "shape": list(f.shape),
        "rank": getattr(f, "rank", None),
        "stored_nbytes": f.nbytes,
        "bits_per_entry": f.bits_per_entry,
        **document,
    }
    if args.json:
        print_json(document)
    else:
        _print(document)
    return 0


def _print(document: dict[str, Any]) -> None:
    from lplr.cli.tables import columns, in_bytes, table

    rows, cols = document["shape"]
    rank = "" if document["rank"] is None else f", rank {document['rank']}"
    overhead = document["file_nbytes"] - document["stored_nbytes"]
    print(
        columns(
            [
                ("file", f"{document['file']}, {document['file_nbytes']} bytes"),
                ("format", f"version {document['format_version']}"),
                ("sha-256", f"{document['sha256']} (verified)"),
                ("content", f"{document['type']}, {rows} x {cols}{rank}"),
                (
                    "stored",
                    f"{document['stored_nbytes']} bytes, {document['bits_per_entry']:.4f} bits an "
                    f"entry; {in_bytes(overhead)} of header and structure",
                ),
            ]
        )
    )
    parts, arrays = [], []
    for path, group in document["groups"].items():
        values = ", ".join(f"{k} {v}" for k, v in group["values"].items())
        parts.append([path, f"{group['encoding']} {group['version']}", values])
        for name, array in group["datasets"].items():
            shape = " x ".join(map(str, array["shape"]))
            place = f"{path.rstrip('/')}/{name}"
            arrays.append([place, array["dtype"], shape, str(array["nbytes"])])
    print("\n" + table(("component", "encoding", "values"), parts, left=3))
    if arrays:
        print("\n" + table(("array", "type", "shape", "bytes"), arrays, left=2))
    made = [(path, group["meta"]) for path, group in document["groups"].items() if group["meta"]]
    for _, meta in made:
        if choices := spend.considered(meta):
            print("\nhow the budget was spent: the choice (*), and what else was considered")
            print(spend.as_table(choices))
    shown = [(path, {k: v for k, v in meta.items() if k not in _TABLED}) for path, meta in made]
    for title, content in [(f"how {path} was made", meta) for path, meta in shown] + [
        ("attributes", document["attrs"])
    ]:
        if content:
            print(f"\n{title}")
            print(columns([(k, _text(v)) for k, v in content.items()], indent="  "))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
