"""``lplr compress``: a matrix, or all matrices of a file, to a packed file."""

from __future__ import annotations

import argparse
import inspect
import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

from lplr.cli.compress_call import Call, call_of
from lplr.cli.folder import check_folder
from lplr.cli.hessians import OF, TITLES, errors_of, read_hessians
from lplr.cli.options import (
    INPUTS,
    add_command,
    add_json,
    add_output,
    add_scheduler,
    add_seed,
    bits,
    check_output,
    print_json,
    refuse_model,
)
from lplr.exceptions import BudgetWarning, InputError

__all__ = ["add_parser", "run"]

# What the package offers. To say so, --help must not load it; a test compares.
CHOICES = {
    "effort": ("fast", "default", "best"),
    "method": ("feedback", "lplr", "lplr-svd", "direct-svd", "naive"),
    "sketch": ("gaussian", "rademacher", "srht", "sparse-sign"),
    "mode": ("default", "faithful"),
}
QUANTIZERS = ("uniform", "normal-float", "lloyd-max", "e8p", "trellis")
TRELLIS_STATE_BITS = range(6, 15)
_EXAMPLE = """\
lplr compress weights.npy -o weights.h5 --bits-per-entry 2
lplr compress model.safetensors -o model.h5 --bits-per-entry 2 --hessians second-moments.npz
lplr compress base.fvecs -o base.h5 --bits-per-entry 1
lplr compress base.fvecs -o base.parts --parts --bits-per-entry 1 --memory-limit 1GB
lplr compress images.npz:train -o train.h5 --rank 90 --bits 8,8 --method lplr
lplr compress layer.npy -o layer.h5 --hessian inputs.npy --rank 64 --q-bits 2"""
_DESCRIPTION = (
    "With --bits-per-entry alone, the command finds out what loses least in that many bits: "
    "low-rank factors L R, a quantized matrix Q, or both. With --hessian it minimizes the error "
    "of the layer's outputs, with --output-hessian as well what a loss feels of it. The other "
    "options ask for one of these by rank and widths. "
    "Of a FILE with several arrays, all matrices of floating-point numbers are compressed, to one "
    "budget that is divided so that they lose least; other arrays are kept as they are. What is "
    "done is kept in OUT.h5.job until the end: after an interruption the same command goes on. "
    "The exit code is 3 if some of the matrices cannot be compressed."
)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "compress",
        "compress a matrix to a packed file",
        _EXAMPLE,
        _DESCRIPTION,
    )
    parser.add_argument(
        "input", metavar="INPUT", help=f"{INPUTS}; or a FILE with several arrays, for all of them"
    )
    add_output(parser, "OUT.h5")
    add_seed(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say how large the file would be, and of several matrices their budgets and the time; "
        "write nothing",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="memory to take at most, such as 2GB: rows are read in blocks, twice (default: a "
        "quarter of what is free, for what is larger)",
    )
    parser.add_argument(
        "--parts",
        action="store_true",
        help="make OUT a folder of parts, each of which is written when it is done, for a result "
        "that does not fit in memory; after an interruption the same command goes on",
    )
    add_scheduler(parser)
    add_json(parser)
    budget = parser.add_argument_group("a budget")
    budget.add_argument(
        "--bits-per-entry",
        type=float,
        metavar="B",
        help="largest number of stored bits, divided by rows x columns; scales count too",
    )
    budget.add_argument(
        "--effort",
        choices=CHOICES["effort"],
        help="how much time to spend on a smaller error (default: default)",
    )
    budget.add_argument(
        "--hessian",
        metavar="FILE",
        help="second moment H of the layer's inputs, the diagonal of H, or the inputs themselves, "
        "one in each row; a file as INPUT",
    )
    budget.add_argument(
        "--hessians",
        metavar="FILE",
        help="a .npz, HDF5 or .safetensors file of such Hessians, by the names of the matrices, "
        "with or without .weight at their end; not all matrices need one",
    )
    budget.add_argument(
        "--output-hessian",
        metavar="FILE",
        help="second moment G of the gradients of a loss by the layer's outputs, the diagonal of "
        "G, or the gradients themselves, one in each row; a file as INPUT",
    )
    budget.add_argument(
        "--output-hessians",
        metavar="FILE",
        help="a file of many of these, as --hessians, or what lplr model calibrate --output wrote",
    )
    factors = parser.add_argument_group("L R (LPLR)", "Low-rank factors alone.")
    factors.add_argument("--rank", type=int, metavar="K", help="number of columns of L")
    factors.add_argument(
        "--bits",
        type=_one_or_two(bits),
        metavar="B|BL,BR",
        help="bits per entry of L and of R: 1 to 8 or 16, of trellis codes 1 to 6 in quarters "
        "(default with --rank: 4)",
    )
    factors.add_argument(
        "--method",
        choices=CHOICES["method"],
        help="feedback (default), a method of the LPLR paper, or naive: no factors, every entry "
        "of the matrix is rounded to --bits",
    )
    factors.add_argument(
        "--quantizer",
        type=_one_or_two(str),
        metavar="Q|QL,QR",
        help=f"{', '.join(QUANTIZERS)} (of 10 state bits), or trellis-{TRELLIS_STATE_BITS[0]} to "
        f"trellis-{TRELLIS_STATE_BITS[-1]} (default: what suits the method)",
    )
    factors.add_argument(
        "--sketch",
        choices=CHOICES["sketch"],
        help="random matrix of the sketch (default: gaussian)",
    )
    both = parser.add_argument_group(
        "Q + L R (CALDERA)",
        "A quantized matrix Q and low-rank factors. These options go with --hessian, "
        "--output-hessian, --rank (here 64 by default) and --quantizer (of Q).",
    )
    both.add_argument("--q-bits", type=bits, metavar="B", help="bits per entry of Q (default: 2)")
    both.add_argument(
        "--factor-bits",
        type=_one_or_two(bits),
        metavar="B|BL,BR",
        help="bits per entry of L and of R (default: 4)",
    )
    both.add_argument(
        "--mode",
        choices=CHOICES["mode"],
        help="faithful: the alternating algorithm of the CALDERA paper",
    )
    both.add_argument(
        "--n-iter", type=int, metavar="N", help="rounds (default: 3, with --mode faithful 15)"
    )
    both.add_argument(
        "--damping",
        type=float,
        metavar="S",
        help="S times the mean diagonal of H, and of G, is added to its diagonal (default: 0.01)",
    )
    parser.set_defaults(run=run)


