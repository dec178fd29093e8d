"""``lplr compress --bits-per-entry``: the search for the best use of a budget, and its record."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from lplr.exceptions import InputError

__all__ = ["add_option", "as_table", "asked", "check_options", "compress", "considered", "plans"]

_NAMED = (
    *("method", "rank", "bits", "quantizer", "sketch"),
    *("q_bits", "factor_bits", "mode", "n_iter", "damping"),
)
_EFFORTS = ("fast", "default", "best")
_KINDS = {
    "low-rank": "L R",
    "backbone": "Q",
    "backbone + low-rank": "Q + L R",
    "rounding": "rounding",
    "constant": "one value",
}


def add_option(parser: Any) -> None:
    """Describe ``--effort``."""
    parser.add_argument(
        "--effort",
        choices=_EFFORTS,
        help="how long to search for the best use of --bits-per-entry (default: default)",
    )


def asked(args: argparse.Namespace) -> bool:
    """Whether the budget alone decides: no method, rank, width or quantizer is named."""
    return args.bits_per_entry is not None and all(getattr(args, name) is None for name in _NAMED)


def check_options(args: argparse.Namespace) -> None:
    """Refuse ``--effort`` where nothing is searched for.

    Raises
    ------
    InputError
    """
    if args.effort is not None and not asked(args):
        raise InputError(
            "--effort goes with --bits-per-entry alone, without --method, --rank or widths"
        )


def compress(args: argparse.Namespace, A: Any, hessian: Any) -> Any:
    """Run `lplr.compress`."""
    import lplr

    return lplr.compress(
        A,
        bits_per_entry=args.bits_per_entry,
        hessian=hessian,
        rng=args.seed,
        effort=args.effort or "default",
    )


def plans(args: argparse.Namespace, A: Any, hessian: Any) -> list[dict[str, Any]]:
    """What would compete, with predicted errors and sizes, best first."""
    from lplr.algorithms.compress import predictions

    return predictions(
        A,
        bits_per_entry=args.bits_per_entry,
        hessian=hessian,
        rng=args.seed,
        effort=args.effort or "default",
    )


def considered(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The choices that a result records, its own first; none of other methods' results."""
    return [meta["plan"], *meta["others"]] if "plan" in meta else []


def as_table(choices: list[dict[str, Any]]) -> str:
    """How the bits were spent, or could have been: the first of the choices is the one made."""
    from lplr.cli.tables import table

    rows = [
        [
            "*" if i == 0 else "",
            _KINDS[choice["kind"]],
            f"{choice['predicted']:.5f}",
            f"{choice['error']:.5f}" if "error" in choice else "-",
            _spent(choice),
        ]
        for i, choice in enumerate(choices)
    ]
    return table(("", "kind", "predicted", "measured", "how the bits are spent"), rows, left=5)


def _spent(choice: Mapping[str, Any]) -> str:
    """Ranks, widths and quantizers in a line."""
    said = []
    if "backbone" in choice:
        said.append("Q " + _runs((g["columns"], _number(g["bits"])) for g in choice["backbone"]))
    if "factors" in choice:
        runs = ((b["components"], "+".join(map(_number, b["bits"]))) for b in choice["factors"])
        said.append(f"rank {choice['rank']}: " + _runs(runs))
    if "granularity" in choice:
        scales = choice["granularity"]
        scales = "one scale" if scales == "tensor" else f"a scale for each {scales}"
        said.append(f"{choice['quantizer']} {choice['bits']} bits, {scales}")
    return "; ".join(said)


def _runs(runs: Any) -> str:
    """``121 x 4, 263 x 3 bits``."""
    return ", ".join(f"{count} x {bits}" for count, bits in runs) + " bits"


def _number(bits: float) -> str:
    return f"{bits:g}"
