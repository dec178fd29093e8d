"""``lplr model compress --allocation verified``: bits moved between layers where that pays."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lplr.exceptions import InputError

if TYPE_CHECKING:
    import numpy as np

    from lplr.models.checkpoint import Checkpoint

__all__ = [
    "add_allocation",
    "allocated",
    "compared_in",
    "is_verified",
    "seconds_of_allocation",
    "table_of",
]


def add_allocation(group: Any) -> None:
    """The options ``--allocation`` and ``--held-out``."""
    group.add_argument(
        "--allocation",
        choices=("equal", "verified"),
        default="equal",
        help="equal (default): the same bits for all layers; verified: more for layers that matter "
        "more, if predictions of other sequences get better by it (what was compared is kept in "
        "OUT.allocation.json)",
    )
    group.add_argument(
        "--held-out",
        metavar="FILE.npy",
        help="tokens on which --allocation verified compares, best another kind of text than that "
        "of --tokens (default: some of the calibration sequences)",
    )


def is_verified(args: argparse.Namespace) -> bool:
    """Whether bits may be moved."""
    if args.allocation == "verified":
        if args.method != "compress":
            raise InputError("--allocation: verified is for --method compress alone; leave it out")
        if args.bits_per_weight is None:
            raise InputError("--bits-per-weight: is missing; --allocation verified divides it")
    elif args.held_out is not None:
        raise InputError("--held-out: is for --allocation verified alone; leave it out")
    return args.allocation == "verified"


def seconds_of_allocation(args: argparse.Namespace, calibration: Any) -> float:
    """About how long the comparison takes."""
    from lplr.models.allocation import allocation_seconds

    given = _given(args)
    del given["rng"]
    return allocation_seconds(args.checkpoint, calibration=calibration, **given)


def allocated(
    args: argparse.Namespace, checkpoint: Checkpoint, calibration: np.ndarray | None
) -> tuple[Any, dict[str, Any]]:
    """Bits per weight to compress with, and what was compared."""
    from lplr.models.allocation import allocate

    out = _file(args)
    found = allocate(checkpoint, out, calibration=calibration, **_given(args))
    return found.bits_per_weight, {"file": out, **found.describe()}


def compared_in(args: argparse.Namespace) -> str:
    """Words for what an unfinished comparison has left; none if it has left nothing."""
    from lplr.storage.workplace import folder_of

    folder = folder_of(_file(args))
    return f"networks that are compared are kept in {folder}" if folder.is_dir() else ""


def table_of(report: dict[str, Any]) -> str:
    """What was compared, a candidate a line."""
    from lplr.models.evaluation.estimate import Estimate

    lines = []
    for each in report["candidates"]:
        kl = Estimate(each["kl"], each["kl_standard_error"])
        change = Estimate(each["change"], each["change_standard_error"])
        against = f", {change} against equal bits" if each["change"] else ""
        chosen = ", chosen" if each["name"] == report["chosen"] else ""
        lines.append(f"{each['name']}: KL {kl}{against}{chosen}")
    return "\n".join(lines)


def _file(args: argparse.Namespace) -> str:
    return f"{args.out}.allocation.json"


def _given(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "bits_per_weight": args.bits_per_weight,
        "held_out": args.held_out,
        "prefix": args.prefix,
        "output_moments": bool(args.output_moments),  # formed anew, of fewer tokens
        "rng": args.seed,
        "jobs": args.jobs,
    }
