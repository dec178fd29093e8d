"""``lplr model calibrate``: second moments of the inputs of all linear layers, or of outputs."""

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
    "needs none: it forms them behind the layers that are compressed already.) With --output it is "
    "one for lplr model compress --output-moments, which says how much of an error at the outputs "
    "is felt in the predictions: labels are drawn from them, and the gradients of their loss go "
    "back through the network. What is finished is kept in OUT.job, and the same command goes on."
)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "calibrate",
        "write second moments of the inputs of all linear layers, or of gradients at outputs",
        "lplr model calibrate SmolLM2-135M -o H.npz --tokens tokens.npy\n"
        "lplr compress SmolLM2-135M/model.safetensors -o layers.h5 --bits-per-entry 2 "
        "--hessians H.npz\n"
        "lplr model calibrate SmolLM2-135M -o moments.safetensors --output --tokens tokens.npy\n"
        "lplr model compress SmolLM2-135M -o small --bits-per-weight 2 --tokens tokens.npy "
        "--output-moments moments.safetensors",
        _DESCRIPTION,
    )
    parser.add_argument(
        "checkpoint", metavar="MODEL", help="a folder in the form of Hugging Face, or a .gguf file"
    )
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="FILE",
        help="file to write: .npz or .safetensors; with --output .safetensors",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_tokens(parser)
    outputs = parser.add_argument_group("moments of outputs")
    outputs.add_argument(
        "--output",
        action="store_true",
        help="write those of the gradients at the outputs, in place of those of the inputs",
    )
    outputs.add_argument(
        "--estimator",
        choices=("token", "sequence", "both"),
        help="what is summed: gradients of tokens (default), of the weights in each sequence, "
        "which takes about twice as long, or both",
    )
    outputs.add_argument("--seed", type=int, metavar="N", help="seed of the labels (default: 0)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    given = {"estimator": args.estimator, "rng": args.seed}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not args.output:
        option = {"estimator": "estimator", "rng": "seed"}[min(given)]
        raise InputError(f"--{option}: is of moments of outputs; give --output, or leave it out")
    suffixes = (".safetensors",) if args.output else (".npz", ".safetensors")
    check_output(args.out, suffixes, args.overwrite, args.tokens)

    import os

    from lplr.cli.progress import Progress
    from lplr.cli.tables import in_bytes
    from lplr.models.checkpoint import open_checkpoint
    from lplr.models.families import family_of

    checkpoint = open_checkpoint(args.checkpoint)
    family = family_of(checkpoint.config)
    ids = tokens_of(args, checkpoint)
    if ids is None:
        raise InputError("--tokens: is missing; give it, or --texts")
    told = {
        "model": args.checkpoint,
        "output": args.out,
        "layers": sum(len(family.linears(i)) for i in range(family.n_blocks)),
        "sequences": len(ids),
        "tokens": int((ids >= 0).sum()),
    }
    with Progress(1.0) as line:
        if args.output:
            found = _output_moments(args, checkpoint, ids, given, line)
            told |= {key: found.facts[key] for key in ("estimators", "rng", "loss")}
        else:
            _write(args.out, args.overwrite, checkpoint, family, ids, line.tell)
    told["file_nbytes"] = os.path.getsize(args.out)
    if args.json:
        print_json(told)
    else:
        what = "output moments" if args.output else "second moments"
        of = f"{told['layers']} {what} over {told['tokens']} tokens"
        print(f"{args.out}: {of}, {in_bytes(told['file_nbytes'])}")
    return 0


def _output_moments(
    args: argparse.Namespace, checkpoint: Any, ids: Any, given: dict[str, Any], line: Any
) -> Any:
    from lplr.models.moments import output_moments
    from lplr.storage.workplace import folder_of

    folder = folder_of(args.out)
    if folder.exists():
        line.say(f"going on with what is kept in {folder}")
    try:
        return output_moments(
            checkpoint, ids, args.out, overwrite=args.overwrite, progress=line.tell, **given
        )
    except BaseException as error:
        if not isinstance(error, InputError) and folder.exists():
            line.say(
                f"stopped; what is done is kept in {folder}; the same command goes on from there"
            )
        raise


def _write(output: str, overwrite: bool, checkpoint: Any, family: Any, ids: Any, tell: Any) -> None:
    """All second moments to one file, each as soon as it is there."""
    import numpy as np

    from lplr.cli.dense import npz, safetensors
    from lplr.models.calibration import second_moments
    from lplr.models.network import Network
    from lplr.models.request import check_enough, check_tensors
    from lplr.models.texts import PADDING, shortest_first
    from lplr.parallel import reproducible
    from lplr.progress import tracked, until
    from lplr.storage.atomic import write_atomic

    check_enough(ids, family)
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
    with tracked(tell, "checking the tensors"), reproducible():
        with until(0.02):
            check_tensors(checkpoint, family)
        write_atomic(output, pieces, overwrite)
