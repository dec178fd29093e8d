"""``lplr decompress``: packed files to dense ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lplr.cli.info import matrix_of
from lplr.cli.options import (
    add_command,
    add_json,
    add_name,
    add_output,
    check_output,
    print_json,
    refuse_model,
)

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "decompress",
        "write the dense matrices of a packed file",
        "lplr decompress weights.h5 -o restored.npy\n"
        "lplr decompress layers.h5 -o restored.safetensors",
        "Matrices become float32, in C order. One matrix goes to a .npy file; those of a file of "
        "many to a .npz or .safetensors file under their names, or one of them, --name, to a .npy "
        "file. Of a folder of parts a few rows are in memory at a time.",
    )
    parser.add_argument(
        "input", metavar="IN.h5", help="a file, or folder of parts, that lplr wrote"
    )
    add_name(parser)
    add_output(parser, "OUT")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.storage.folder import is_folder

    in_parts = is_folder(args.input)
    if not in_parts:
        refuse_model(args.input, "export")
    check_output(args.output, (".npy", ".npz", ".safetensors"), args.overwrite, args.input)

    import os

    import numpy as np

    import lplr
    from lplr.cli.dense import npy, npz, safetensors
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import in_bytes, in_shape, shown
    from lplr.exceptions import InputError
    from lplr.storage.atomic import write_atomic
    from lplr.storage.stored import read_stored

    if in_parts:
        return _decompress_folder(args)
    stored = read_stored(args.input)
    suffix = Path(args.output).suffix.lower()
    one = stored.names is None or args.name is not None
    if one and suffix != ".npy":
        raise InputError(f"{args.output}: one matrix goes to a .npy file; name it so")
    if not one and suffix == ".npy":
        raise InputError(
            f"{args.output}: {args.input} has {len(stored.names or [])} matrices; write a .npz or "
            ".safetensors file, or say which one with --name"
        )
    objects = {args.name: stored.decode(args.name)} if one else stored.decode()
    packed = {name: matrix_of(obj) for name, obj in objects.items()}
    kinds = {
        name: (np.dtype("<f4") if isinstance(f, lplr.PackedMatrix) else f.dtype, f.shape)
        for name, f in packed.items()
    }
    with Progress(0 if one else len(packed)) as progress, watch_compilation(progress):

        def decode(name: Any) -> np.ndarray:
            dtype, shape = kinds[name]
            label = f"decoding {in_shape(shape)} {shown(name) if name else ''}".rstrip()
            with progress.step(label, 1.0):
                return np.asarray(packed[name], dtype, order="C")

        if one:
            pieces = npy(decode(args.name))
        elif suffix == ".npz":
            pieces = npz(list(packed), decode)
        else:
            pieces = safetensors(kinds, decode)
        write_atomic(args.output, pieces, args.overwrite)
    nbytes = os.path.getsize(args.output)
    told: list[dict[str, Any]] = [
        {"name": name, "shape": list(shape), "dtype": dtype.name}
        for name, (dtype, shape) in kinds.items()
    ]
    if args.json:
        what = told[0] if one else {"matrices": told}
        print_json({"input": args.input, "output": args.output, **what, "file_nbytes": nbytes})
    else:
        first = f"{in_shape(told[0]['shape'])} {told[0]['dtype']}" if one else f"{len(told)} arrays"
        print(f"{args.output}: {first}, {in_bytes(nbytes)}")
    return 0


def _decompress_folder(args: argparse.Namespace) -> int:
    """The rows of a matrix in parts, a few at a time."""
    import lplr
    from lplr.cli.dense import npy_rows
    from lplr.cli.folder import dense_rows
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import in_bytes, in_shape
    from lplr.exceptions import InputError
    from lplr.progress import counter, tracked
    from lplr.storage.atomic import write_atomic

    if args.name is not None:
        raise InputError("name: is for a file of many matrices; leave it out for a folder of parts")
    if Path(args.output).suffix.lower() != ".npy":
        raise InputError(f"{args.output}: one matrix goes to a .npy file; name it so")
    f = lplr.load(args.input)
    with Progress(1.0) as progress, watch_compilation(progress), tracked(progress.tell, "decoding"):
        rows = dense_rows(f, counter(1))
        write_atomic(args.output, npy_rows(f.shape, rows), args.overwrite)
    nbytes = Path(args.output).stat().st_size
    if args.json:
        told = {"name": None, "shape": list(f.shape), "dtype": "float32", "file_nbytes": nbytes}
        print_json({"input": args.input, "output": args.output, **told})
    else:
        print(f"{args.output}: {in_shape(f.shape)} float32, {in_bytes(nbytes)}")
    return 0
