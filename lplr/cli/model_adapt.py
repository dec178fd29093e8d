"""``lplr model adapt``: a compressed network, trained to predict like the original again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from lplr.cli.model_tokens import add_tokens, tokens_of
from lplr.cli.options import add_command, add_jobs, add_json, add_seed, print_json
from lplr.exceptions import CorruptFileError, InputError

__all__ = ["add_parser", "run"]

_EXAMPLE = """\
lplr model adapt small SmolLM2-135M -o adapted --texts texts/*.txt
lplr model adapt small SmolLM2-135M -o adapted --tokens tokens.npy --preset quick
lplr model adapt small SmolLM2-135M -o task --tokens task.npy --loss cross-entropy \
--train factors --existing"""

_DESCRIPTION = (
    "Beside the codes of each layer, which stay, a low-rank correction is trained, and with it a "
    "scale of each layer, norms and biases, until the predictions are as near to the original's as "
    "they get; then the correction is stored in few bits. An interrupted run goes on where it was "
    "when the command is repeated: what is done is kept in OUT.job."
)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    from lplr.models.adaptation.presets import GROUPS, LOSSES, PRESETS

    parser = add_command(
        subparsers,
        common,
        "adapt",
        "train corrections of a compressed network",
        _EXAMPLE,
        _DESCRIPTION,
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that lplr model compress made")
    parser.add_argument(
        "original",
        metavar="ORIGINAL",
        help="what it was made from: a folder in the form of Hugging Face, or a .gguf file",
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="folder to make")
    correction = parser.add_mutually_exclusive_group()
    correction.add_argument(
        "--rank",
        type=int,
        default=16,
        metavar="K",
        help="columns of the correction (default: 16); with --output-moments their mean, layers "
        "that are felt more then get more",
    )
    correction.add_argument(
        "--existing",
        dest="rank",
        action="store_const",
        const=None,
        help="train the low-rank factors that the layers have, and add none",
    )
    parser.add_argument(
        "--bits", type=int, default=4, metavar="B", help="bits of its entries (default: 4)"
    )
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default="default", help=_presets(PRESETS)
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of training")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences in a step")
    parser.add_argument("--rate", type=float, metavar="R", help="largest learning rate")
    parser.add_argument(
        "--loss",
        choices=LOSSES,
        default="kl",
        help="kl (default): divergence from the original's predictions; cross-entropy: loss of the "
        "next tokens, to adapt to a task",
    )
    parser.add_argument(
        "--train",
        nargs="+",
        choices=GROUPS,
        default=GROUPS,
        metavar="WHAT",
        help=f"what is trained: some of {', '.join(GROUPS)} (default: all)",
    )
    parser.add_argument(
        "--output-moments",
        metavar="FILE",
        help="what lplr model calibrate --output wrote of ORIGINAL: errors count as the "
        "predictions feel them, where corrections start, how large they are and where they are "
        "stored",
    )
    add_seed(parser)
    add_jobs(parser)
    add_json(parser)
    add_tokens(parser, "training").add_argument(
        "--held-out",
        metavar="FILE.npy",
        help="token ids to judge by (default: one of eight sequences, but no more than two "
        "batches, or four, which then are not trained on)",
    )
    parser.set_defaults(run=run)


def _presets(presets: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{name}: {p['steps']} steps of {p['batch']} sequences, rate {p['rate']:g}"
        for name, p in presets.items()
    )


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.model_adapt_report import print_summary
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.models.adaptation.adapt_model import adapt
    from lplr.models.opening import open_tensors
    from lplr.storage.workplace import folder_of

    start = time.perf_counter()
    tokens = tokens_of(args, open_tensors(args.model))
    if tokens is None:
        raise InputError("--tokens: is missing; give it, or --texts; 200,000 tokens serve most")
    with Progress(1.0) as line, watch_compilation(line):
        try:
            manifest = adapt(
                args.model,
                args.original,
                tokens,
                args.out,
                rank=args.rank,
                bits=args.bits,
                preset=args.preset,
                steps=args.steps,
                batch=args.batch,
                rate=args.rate,
                loss=args.loss,
                trained=args.train,
                held_out=args.held_out,
                output_moments=args.output_moments,
                rng=args.seed,
                jobs=args.jobs,
                progress=line.tell,
            )
        except BaseException as error:
            refused = isinstance(
                error, (InputError, CorruptFileError)
            )  # the same command would be, too
            if not refused and folder_of(args.out).is_dir():
                line.say(
                    f"stopped; what is done is kept in {args.out}.job, and the same command goes "
                    "on from there"
                )
            raise
    report = {
        "model": args.model,
        "original": args.original,
        "output": args.out,
        **{key: manifest[key] for key in ("settings", "totals", "layers")},
        "file_nbytes": sum(file["nbytes"] for file in manifest["files"].values()),
        "seconds": time.perf_counter() - start,
    }
    if args.json:
        print_json(report)
    else:
        print_summary(report)
    return 0