def _one_or_two(kind: Callable[[str], Any]) -> Any:
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
    refuse_model(args.input, "compress")
    call = call_of(args)
    if args.parts:
        check_folder(args.output, args.overwrite)
        if call.function == "caldera":
            raise InputError(
                "--parts: goes with --bits-per-entry, --rank and --method, whose rows are coded "
                "one by one; leave it out"
            )
    else:
        weights = (getattr(args, name) for pair in OF.items() for name in pair)
        check_output(args.output, (".h5", ".hdf5"), args.overwrite, args.input, *weights)

    from lplr.cli.compress_all import run_all
    from lplr.cluster import connected
    from lplr.inputs import members, split_input

    path, member = split_input(args.input)
    names = [member] if member else members(path)
    of_one = args.parts or args.hessian or args.output_hessian or args.memory_limit
    if len(names) > 1 and (call.function != "compress" or of_one):
        raise InputError(
            f"{path}: has {len(names)} arrays, and a file of several takes --bits-per-entry, "
            "--effort, --scheduler, --hessians and --output-hessians alone; name one, "
            f"{path}:NAME, of: " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        )
    with connected(args.scheduler) as client:
        if client is not None:
            call.arguments["client"] = client
        return _run_one(args, call) if len(names) == 1 else run_all(args, call, path)


