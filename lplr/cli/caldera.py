"""``lplr compress`` with a backbone: the options and the work of CALDERA."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.exceptions import InputError

__all__ = ["add_options", "asked", "check_options", "decompose", "error_under", "size"]

_OPTIONS = ("hessian", "q_bits", "factor_bits", "mode", "n_iter", "damping")


def add_options(parser: Any, pair: Any) -> None:
    """Describe the options; ``pair`` parses one integer or two."""
    group = parser.add_argument_group(
        "Q + L R (CALDERA)", "Any of these asks for a quantized backbone Q beside L R."
    )
    group.add_argument(
        "--hessian",
        metavar="H.npy|X.npy",
        help="second moment H of the layer's inputs, its diagonal, or the inputs X, one a row",
    )
    group.add_argument("--q-bits", type=int, metavar="B", help="bits of an entry of Q (default: 2)")
    group.add_argument(
        "--factor-bits", type=pair, metavar="B|BL,BR", help="bits of L and of R (default: 4)"
    )
    group.add_argument(
        "--mode", choices=("default", "faithful"), help="faithful: the alternation of the paper"
    )
    group.add_argument("--n-iter", type=int, metavar="N", help="rounds of refitting")
    group.add_argument(
        "--damping", type=float, metavar="S", help="share of H's mean diagonal (default: 0.01)"
    )


def asked(args: argparse.Namespace) -> bool:
    """Whether the options ask for a backbone."""
    return any(getattr(args, name) is not None for name in _OPTIONS)


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that belong to the methods without a backbone.

    Raises
    ------
    InputError
    """
    if args.method is not None or args.bits is not None or args.bits_per_entry is not None:
        raise InputError(
            "--q-bits, --factor-bits and --mode go with --rank and --quantizer, --hessian with "
            "these or with --bits-per-entry alone; none goes with --method or --bits"
        )
    if isinstance(args.quantizer, tuple):
        raise InputError("--quantizer: Q takes one, not two")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        "rank": args.rank,
        "q_bits": args.q_bits,
        "factor_bits": args.factor_bits,
        "mode": args.mode,
        "n_iter": args.n_iter,
        "damping": args.damping,
        "quantizer": args.quantizer,
    }
    return {name: value for name, value in given.items() if value is not None}


def decompose(args: argparse.Namespace, A: Any, hessian: Any, report: Any) -> Any:
    """Run `lplr.caldera`; ``report`` is called with a line after each half step."""
    import lplr

    def tell(step: dict[str, Any]) -> None:
        report(f"round {step['iteration']}, {step['step']}: error {step['error']:.5f}")

    return lplr.caldera(A, hessian=hessian, rng=args.seed, callback=tell, **_settings(args))


def error_under(f: Any, A: Any, hessian: Any) -> float | None:
    """The error under the raw Hessian, or None without one."""
    return None if hessian is None else f.relative_error(A, hessian)


def size(args: argparse.Namespace, shape: tuple[int, int]) -> dict[str, Any]:
    """What would be stored, to the byte."""
    from lplr.algorithms.caldera import caldera_sizes

    given = _settings(args)
    names = ("rank", "q_bits", "factor_bits", "mode", "quantizer")
    return caldera_sizes(shape, **{name: given[name] for name in names if name in given})
