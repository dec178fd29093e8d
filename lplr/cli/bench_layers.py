"""``lplr bench layers FILE``: every matrix of files compressed, a line each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from lplr.cli.options import INPUTS, check_output, print_json

__all__ = ["add_files", "run"]

_PARTLY = 3
_SHOWN = (
    ("shape", "shape", "{}"),
    ("stable_rank", "stable rank", "{:.1f}"),
    ("rank_50", "50 %", "{}"),
    ("rank_90", "90 %", "{}"),
    ("rank_99", "99 %", "{}"),
    ("kind", "result", "{}"),
    ("rank", "rank", "{}"),
    ("bits_per_entry", "bits", "{:.3f}"),
    ("relative_error", "error", "{:.4f}"),
    ("limit", "limit", "{:.4f}"),
    ("error_under_h", "under H", "{:.4f}"),
    ("seconds", "time", "{:.1f} s"),
    ("peak_mb", "memory", "{:.0f} MB"),
)


def add_files(parser: Any) -> None:
    """The options of ``lplr bench layers`` that measure files instead of the layers in data/."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="measure every matrix of these files instead, by lplr compress, at each budget: "
        + INPUTS,
    )
    parser.add_argument(
        "--hessians",
        metavar="FILE",
        help="with FILE: second moments of the inputs, or inputs, under the names of the layers",
    )


def run(args: argparse.Namespace, budgets: Sequence[float], seeds: Sequence[int]) -> int:
    """Measure the matrices of ``args.files``."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.layers import FORMULAS, report_layers
    from lplr.storage.table import SUFFIXES, write_table

    _refuse_options(args)
    if args.out:
        check_output(args.out, SUFFIXES, args.overwrite, args.files[0])
    layers = _open_all(args.files)
    hessians = _hessians_of(args.hessians, list(layers))
    rows: list[dict[str, Any]] = []
    with (
        Progress(float(len(budgets) * len(seeds) * len(layers))) as progress,
        watch_compilation(progress),
    ):
        for budget, seed in product(budgets, seeds):
            reports = report_layers(layers, bits_per_entry=budget, hessians=hessians, rng=seed)
            for name in layers:
                with progress.step(f"{name} at {budget:g} bits", 1.0):
                    rows.append({"budget": budget, "seed": seed, **next(reports).row()})
    if args.out:
        attrs = {"files": args.files, "hessians": args.hessians, "formulas": dict(FORMULAS)}
        write_table(args.out, rows, attrs=attrs, overwrite=args.overwrite)
    if args.json:
        print_json({"formulas": dict(FORMULAS), "rows": rows})
    else:
        _print(rows)
    return _PARTLY if any(row["status"] == "failed" for row in rows) else 0


def _refuse_options(args: argparse.Namespace) -> None:
    from lplr.exceptions import InputError

    if not args.files:
        raise InputError("--hessians: name the FILE with the layers as well")
    for name in ("quick", "methods", "families", "restart", "html"):
        if getattr(args, name):
            raise InputError(f"--{name}: is not for FILE; leave out one of the two")


def _open_all(files: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """How to read each matrix, by its name in its file where that tells it from the others."""
    from lplr.exceptions import InputError
    from lplr.inputs import members, read_member, split_input

    found: dict[str, Callable[[], Any]] = {}
    for file in files:
        path, member = split_input(file)
        for name in [member] if member else members(path):
            label = name or Path(path).stem
            label = f"{path}:{name}" if label in found else label
            found[label] = partial(_array, read_member, path, name)
    if not found:
        raise InputError(f"{', '.join(files)}: hold no arrays")
    return found


def _array(read: Callable[[str, str], Any], path: str, member: str) -> Any:
    return read(path, member).array


def _hessians_of(file: str | None, layers: list[str]) -> dict[str, Callable[[], Any]] | None:
    """Hessians of the layers; those of others, and what is left without one, are no error."""
    from lplr.exceptions import InputError

    if file is None:
        return None
    found = {name: read for name, read in _open_all([file]).items() if name in layers}
    if not found:
        raise InputError(f"--hessians: {file} has none for {', '.join(layers[:5])}")
    return found


def _print(rows: list[dict[str, Any]]) -> None:
    from lplr.cli.tables import columns, table
    from lplr.evaluation.layers import FORMULAS

    good = [row for row in rows if row["status"] == "ok"]
    if good:
        shown = [(k, h, f) for k, h, f in _SHOWN if any(row[k] is not None for row in good)]
        lines = [
            [row["layer"], f"{row['budget']:g}"]
            + ["-" if row[k] is None else f.format(row[k]) for k, _, f in shown]
            for row in good
        ]
        print(table(("layer", "budget", *(head for _, head, _ in shown)), lines))
        print("\n" + columns([(h, FORMULAS[k]) for k, h, _ in shown if k in FORMULAS]))
    bad: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in rows:
        if row["status"] != "ok":
            key = (row["layer"], row["status"], row["note"])
            bad.setdefault(key, {})[f"{row['budget']:g}"] = None
    if bad:
        print("\nNot measured\n")
        lines = [[layer, status, ", ".join(at), why] for (layer, status, why), at in bad.items()]
        print(table(("layer", "status", "budget", "why"), lines, left=4))
