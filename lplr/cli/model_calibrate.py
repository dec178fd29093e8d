"""``lplr model calibrate``: second moments of the inputs of all linear layers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lplr.cli.model_tokens import add_tokens, tokens_of
from lplr.cli.options import add_command, add_json, check_output, print_json
from lplr.exceptions import InputError

__all__ = ["add_parser", "run"]

_DESCRIPTION = (
    "H is the mean of x x^T over all tokens, for the inputs x of each linear layer in the network "
    "as it is. The file is one that lplr compress FILE --hessians takes. (lplr model compress "
    "needs none: it forms them behind the layers that are compressed already.)"
)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "calibrate",
        "write the second moments of the inputs of all linear layers",
        "lplr model calibrate SmolLM2-135M -o H.npz --tokens tokens.npy\n"
        "lplr compress SmolLM2-135M/model.safetensors -o layers.h5 --bits-per-entry 2 "
        "--hessians H.npz",
        _DESCRIPTION,
    )
    parser.add_argument(
        "checkpoint", metavar="MODEL", help="a folder in the form of Hugging Face, or a .gguf file"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="H.npz", help="file to write, or .safetensors"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_tokens(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    check_output(args.output, (".npz", ".safetensors"), args.overwrite, "")

    import os

    from lplr.cli.progress import Progress
    from lplr.cli.tables import in_bytes
    from lplr.models.checkpoint import open_checkpoint
    from lplr.models.families import family_of
    from lplr.models.request import check_enough, check_tensors
    from lplr.parallel import reproducible
    from lplr.progress import tracked, until

    checkpoint = open_checkpoint(args.checkpoint)
    family = family_of(checkpoint.config)
    ids = tokens_of(args, checkpoint)
    if ids is None:
        raise InputError("--tokens: is missing; give it, or --texts")
    check_enough(ids, family)
    with Progress(1.0) as line, tracked(line.tell, "checking the tensors"), reproducible():
        with until(0.02):
            check_tensors(checkpoint, family)
        _write(args.output, args.overwrite, checkpoint, family, ids)
    told = {
        "model": args.checkpoint,
        "output": args.output,
        "layers": sum(len(family.linears(i)) for i in range(family.n_blocks)),
        "sequences": len(ids),
        "tokens": int((ids >= 0).sum()),
        "file_nbytes": os.path.getsize(args.output),
    }
    if args.json:
        print_json(told)
    else:
        what = f"{told['layers']} second moments over {told['tokens']} tokens"
        print(f"{args.output}: {what}, {in_bytes(told['file_nbytes'])}")
    return 0


def _write(output: str, overwrite: bool, checkpoint: Any, family: Any, ids: Any) -> None:
    """All second moments to one file, each as soon as it is there."""
    import numpy as np

    from lplr.cli.dense import npz, safetensors
    from lplr.models.calibration import second_moments
    from lplr.models.network import Network
    from lplr.models.texts import PADDING, shortest_first
    from lplr.storage.atomic import write_atomic

    ids = shortest_first(ids)
    mask = ids != PADDING
    network = Network(family, checkpoint)
    found = second_moments(network, np.where(mask, ids, 0), None if mask.all() else mask)
    shapes = {
        name: (d, d) for i in range(family.n_blocks) for name, (_, d) in family.linears(i).items()
    }
    known: dict[str, Any] = {}

    def look_up(name: str) -> Any:
        if name not in known:
            names, H, _ = next(found)
            if not np.isfinite(H).all():
                raise InputError(
                    f"{names[0]}: the second moment of its inputs is not finite; the network "
                    "overflows on these tokens"
                )
            known.update(dict.fromkeys(names, H.astype("<f4")))
        return known.pop(name)

    if Path(output).suffix.lower() == ".npz":
        pieces = npz(list(shapes), look_up)
    else:
        kinds = {name: (np.dtype("<f4"), shape) for name, shape in shapes.items()}
        pieces = safetensors(kinds, look_up)
    write_atomic(output, pieces, overwrite)
