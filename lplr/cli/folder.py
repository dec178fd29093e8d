"""Matrices in parts on the command line: made, checked, and written as dense rows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

from lplr.exceptions import CorruptFileError, ExistingFileError, FolderError, InputError

__all__ = ["check_folder", "dense_rows", "verify_folder"]

_ENTRIES = 1 << 22  # decoded at a time
_MIXED = 1024  # rows that a backbone mixes


def check_folder(name: str, overwrite: bool) -> None:
    """Refuse a name that no folder of parts can get."""
    if not os.path.lexists(name):
        return
    from lplr.storage.folder import is_folder

    if not overwrite:
        raise ExistingFileError(f"{name}: exists; pass --overwrite or name another folder", name)
    if not is_folder(name):
        raise FolderError(f"{name}: is no folder of parts; name another folder", name)


def dense_rows(f: Any, count: Callable[[float], None]) -> Iterator[Any]:
    """The rows of a packed matrix in blocks, float32; all of them are a count of 1."""
    n, d = f.shape
    step = max(1, _ENTRIES // d // _MIXED) * _MIXED
    for start in range(0, n, step):
        stop = min(start + step, n)
        yield f.rows(start, stop)
        count((stop - start) / n)


def verify_folder(args: argparse.Namespace) -> dict[str, Any]:
    """Check a folder of parts, and measure it against the original."""
    import numpy as np

    import lplr
    from lplr.cli.info import facts
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.progress import counter, tracked, until
    from lplr.sources import open_source
    from lplr.validation.matrices import check_block

    if args.name is not None:
        raise InputError("name: is for a file of many matrices; leave it out for a folder of parts")
    source = None if args.against is None else open_source(args.against)
    with Progress(1.0) as progress, watch_compilation(progress), tracked(progress.tell, "parts"):
        with until(0.5):
            sha256 = lplr.verify(args.file)
        f = lplr.load(args.file)
        if source is not None and source.shape != f.shape:
            raise InputError(
                f"{args.against}: has shape {source.shape}, {args.file} has {f.shape}; name the "
                "matrix that was compressed"
            )
        error = norm = largest = 0.0
        start = 0
        for dense in dense_rows(f, counter(1, "decoding")):
            if not np.isfinite(dense).all():
                raise CorruptFileError(f"{args.file}: decodes to values that are not finite")
            if source is not None:
                rows = source.rows(start, start + len(dense)).astype(np.float64, copy=False)
                check_block(rows, args.against, start)
                E = rows - dense
                error, norm = error + float(np.vdot(E, E)), norm + float(np.vdot(rows, rows))
                largest = max(largest, float(np.abs(E).max()))
            start += len(dense)
    report = {"file": args.file, "sha256": sha256, "against": args.against, "name": None}
    report |= {**facts(f), "parts": len(f.blocks)}
    if source is not None:
        relative = np.sqrt(error / norm) if norm else float(error > 0) and np.inf
        report |= {"relative_error": float(relative), "largest_error": largest, "note": ""}
    return report
