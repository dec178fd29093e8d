"""``lplr model compress``: a network whose linear layers are compressed, as a folder."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from lplr.cli.model_allocation import (
    add_allocation,
    allocated,
    compared_in,
    is_verified,
    seconds_of_allocation,
)
from lplr.cli.model_tokens import add_tokens, tokens_of
from lplr.cli.options import (
    add_command,
    add_jobs,
    add_json,
    add_scheduler,
    add_seed,
    bits,
    print_json,
)
from lplr.exceptions import InputError

if TYPE_CHECKING:
    import numpy as np

    from lplr.models.checkpoint import Checkpoint

__all__ = ["add_parser", "run"]

_EXAMPLE = """\
lplr model compress SmolLM2-135M -o small --bits-per-weight 2 --tokens tokens.npy
lplr model compress SmolLM2-135M -o small --bits-per-weight 2 --texts *.txt
lplr model compress SmolLM2-135M -o small --bits-per-weight 2 --dry-run
lplr model compress SmolLM2-135M -o small --bits-per-weight 2 --tokens tokens.npy --output-moments
lplr model compress SmolLM2-135M -o small --bits-per-weight 2 --tokens tokens.npy \\
    --allocation verified
lplr model compress SmolLM2-135M -o caldera --method caldera --rank 32 --tokens tokens.npy"""

_DESCRIPTION = (
    "Blocks are compressed in order, each layer for the inputs that it will get behind the layers "
    "that are compressed already. What is finished is kept in OUT.job: the same command, after an "
    "interrupt or a kill, goes on from there and ends with the same layers, byte for byte. OUT "
    "appears when it is complete."
)
_OPTIONS = ("effort", "rank", "q_bits", "factor_bits", "mode")


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "compress",
        "compress a network, block by block",
        _EXAMPLE,
        _DESCRIPTION,
    )
    parser.add_argument(
        "checkpoint",
        metavar="MODEL",
        help="a folder in the form of Hugging Face, or a .gguf file; with --dry-run a folder with "
        "config.json alone is enough",
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="folder to make")
    parser.add_argument(
        "--bits-per-weight",
        type=float,
        metavar="B",
        help="stored bits over weights of the linear layers, at most; scales count too",
    )
    parser.add_argument(
        "--method",
        choices=("compress", "caldera", "quantize"),
        default="compress",
        help="compress (default): what is best for each layer; caldera: Q + L R of one rank and "
        "width; quantize: plain rounding, which needs no calibration",
    )
    parser.add_argument(
        "--embedding-bits",
        type=int,
        choices=(4, 8),
        metavar="{4,8}",
        help="bits of embedding and head, by rows (default: they keep their type)",
    )
    add_seed(parser)
    add_jobs(parser)
    add_scheduler(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what every layer would take, and time, memory and disk; write nothing",
    )
    add_json(parser)
    calibration = add_tokens(parser)
    calibration.add_argument(
        "--output-moments",
        nargs="?",
        const=True,
        metavar="FILE",
        help="weigh errors by what is felt of them in the predictions: by the moments in FILE, "
        "from lplr model calibrate --output with the same tokens; without FILE they are formed "
        "first",
    )
    calibration.add_argument(
        "--no-prefix",
        dest="prefix",
        action="store_false",
        help="code each layer for its inputs in the original network, not for those that it will "
        "get behind the compressed layers",
    )
    best = parser.add_argument_group("--method compress")
    best.add_argument(
        "--effort",
        choices=("fast", "default", "best"),
        help="how much time to spend on a smaller error (default: default)",
    )
    add_allocation(best)
    caldera = parser.add_argument_group("--method caldera")
    caldera.add_argument("--rank", type=int, metavar="K", help="columns of L (default: 64)")
    caldera.add_argument(
        "--q-bits", type=bits, metavar="B", help="bits per entry of Q (default: 2)"
    )
    caldera.add_argument(
        "--factor-bits", type=bits, metavar="B", help="bits per entry of L and R (default: 4)"
    )
    caldera.add_argument(
        "--mode",
        choices=("default", "faithful"),
        help="faithful: the alternating algorithm of the CALDERA paper",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.model_compress_report import print_plan, print_summary

    given = {
        "bits_per_weight": args.bits_per_weight,
        "method": args.method,
        "prefix": args.prefix,
        "output_moments": args.output_moments,
        "embedding_bits": args.embedding_bits,
        "rng": args.seed,
        "jobs": args.jobs,
        **{name: getattr(args, name) for name in _OPTIONS},
    }
    report, show = (
        (_planned(args, given), print_plan)
        if args.dry_run
        else (_compressed(args, given), print_summary)
    )
    if args.json:
        print_json(report)
    else:
        show(report)
    return 0


def _planned(args: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    from lplr.models.checkpoint import open_checkpoint
    from lplr.models.compress_model import plan

    calibration = None
    if args.tokens is not None or args.texts is not None:
        calibration = _calibration(args, open_checkpoint(args.checkpoint))
    planned = plan(args.checkpoint, calibration=calibration, **given).describe()
    if is_verified(args):
        seconds = planned["seconds"]
        seconds["allocation"] = seconds_of_allocation(args, calibration)
        seconds["all"] += seconds["allocation"]
    return {"model": args.checkpoint, **planned}


def _compressed(args: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cluster import connected
    from lplr.models.checkpoint import open_checkpoint
    from lplr.models.compress_model import compress
    from lplr.models.job import progress_of
    from lplr.progress import tracked, until

    start = time.perf_counter()
    checkpoint = open_checkpoint(args.checkpoint)
    calibration = _calibration(args, checkpoint)
    with (
        connected(args.scheduler) as client,
        Progress(1.0) as line,
        watch_compilation(line),
    ):
        if before := progress_of(args.out):
            line.say(f"going on: {_layers(before)} in {args.out}.job")
        try:
            with tracked(line.tell, "reading"):
                compared = {}
                if is_verified(args):
                    with until(_share(args, calibration, given)):
                        bits, found = allocated(args, checkpoint, calibration)
                    given, compared = given | {"bits_per_weight": bits}, {"allocation": found}
                manifest = compress(
                    checkpoint, args.out, calibration=calibration, client=client, **given
                )
        except BaseException as error:
            refused = isinstance(error, InputError)  # the same command would be, too
            kept = _kept(args.out) or compared_in(args)
            if kept and not refused:
                line.say(f"stopped; {kept}; the same command goes on from there")
            raise
    return {
        "model": args.checkpoint,
        "output": args.out,
        **{key: manifest[key] for key in ("settings", "totals", "layers", "embedding")},
        **compared,
        "file_nbytes": sum(file["nbytes"] for file in manifest["files"].values()),
        "seconds": time.perf_counter() - start,
    }


def _kept(out: str) -> str:
    """Words for what an unfinished model has left; none if it has left nothing."""
    from lplr.models.job import progress_of
    from lplr.storage.workplace import folder_of

    if done := progress_of(out):
        return f"{_layers(done)} done and kept in {out}.job"
    return f"what is done is kept in {out}.job" if folder_of(out).is_dir() else ""


def _layers(count: int) -> str:
    return "1 layer is" if count == 1 else f"{count} layers are"


def _share(args: argparse.Namespace, calibration: Any, given: dict[str, Any]) -> float:
    """Of the comparison of allocations in the time; what is wrong with the rest is found here."""
    from lplr.models.compress_model import plan
    from lplr.storage.output import new_path

    new_path(args.out)
    planned = plan(args.checkpoint, calibration=calibration, **given)
    first = seconds_of_allocation(args, calibration)
    return first / (first + sum(planned.seconds.values()))


def _calibration(args: argparse.Namespace, checkpoint: Checkpoint) -> np.ndarray | None:
    ids = tokens_of(args, checkpoint)
    if args.method == "quantize":
        if ids is not None:
            raise InputError("--tokens, --texts: --method quantize takes none; leave them out")
    elif ids is None:
        raise InputError("--tokens: is missing; give it, or --texts; 100,000 tokens serve most")
    return ids
