"""What ``lplr compress`` prints about all matrices of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from lplr.cli.compress_report import in_sizes
from lplr.cli.hessians import TITLES
from lplr.cli.tables import columns, in_bytes, in_seconds, shown, table

__all__ = ["print_all"]

_LISTED = 3  # arrays that are named for each reason; --json has them all


def print_all(report: Mapping[str, Any]) -> None:
    """Print what came of each matrix, or for a dry run what is predicted."""
    made = "output" in report
    print(_results(report) if made else _predictions(report["matrices"]))
    source = report["input"]
    count = len(report["matrices"])
    what = f"{source['file']}, {count} {'matrix' if count == 1 else 'matrices'}"
    for one, words in (("hessian", "a Hessian"), ("output_hessian", "an output Hessian")):
        if source[f"{one}s"]:
            what += f", {sum(m[one] for m in report['matrices'])} of them with {words}"
    lines = [("input", what)]
    if made:
        rest = "its header, its records and what is kept as it is"
        sizes = source["nbytes"], report["stored_nbytes"], report["file_nbytes"]
        lines += [("output", report["output"]), ("size", in_sizes(*sizes, rest))]
    else:
        nbytes = sum(_entries(m) * m["budget"] / 8 for m in report["matrices"])
        lines += [
            ("size", f"{in_bytes(source['nbytes'])} -> at most {in_bytes(nbytes)} stored"),
            ("time", f"about {in_seconds(report['seconds'])} more on this machine, for all"),
        ]
    if report["kept"]:
        lines.append(("as it is", _kept(report["kept"])))
    if report["failed"]:
        lines.append(("failed", _failed(report["failed"])))
    print("\n" + columns(lines))


def _entries(matrix: Mapping[str, Any]) -> int:
    n, d = matrix["shape"]
    return int(n * d)


def _predictions(matrices: Sequence[Mapping[str, Any]]) -> str:
    head = ["matrix", "shape", "bits per entry", "predicted error", "at equal bits"]
    rows = [
        [
            *_names(matrix),
            f"{matrix['budget']:.4f}",
            f"{matrix['predicted']:.5f}",
            f"{equal:.5f}" if (equal := matrix["at_equal_budgets"]) < inf else "does not fit",
        ]
        for matrix in matrices
    ]
    return table(head, rows, left=2)


def _results(report: Mapping[str, Any]) -> str:
    """One line a matrix; errors under Hessians, where there are any, have columns of their own."""
    matrices = report["matrices"]
    errors = {kind: title for kind, title in TITLES.items() if any(kind in m for m in matrices)}
    head = ["matrix", "shape", "stored bytes", "bits per entry", *errors.values(), "time"]
    rows = [
        [
            *_names(matrix),
            f"{matrix['stored_nbytes']:,}",
            f"{matrix['bits_per_entry']:.4f}",
            *(f"{matrix[kind]:.5f}" if kind in matrix else "-" for kind in errors),
            in_seconds(matrix["seconds"]),
        ]
        for matrix in matrices
    ]
    total = f"{report['stored_nbytes']:,}", f"{report['bits_per_entry']:.4f}"
    rows.append(["all", "", *total, *("" for _ in errors), in_seconds(report["seconds"])])
    return table(head, rows, left=2)


def _names(matrix: Mapping[str, Any]) -> tuple[str, str]:
    return shown(matrix["name"]), "{} x {}".format(*matrix["shape"])


def _kept(arrays: Sequence[Mapping[str, Any]]) -> str:
    """How many arrays are kept and their bytes; for each reason, the first ones."""
    lines = [f"{_count(arrays)}, {in_bytes(sum(array['nbytes'] for array in arrays))}"]
    reasons: dict[str, list[str]] = {}
    for array in arrays:
        note = f" ({array['note']})" if array["note"] else ""
        reasons.setdefault(array["why"] + note, []).append(shown(array["name"]))
    for why, names in reasons.items():
        more = ", ..." if len(names) > _LISTED else ""
        lines.append(f"{why}: {', '.join(names[:_LISTED])}{more}")
    return "\n".join(lines)


def _failed(arrays: Sequence[Mapping[str, Any]]) -> str:
    """Every array that should have been compressed, and what became of it."""
    return "\n".join(
        f"{shown(array['name'])}: {array['why']}; "
        + ("kept as it is" if "nbytes" in array else "left out, it is not in the file")
        for array in arrays
    )


def _count(arrays: Sequence[Any]) -> str:
    return f"{len(arrays)} array{'s' * (len(arrays) != 1)}"