def _run_one(args: argparse.Namespace, call: Call) -> int:
    """Compress one matrix."""
    from lplr.cli.compress_report import print_report
    from lplr.inputs import open_input
    from lplr.sources import open_source
    from lplr.streaming.limits import streamed_source
    from lplr.validation.arguments import check_budget
    from lplr.validation.matrices import bits_of, check_matrix

    source = open_input(args.input)
    original = open_source(source.array, args.input)
    how = call.arguments.get("memory_limit"), call.arguments.get("client")
    streams = args.parts or (
        call.function != "caldera" and streamed_source(original, *how) is not None
    )
    A = original if streams else check_matrix(original, args.input)
    if "bits_per_entry" in call.arguments and bits_of(A) < math.inf:
        check_budget(call.arguments["bits_per_entry"], source.bits)
        warnings.simplefilter("ignore", BudgetWarning)  # of A, which may be wider
    hessians = read_hessians(args)
    report: dict[str, Any] = {
        "input": {
            "file": source.path,
            "member": source.member,
            "note": source.note,
            "shape": list(A.shape),
            "dtype": source.array.dtype.name,
            "nbytes": source.nbytes,
            **{one: getattr(args, one) or getattr(args, many) for one, many in OF.items()},
        }
    }
    if args.dry_run:
        report["choices"] = _possible_sizes(call, A, hessians)
    else:
        report |= _compress(call, A, hessians, original, args)
    if args.json:
        print_json(report)
    else:
        print_report(report)
    return 0


def _possible_sizes(call: Call, A: Any, hessians: dict[str, Any]) -> list[dict[str, Any]]:
    """What the data decide among, with its size; for `lplr.compress` with its predicted error."""
    import lplr
    from lplr.algorithms.caldera import caldera_sizes
    from lplr.algorithms.factorize import factorize_sizes
    from lplr.algorithms.quantize import quantize_sizes

    if call.function == "compress":
        return lplr.predictions(A, **hessians, **call.arguments)
    functions: dict[str, Callable[..., Any]] = {
        "factorize": factorize_sizes,
        "caldera": caldera_sizes,
        "quantize": quantize_sizes,
    }
    sizes = functions[call.function]
    decisive = inspect.signature(sizes).parameters
    given = call.arguments | hessians
    return sizes(A.shape, **{name: x for name, x in given.items() if name in decisive})


def _compress(
    call: Call,
    A: Any,
    hessians: dict[str, Any],
    original: Any,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Compress, measure and write; the report of it."""
    import lplr
    from lplr.algorithms.in_parts import Output
    from lplr.cli.compress_report import search_of
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.progress import tracked, until

    errors: dict[str, float] = {}

    def measured(f: Any) -> dict[str, float]:
        with until(0.95, "measuring the error"):
            errors.update(errors_of(f, original, **hessians))
        return errors

    options = call.arguments | hessians
    if args.parts:  # whose folder has its name when all is done
        replaces = os.path.lexists(args.output)
        options["out"] = Output(args.output, replaces, measured)
    with (
        Progress(1.0) as progress,
        watch_compilation(progress),
        tracked(progress.tell, "compressing"),
    ):
        start = time.perf_counter()
        with until(0.9, f"compressing {A.shape[0]} x {A.shape[1]} by lplr.{call.function}"):
            f = getattr(lplr, call.function)(A, **options)
        seconds = time.perf_counter() - start
        if not args.parts:
            attrs = measured(f)
            with until(1.0, "writing and verifying the file"):
                lplr.save(args.output, f, args.overwrite, attrs=attrs)
    return {
        "output": args.output,
        "file_nbytes": lplr.inspect(args.output)["file_nbytes"],
        "stored_nbytes": f.nbytes,
        "bits_per_entry": f.bits_per_entry,
        **{kind: errors.get(kind) for kind in TITLES},
        "rank": f.rank,
        "codes": {name: part.code for name, part in f.parts().items()},
        "search": search_of(f.meta),
        "seconds": seconds,
    }
