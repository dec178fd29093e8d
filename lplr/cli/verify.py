"""``lplr verify``: digest and structure of a packed file, and its error against the original."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli.options import INPUTS, add_command, add_json, print_json

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "verify",
        "check a packed file, and measure it against the original",
        "lplr verify weights.h5 --against weights.npy",
        "A digest covers every byte, and every component is decoded. The exit code is 2 if "
        "anything is wrong with the file.",
    )
    parser.add_argument("file", metavar="FILE", help="a file that lplr wrote")
    parser.add_argument("--against", metavar="INPUT", help=f"the original: {INPUTS}")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import numpy as np

    import lplr
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import columns
    from lplr.exceptions import CorruptFileError, InputError
    from lplr.storage.container import verify

    digest = verify(args.file)
    f = lplr.load(args.file)
    original, against = None, args.against
    if args.against is not None:
        from lplr.inputs import read_input
        from lplr.validation import check_matrix

        source = read_input(args.against)
        against += f" ({source.note})" if source.note else ""
        dtype = np.float32 if np.can_cast(source.array.dtype, np.float32) else np.float64
        original = check_matrix(source.array, args.against, dtype=dtype)
        if original.shape != f.shape:
            raise InputError(
                f"{args.against}: has shape {original.shape}, {args.file} has {f.shape}; "
                "name the matrix that was compressed"
            )
    report = {
        "file": args.file,
        "sha256": digest,
        "type": type(f).__name__,
        "shape": list(f.shape),
        "bits_per_entry": f.bits_per_entry,
        "against": args.against,
    }
    with Progress() as progress, watch_compilation(progress):
        with progress.step("decoding"):
            dense = f.to_dense()
        if not np.isfinite(dense).all():
            raise CorruptFileError(f"{args.file}: decodes to values that are not finite")
        if original is not None:
            with progress.step("measuring the error"):
                report["relative_error"] = f.relative_error(original)
                report["note"] = source.note
                report["largest_error"] = _largest_difference(dense, original)
    if args.json:
        print_json(report)
        return 0
    lines = [
        ("file", f"{args.file}: digest, structure and decoding are right"),
        ("sha-256", digest),
        ("content", f"{report['type']}, {f.shape[0]} x {f.shape[1]}"),
    ]
    if original is not None:
        lines += [
            ("error", f"{report['relative_error']:.6f} (relative, Frobenius) to {against}"),
            ("largest", f"{report['largest_error']:.6g} (difference of one entry)"),
        ]
    print(columns(lines))
    return 0


def _largest_difference(dense: Any, original: Any) -> float:
    import numpy as np

    return max(
        float(np.abs(dense[i : i + 256] - original[i : i + 256].astype(np.float64)).max())
        for i in range(0, len(dense), 256)
    )
