"""``lplr verify``: digest and structure of a packed file, and its error against the original."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from lplr.cli.folder import verify_folder
from lplr.cli.info import facts, matrix_of
from lplr.cli.options import INPUTS, add_command, add_json, add_name, print_json

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "verify",
        "check a packed file or model, and measure it against the original",
        "lplr verify weights.h5 --against weights.npy\nlplr verify smaller",
        "A digest covers every byte, and every component is decoded. A file of many matrices is "
        "measured against a file that has the originals under the same names; --name takes one of "
        "both. The exit code is 2 if anything is wrong with the file.",
    )
    parser.add_argument(
        "file", metavar="FILE", help="a file or a folder that lplr wrote: of parts, or of a model"
    )
    add_name(parser)
    parser.add_argument("--against", metavar="INPUT", help=f"the original: {INPUTS}")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import numpy as np

    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import shown
    from lplr.exceptions import CorruptFileError
    from lplr.storage.folder import is_folder
    from lplr.storage.stored import read_stored

    if is_folder(args.file):
        report = verify_folder(args)
        if args.json:
            print_json(report)
        else:
            _print(report)
        return 0
    if os.path.isdir(args.file):
        return _verify_model(args)
    stored = read_stored(args.file)
    one = stored.names is None or args.name is not None
    objects = {args.name: stored.decode(args.name)} if one else stored.decode()
    if args.against is not None and not one:
        _check_names(args, objects)
    matrices = []
    steps = 1 if args.against is None else 2
    with Progress(0 if one else steps * len(objects)) as progress, watch_compilation(progress):
        for name, obj in objects.items():
            f = matrix_of(obj)
            about = f" {shown(name)}" if name else ""
            with progress.step(f"decoding{about}", 1.0):
                dense = np.asarray(f)
            # An array that is kept as it is may hold anything.
            if hasattr(f, "to_dense") and not np.isfinite(dense).all():
                raise CorruptFileError(f"{args.file}:{about} decodes to values that are not finite")
            found = {"name": name, **facts(obj)}
            if args.against is not None:
                with progress.step(f"measuring the error{about}", 1.0):
                    source = _original(args, name, f.shape)
                    found |= _errors(f, dense, source)
            matrices.append(found)
    report = {"file": args.file, "sha256": stored.sha256, "against": args.against}
    report |= matrices[0] if one else {"matrices": matrices}
    if args.json:
        print_json(report)
    else:
        _print(report)
    return 0


def _verify_model(args: argparse.Namespace) -> int:
    """Check a folder that ``lplr model compress`` made."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.cli.tables import columns
    from lplr.exceptions import InputError
    from lplr.models.packed import PackedModel
    from lplr.progress import tracked

    if args.against is not None:
        raise InputError("against: is for one file; compare models with lplr model evaluate")
    if args.name is not None:
        raise InputError(f"name: is for a file; name the one of the layer: {args.file}/layers/...")
    model = PackedModel(Path(args.file))
    with Progress(1.0) as progress, watch_compilation(progress), tracked(progress.tell, "reading"):
        model.verify()
    report = {"file": args.file, "files": len(model.manifest["files"]), "tensors": len(model)}
    if args.json:
        print_json(report)
    else:
        said = f"{args.file}: digests, structure and decoding are right"
        count = f"{len(model)} tensors in {report['files']} files, and model.json"
        print(columns([("model", said), ("content", count)]))
    return 0


def _check_names(args: argparse.Namespace, objects: dict[str, Any]) -> None:
    """Refuse originals that lack one of the names."""
    from lplr.cli.tables import shown
    from lplr.exceptions import InputError
    from lplr.inputs import ArrayFile

    missing = objects.keys() - set(ArrayFile(args.against))
    if missing:
        raise InputError(
            f"{args.against}: has no {shown(min(missing))}, which {args.file} has; name the file "
            "that was compressed, or one matrix with --name"
        )


def _original(args: argparse.Namespace, name: str | None, shape: tuple[int, ...]) -> Any:
    """What was compressed: the array that is named, or the one of that name in the file."""
    from lplr.exceptions import InputError
    from lplr.inputs import ArrayFile, read_input, split_input

    path, member = split_input(args.against)
    place, file = args.against, ArrayFile(path)
    if name is None or member or name not in file:
        source = read_input(place)
    else:
        place, source = f"{path}:{name}", file[name]
    if source.array.shape != shape:
        raise InputError(
            f"{place}: has shape {source.array.shape}, {args.file} has {shape}; "
            "name the matrix that was compressed"
        )
    return source


def _errors(f: Any, dense: Any, source: Any) -> dict[str, Any]:
    """How far a matrix is from its original."""
    import numpy as np

    from lplr.validation.matrices import check_matrix

    if not hasattr(f, "to_dense"):  # an array that is kept as it is
        same = np.array_equal(dense, source.array, equal_nan=dense.dtype.kind == "f")
        return {"identical": same, "note": source.note}
    dtype = np.float32 if np.can_cast(source.array.dtype, np.float32) else np.float64
    original = check_matrix(source.array, "against", dtype=dtype)
    return {
        "relative_error": f.relative_error(original),
        "largest_error": max(
            float(np.abs(dense[i : i + 256] - original[i : i + 256].astype(np.float64)).max())
            for i in range(0, len(dense), 256)
        ),
        "note": source.note,
    }


def _print(report: dict[str, Any]) -> None:
    from lplr.cli.tables import columns, in_shape, shown, table

    many = report.get("matrices")
    content = (
        f"{len(many)} matrices and arrays"
        if many is not None
        else (f"{report['type']}, {in_shape(report['shape'])}")
    )
    lines = [
        ("file", f"{report['file']}: digest, structure and decoding are right"),
        ("sha-256", report["sha256"]),
        ("content", content),
    ]
    against = report["against"]
    if many is None and against is not None:
        against += f" ({report['note']})" if report["note"] else ""
        error, largest = _in_words(report)
        lines += [
            ("error", f"{error} (relative, Frobenius) to {against}"),
            ("largest", f"{largest} (difference of one entry)"),
        ]
    print(columns(lines))
    if many and against is not None:
        head = ("name", "bits per entry", "error", "largest")
        rows = [
            [shown(found["name"]), f"{found['bits_per_entry']:.4f}", *_in_words(found)]
            for found in many
        ]
        print("\n" + table(head, rows))
        print("\nerror: relative, Frobenius; largest: difference of one entry")


def _in_words(found: dict[str, Any]) -> tuple[str, str]:
    """Both errors; of an array that is kept as it is, whether there is one."""
    if "identical" in found:
        return ("none", "none") if found["identical"] else ("some", "some")
    return f"{found['relative_error']:.6f}", f"{found['largest_error']:.6g}"
