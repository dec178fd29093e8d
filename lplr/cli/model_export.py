"""``lplr model export``: a model with dense tensors, for other programs."""

from __future__ import annotations

import argparse
import os
from typing import Any

from lplr.cli.model_info import add_model
from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "export",
        "write a model with dense tensors, for other programs",
        "lplr model export smaller -o smaller-dense --dtype bfloat16\n"
        "lplr model export smaller -o smaller.gguf",
        "A folder in the form of Hugging Face, which transformers opens, or a GGUF file for "
        "llama.cpp. It has the values of the packed layers and the size of the original. Models "
        "that are not compressed can be converted in the same way.",
    )
    add_model(parser)
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT", help="a folder to make, or a .gguf file"
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="float16",
        help="type of the tensors in a folder (default: float16)",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import in_bytes
    from lplr.models.exporting import export

    with Progress(1.0) as progress, watch_compilation(progress):
        export(args.model, args.out, dtype=args.dtype, progress=progress.tell)
    nbytes = _nbytes(args.out)
    if args.json:
        print_json({"model": args.model, "out": args.out, "nbytes": nbytes})
    else:
        print(f"{args.out}: {in_bytes(nbytes)}")
    return 0


def _nbytes(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
