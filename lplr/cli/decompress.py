"""``lplr decompress``: a packed file to a dense .npy file."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli.options import add_command, add_json, add_output, check_output, print_json

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "decompress",
        "write the dense matrix of a packed file",
        "lplr decompress weights.h5 -o restored.npy",
        "The result is float32, in C order.",
    )
    parser.add_argument("input", metavar="IN.h5", help="a file that lplr wrote")
    add_output(parser, "OUT.npy")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    check_output(args.output, (".npy",), args.overwrite, args.input)

    import io

    import numpy as np

    import lplr
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import in_bytes
    from lplr.storage.atomic import write_atomic

    f = lplr.load(args.input)
    with Progress() as progress, watch_compilation(progress):
        with progress.step(f"decoding {f.shape[0]} x {f.shape[1]}"):
            dense = f.to_dense().astype("<f4", copy=False)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, np.lib.format.header_data_from_array_1_0(dense)
        )
        with progress.step("writing and verifying the file"):
            data = dense.reshape(-1).view(np.uint8).data
            write_atomic(args.output, [header.getvalue(), data], args.overwrite)
    nbytes = len(header.getvalue()) + dense.nbytes
    if args.json:
        print_json(
            {
                "input": args.input,
                "output": args.output,
                "shape": list(f.shape),
                "dtype": "float32",
                "file_nbytes": nbytes,
            }
        )
    else:
        print(f"{args.output}: {f.shape[0]} x {f.shape[1]} float32, {in_bytes(nbytes)}")
    return 0
