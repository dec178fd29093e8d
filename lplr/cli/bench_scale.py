"""``lplr bench scale``: what more rows cost, beside other programs that read rows in blocks."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli.options import add_command, add_json, check_output, near, print_json

__all__ = ["add_scale", "run"]

_PARTLY = 3
_ROWS = "100000,200000,400000"


def add_scale(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Describe the benchmark."""
    parser = add_command(
        kinds,
        common,
        "scale",
        "time, memory and error as the rows of a matrix grow",
        "lplr bench scale --html scale.html\n"
        "lplr bench scale --rows 1e5,1e6,1e7 --folder /big/disk\n"
        "lplr bench scale --rank 64 --columns 256 --methods feedback,IncrementalPCA",
        "Writes a matrix to a temporary file and compresses its first rows by this package, "
        "scikit-learn's IncrementalPCA, dask's svd_compressed and faiss's product quantization, "
        "each in a process of its own and at the same stored bytes, beside reading the file twice "
        "and one product with 64 columns. Packages that are not installed are left out. Some "
        "minutes for the default; a run that was interrupted goes on where it stopped.",
    )
    for option, metavar, text in (
        ("--rows", "LIST", f"numbers of rows, separated by commas (default: {_ROWS})"),
        ("--columns", "N", "columns of the matrix (default: 128)"),
        ("--bits", "B", "stored bits per entry, beside 1 KB a column for tables (default: 1)"),
        ("--rank", "K", "instead of equal bytes: this rank for every method that has one"),
        ("--methods", "LIST", "separated by commas (default: all)"),
        ("--memory-limit", "SIZE", "of the methods of this package (default: 1GB)"),
        ("--folder", "PATH", "where the file is written (default: that of temporary files)"),
        ("--out", "FILE", "results, .jsonl or .csv; both are written (default: bench-scale.jsonl)"),
        ("--html", "FILE", "write curves and tables as one HTML file"),
    ):
        parser.add_argument(option, metavar=metavar, help=text)
    parser.add_argument("--restart", action="store_true", help="forget the results that are there")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.progress import Progress
    from lplr.evaluation.figures import draw_or_warn
    from lplr.evaluation.report.scale import write_scale_page
    from lplr.evaluation.results_file import ResultsFile
    from lplr.evaluation.scale import COLUMNS, KEY, measure_scale

    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite)
    settings, rows, methods = _asked(args)
    file = ResultsFile(args.out or "bench-scale.jsonl", COLUMNS, KEY)
    for path in file.paths:
        check_output(str(path), (path.suffix.lower(),), True)
    with file.alone(), Progress(1.0) as progress:
        if args.restart:
            file.forget()
        known = file.resume(_description(settings))
        if known:
            progress.say(f"going on with {file.paths[0]}; rows so far: {len(known)}")
        found = measure_scale(
            settings, rows, methods,
            known=known, save=file.save, folder=args.folder, progress=progress.tell,
        )  # fmt: skip
        file.save(found)
    if args.json:
        print_json({"rows": found, "attrs": file.attrs})
    else:
        _print(found, [str(path) for path in file.tables] + ([args.html] if args.html else []))
    code = _PARTLY if any(row["status"] == "failed" for row in found) else 0
    if args.html and not draw_or_warn(
        write_scale_page, args.html, found, file.attrs, overwrite=args.overwrite
    ):
        code = _PARTLY
    return code


def _asked(args: argparse.Namespace) -> tuple[Any, list[int], list[str]]:
    from lplr.evaluation.scale import ScaleSettings
    from lplr.exceptions import InputError
    from lplr.streaming.limits import memory_bytes

    columns = _number(args.columns or "128", "--columns", 2)
    rank = None if args.rank is None else _number(args.rank, "--rank", 1, columns - 1)
    try:
        bits = float(args.bits or 1)
    except ValueError:
        bits = 0.0
    if not 0.1 <= bits <= 8:
        raise InputError(f"--bits: must be a number from 0.1 to 8, found {args.bits!r}")
    if rank and args.bits:
        raise InputError("--rank, --bits: a rank takes the place of equal bytes; give one of them")
    limit = args.memory_limit or "1GB"
    memory_bytes(limit)
    settings = ScaleSettings(columns, bits, rank, limit)
    parts = [part for part in (args.rows or _ROWS).split(",") if part.strip()]
    rows = sorted({_number(part, "--rows", 1000, 10**9) for part in parts})
    if not rows:
        raise InputError("--rows: name at least one number")
    offered = settings.methods()
    methods = [name.strip() for name in (args.methods or "").split(",") if name.strip()]
    for name in methods:
        if name not in offered:
            raise InputError(
                f"--methods: there is no {name!r}{near(name, offered)}"
                f"{' at a given rank' * bool(rank)}; there are " + ", ".join(offered)
            )
    return settings, rows, methods or offered


def _number(text: str, option: str, low: int, high: int = 100_000) -> int:
    """A whole number, which may be written as 1e6."""
    from lplr.exceptions import InputError

    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (low <= value <= high and value == int(value)):
        raise InputError(f"{option}: must be whole numbers from {low} to {high:,}, found {text!r}")
    return int(value)


def _description(settings: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from lplr.evaluation.machine import machine, package_versions

    about = {"versions": package_versions(), "machine": machine(), "settings": asdict(settings)}
    return {**about, "data": {}}


def _print(rows: Any, files: list[str]) -> None:
    from lplr.cli.tables import table
    from lplr.evaluation.scale_table import SAID, SCALE_HEADS, scale_cells

    cells = [[text for text, _ in line] for line in scale_cells(rows)]
    if cells:
        print(table(SCALE_HEADS, cells, left=2))
        print(f"\n{SAID}")
    for row in rows:
        if row["status"] != "ok":
            print(f"{row['method']}, {row['rows']:,} rows: {row['status']}: {row['message']}")
    print(f"\nSee {', '.join(files)}")
