"""``lplr compress``: a matrix from a file to a packed file."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli import caldera, spend
from lplr.cli.options import (
    INPUTS,
    add_command,
    add_json,
    add_output,
    add_seed,
    check_output,
    print_json,
)
from lplr.exceptions import InputError

__all__ = ["add_parser", "run"]

_METHODS = ("feedback", "lplr", "lplr-svd", "direct-svd", "naive")
_EXAMPLE = """\
lplr compress weights.npy -o weights.h5 --bits-per-entry 2
lplr compress images.npz:train -o train.h5 --rank 90 --bits 8,8 --method lplr
lplr compress layer.npy -o layer.h5 --hessian inputs.npy --rank 64 --q-bits 2"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "compress",
        "compress a matrix to a packed file",
        _EXAMPLE,
        "Give the budget alone, --bits-per-entry, and whatever loses least is chosen: low-rank "
        "factors, a quantized backbone, or both; under --hessian too. Or name a method, or rank "
        "and widths.",
    )
    parser.add_argument("input", metavar="INPUT", help=INPUTS)
    add_output(parser, "OUT.h5")
    size = parser.add_argument_group("size")
    size.add_argument(
        "--bits-per-entry", type=float, metavar="B", help="stored bits over rows x columns"
    )
    size.add_argument("--rank", type=int, metavar="K", help="columns of L")
    size.add_argument(
        "--bits",
        type=_one_or_two(int),
        metavar="B|BL,BR",
        help="bits of an entry of L and of R (default with --rank: 4)",
    )
    how = parser.add_argument_group("method")
    how.add_argument(
        "--method",
        choices=_METHODS,
        help="feedback (default with --rank), the methods of the LPLR paper, or naive: the matrix "
        "rounded as it is, to --bits",
    )
    how.add_argument(
        "--quantizer",
        type=_one_or_two(str),
        metavar="Q|QL,QR",
        help="uniform, lloyd-max, normal-float or e8p; by default what suits the method",
    )
    how.add_argument(
        "--sketch",
        choices=("gaussian", "rademacher", "srht", "sparse-sign"),
        help="random matrix of the sketch (default: gaussian)",
    )
    spend.add_option(how)
    caldera.add_options(parser, _one_or_two(int))
    add_seed(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="say how large the file would be; write nothing"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def _one_or_two(kind: type) -> Any:
    """A parser of ``A`` or ``A,B``."""

    def parse(text: str) -> Any:
        parts = [kind(part) for part in text.split(",")]
        if len(parts) > 2:
            raise ValueError
        return parts[0] if len(parts) == 1 else tuple(parts)

    parse.__name__ = f"{kind.__name__} or pair"
    return parse


def run(args: argparse.Namespace) -> int:
    """Do it."""
    spend.check_options(args)
    searched = spend.asked(args)
    backbone = not searched and caldera.asked(args)
    if backbone:
        caldera.check_options(args)
    elif not searched:
        args.method = args.method or "feedback"
        _check_size(args)
    check_output(args.output, (".h5", ".hdf5"), args.overwrite, args.input)

    from lplr.inputs import read_input
    from lplr.validation import check_matrix

    source = read_input(args.input)
    A = check_matrix(source.array, args.input)
    report: dict[str, Any] = {
        "input": {
            "file": source.path,
            "member": source.member,
            "note": source.note,
            "shape": list(A.shape),
            "dtype": source.array.dtype.name,
            "nbytes": int(source.array.nbytes),
        }
    }
    if args.dry_run:
        if searched:
            report["choices"] = spend.plans(args, A, _hessian(args))
        else:
            report["choices"] = [caldera.size(args, A.shape)] if backbone else _sizes(args, A.shape)
    else:
        report |= _compress(args, A, source.array)
    if args.json:
        print_json(report)
    else:
        _print(report)
    return 0


def _check_size(args: argparse.Namespace) -> None:
    if args.method == "naive":
        if args.rank is not None or args.bits_per_entry is not None:
            raise InputError("--method naive takes --bits alone, no --rank and no --bits-per-entry")
        if not isinstance(args.bits, int):
            raise InputError("--method naive needs --bits B, one integer: 1 to 8, or 16")
        if isinstance(args.quantizer, tuple):
            raise InputError("--method naive takes one --quantizer, not two")
    elif (args.rank is None) == (args.bits_per_entry is None):
        raise InputError("give either --bits-per-entry B, for instance 2, or --rank K")


def _hessian(args: argparse.Namespace) -> Any:
    """What ``--hessian`` names, or None."""
    from lplr.inputs import read_input

    if not args.hessian:
        return None
    hessian = read_input(args.hessian).array
    return hessian.reshape(-1) if hessian.ndim == 2 and 1 in hessian.shape else hessian


def _compress(args: argparse.Namespace, A: Any, original: Any) -> dict[str, Any]:
    import time
    from pathlib import Path

    import lplr
    from lplr.cli.progress import Progress, watch_compilation

    hessian = _hessian(args)
    with Progress() as progress, watch_compilation(progress):
        start = time.perf_counter()
        if spend.asked(args):
            how = f"{args.bits_per_entry:g} bits an entry, {args.effort or 'default'} effort"
        else:
            how = args.method or f"CALDERA, {args.mode or 'default'} mode"
        with progress.step(f"compressing {A.shape[0]} x {A.shape[1]}, {how}"):
            f: Any
            if spend.asked(args):
                f = spend.compress(args, A, hessian)
            elif args.method is None:
                f = caldera.decompose(args, A, hessian, progress.say)
            elif args.method == "naive":
                f = lplr.quantize(
                    A, bits=args.bits, quantizer=args.quantizer or "uniform", rng=args.seed
                )
            else:
                f = lplr.factorize(
                    A,
                    rank=args.rank,
                    bits=args.bits,
                    bits_per_entry=args.bits_per_entry,
                    method=args.method,
                    sketch=args.sketch or "gaussian",
                    quantizer=args.quantizer,
                    rng=args.seed,
                )
        seconds = time.perf_counter() - start
        with progress.step("measuring the error"):
            error = f.relative_error(original)
            weighted = caldera.error_under(f, original, hessian)
        with progress.step("writing and verifying the file"):
            errors = {"relative_error": error, "relative_error_under_hessian": weighted}
            attrs = {name: value for name, value in errors.items() if value is not None}
            lplr.save(args.output, f, args.overwrite, attrs=attrs)
    return {
        "output": args.output,
        "file_nbytes": Path(args.output).stat().st_size,
        "stored_nbytes": f.nbytes,
        "bits_per_entry": f.bits_per_entry,
        **errors,
        "rank": getattr(f, "rank", None),
        "codes": {name: _codes(part) for name, part in _parts(f).items()},
        "search": spend.considered(f.meta),
        "seconds": seconds,
    }


def _parts(f: Any) -> dict[str, Any]:
    """The quantized parts of a result, by the name of what they are."""
    import lplr

    if isinstance(f, lplr.QPlusLowRank):
        return {"Q": f.backbone, **({} if f.low_rank is None else _parts(f.low_rank))}
    return {"L": f.left, "R": f.right} if isinstance(f, lplr.LowRank) else {"matrix": f}


def _codes(part: Any) -> dict[str, Any]:
    """The quantizer and bits of a part; of a stack those of its parts, and how long they are."""
    if not hasattr(part, "blocks"):
        return {"quantizer": part.quantizer, "bits": part.bits}
    return {"parts": [_codes(p) | {"size": p.shape[part.axis]} for p in part.blocks]}


def _sizes(args: argparse.Namespace, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Every rank and pair of codebooks that the options leave open, with its size."""
    from lplr.algorithms.factorize import factorize_sizes
    from lplr.planning.sizes import rounding_nbytes
    from lplr.quantizers import get_codebook

    if args.method == "naive":
        nbytes = rounding_nbytes(
            shape, get_codebook(args.quantizer or "uniform", args.bits), "tensor"
        )
        bits = 8 * nbytes / (shape[0] * shape[1])
        return [{"bits": [args.bits], "nbytes": nbytes, "bits_per_entry": bits}]
    return factorize_sizes(
        shape,
        rank=args.rank,
        bits=args.bits,
        bits_per_entry=args.bits_per_entry,
        method=args.method,
        quantizer=args.quantizer,
    )


def _size_of(choices: list[dict[str, Any]]) -> str:
    """The sizes that a dry run found, in a line."""
    nbytes = sorted(c["nbytes"] for c in choices)
    bits = sorted(c["bits_per_entry"] for c in choices)
    if len(choices) == 1:
        return f"at most {nbytes[0]} bytes before its header, {bits[0]:.4f} bits an entry"
    ranks = sorted(c["rank"] for c in choices)
    return (
        f"{nbytes[0]} to {nbytes[-1]} bytes before its header, {bits[0]:.4f} to {bits[-1]:.4f} "
        f"bits an entry; the data decide among {len(choices)} pairs of codes of rank {ranks[0]} "
        f"to {ranks[-1]} (--json lists them)"
    )


def _print(report: dict[str, Any]) -> None:
    from lplr.cli.tables import columns, in_bytes, in_seconds

    source = report["input"]
    name = source["file"] + (f":{source['member']}" if source["member"] else "")
    shape = f"{source['shape'][0]} x {source['shape'][1]} {source['dtype']}"
    note = f" ({source['note']})" if source["note"] else ""
    head = [("input", f"{name}, {shape}, {in_bytes(source['nbytes'])}{note}")]
    if "choices" in report:
        searched = "kind" in report["choices"][0]
        size = _size_of(report["choices"][:1] if searched else report["choices"])
        print(columns([*head, ("file", size)]))
        if searched:
            print("\n" + spend.as_table(report["choices"]))
        return
    codes = "; ".join(f"{part} {_in_words(code)}" for part, code in report["codes"].items())
    under = report["relative_error_under_hessian"]
    weighted = [] if under is None else [("", f"{under:.6f} (under the given Hessian, undamped)")]
    rank = [] if report["rank"] is None else [("rank", str(report["rank"]))]
    print(
        columns(
            [
                *head,
                ("output", f"{report['output']}, {in_bytes(report['file_nbytes'])}"),
                *rank,
                ("codes", codes),
                (
                    "stored",
                    f"{report['stored_nbytes']} bytes, {report['bits_per_entry']:.4f} bits an "
                    f"entry, 1/{source['nbytes'] / report['file_nbytes']:.1f} of the input",
                ),
                ("error", f"{report['relative_error']:.6f} (relative, Frobenius)"),
                *weighted,
                ("time", in_seconds(report["seconds"])),
            ]
        )
    )
    if report["search"]:
        print("\n" + spend.as_table(report["search"]))


def _in_words(code: dict[str, Any]) -> str:
    parts = code.get("parts", [code])
    names, bits = sorted({p["quantizer"] for p in parts}), [p["bits"] for p in parts]
    width = f"{bits[0]}" if len(parts) == 1 else f"{min(bits)} to {max(bits)}"
    return f"{' and '.join(names)} {width} bits"
