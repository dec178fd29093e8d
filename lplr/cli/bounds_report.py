"""What ``lplr bounds`` prints: the list of statements, the tables, and their rows as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lplr.cli.options import print_json
from lplr.cli.tables import in_seconds, table

if TYPE_CHECKING:
    from lplr.theory.records import Cell, Statement

__all__ = ["DISTORTION", "as_row", "print_list", "print_report", "summary"]

DISTORTION = "distortion"  # the one name that is no statement
_ROUNDING = 1e-9  # a cell with a smaller ratio measures rounding errors only

_NOTATION = """\
A: an n x d matrix; A_k: its best approximation of rank k; |.|: Frobenius norm; ': transpose
S: a random d x m matrix with independent entries N(0, 1/m); the sketch of A is A S
Q(.): rounding to equally spaced points, one step apart; B bits and range R: step = 2R/(2^B - 1)
dithered: rounded up or down at random so that the mean is right; nearest: to the nearest point
LPLR: A ~ L R with L = Q(A S) and R = Q'(W), W the least squares solution of L W ~ A
CALDERA: W ~ Q + L R, where Q is W rounded with feedback and L R has rank k
H: a symmetric d x d matrix, the mean of x x' over the inputs x of a layer W
loss: tr(E H E') of an error E; H = C D C', C unit lower triangular, D diagonal (the pivots)
G: a symmetric n x n matrix that weighs the rows of E as H weighs its columns: tr(G E H E')
feedback: W is rounded column by column, each after a correction for the errors so far (LDLQ);
on both sides: entry by entry, after corrections from its row and its column
eta: the rounding errors of feedback, each relative to the corrected column
epsilon: what the rounding of L and R adds; lambda_i, sigma_i: eigenvalues, singular values
..._bound, ..._bounds, sketch_range: functions of lplr.theory.bounds, with formula and derivation

A cell is a statement on one matrix with one setting. The matrices, and for losses the Hessians H,
have these singular values for k = 1, 2, ...: flat: 1; k^-1: 1/k, and so on; exponential:
exp(-(k-1)/5); low-rank: 1 eight times, then 0; outlier: 10 once, then 1. Others are given by their
entries: midpoints: half-way between two points; gaussian: N(0, 1). --full adds real matrices:
layers of language models, text embeddings and an image.

Settings: m columns of the sketch; rank k; bits per entry of L and R (bits_right: of R), in CALDERA
of Q (factor_bits: of L and R); power_iterations: q; epsilon: as a share of |A|^2; damping: what is
added to H, as a share of its mean eigenvalue; failure_probability: that of sketch_range; outputs:
the eigenvalues of G.
"""


def as_row(cell: Cell) -> dict[str, Any]:
    """A cell without nesting; what does not exist is None."""
    from lplr.theory.records import QUANTILES

    quantiles = zip(QUANTILES, cell.quantiles, strict=True)
    row = {
        "statement": cell.statement,
        **cell.setting,
        "trials": cell.trials,
        "mean": cell.mean,
        "standard_error": cell.standard_error,
        **{f"quantile_{100 * q:g}": value for q, value in quantiles},
        "bound": cell.bound,
        "ratio": cell.ratio,
        "largest_ratio": cell.worst,
        "saturated": cell.saturated,
        "p_value": cell.p_value,
        "verdict": cell.verdict,
    }
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def summary(statement: Statement, cells: Sequence[Cell]) -> dict[str, Any]:
    """A statement with its number of cells by verdict, and how far its ratios reach."""
    from lplr.theory.records import VERDICTS

    found = [cell for cell in cells if cell.statement == statement.name]
    ratios = sorted(cell.ratio for cell in found if cell.ratio > _ROUNDING)
    return {
        "name": statement.name,
        "function": statement.function or None,
        "title": statement.title,
        "source": statement.source,
        "kind": statement.kind,
        "cells": len(found),
        **{verdict: sum(c.verdict == verdict for c in found) for verdict in VERDICTS},
        "least_ratio": ratios[0] if ratios else None,
        "median_ratio": ratios[len(ratios) // 2] if ratios else None,
        "largest_ratio": ratios[-1] if ratios else None,
    }


def _table_of_distortion(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("quantizer", "bits", "error", "± s.e.", "error/limit", "published", "source")
    lines = [
        [
            row["quantizer"],
            _number(row["bits"]),
            f"{row['mse']:.4g}",
            "exact" if row["method"] == "quadrature" else f"{row['standard_error']:.1g}",
            f"{row['mse'] / row['limit']:.3f}",
            "-" if row["published"] is None else f"{row['published']:.4g}",
            row["source"] or "",
        ]
        for row in rows
    ]
    return table(head, lines) + (
        "\n\nbits: bits per entry; error: mean squared error on entries N(0, 1), at the scale that "
        "this package uses;\n± s.e.: standard error of a simulated error; "
        "limit: 2^(-2 bits), which no code can beat;\npublished: the error that the source reports"
    )


def print_list(statements: Mapping[str, Statement], as_json: bool, distortion: bool) -> None:
    """Print the statements, the table of distortions too, and an explanation of all symbols."""
    listed = [
        {
            "name": s.name,
            "function": s.function or None,
            "title": s.title,
            "source": s.source,
            "kind": s.kind,
            "cells": len(s.grid),
            "real": len(s.full),
        }
        for s in statements.values()
    ]
    if as_json:
        print_json({"statements": listed})
        return
    print(_NOTATION)
    for s in listed:
        print(f"{s['name']}  ({s['cells']} cells, {s['real']} more with --full)")
        print(f"    {s['title']}")
        if s["function"]:
            print(f"    function: lplr.theory.bounds.{s['function']}")
        print(f"    {_KINDS[str(s['kind'])]}; source: {s['source']}")
    if distortion:
        print(
            f"{DISTORTION}\n    mean squared error of each quantizer on entries N(0, 1), "
            "beside published values"
        )


_KINDS = {
    "expectation": "tested on the mean of the trials, which must not be above",
    "always": "tested on each trial",
    "identity": "tested as an equality in each trial",
}


def print_report(report: dict[str, Any], cells: Sequence[Cell], everything: bool) -> None:
    """Print the table of all cells or their summary, and the table of the quantizers' errors."""
    from lplr.theory.records import VERDICTS

    if cells:
        if everything:
            print(table(_HEAD, [_line(cell) for cell in cells], left=2))
        else:
            _print_summary(report["statements"], cells)
        counts = {verdict: sum(c.verdict == verdict for c in cells) for verdict in VERDICTS}
        verdicts = ", ".join(
            f"{count} {'hold' if verdict == 'holds' else verdict}"
            for verdict, count in counts.items()
            if count
        )
        print(
            f"\n{len(cells)} cells of {report['trials']} trials, seed {report['seed']}, "
            f"{in_seconds(report['seconds'])}: {verdicts}"
        )
    if DISTORTION in report:
        print("\n" * bool(cells) + _table_of_distortion(report[DISTORTION]))


_HEAD = ("statement", "setting", "measured", "± s.e.", "bound", "ratio", "verdict")


def _line(cell: Cell) -> list[str]:
    rest = dict(cell.setting)
    words = []
    if {"matrix", "n", "d"} <= set(rest):
        words = [f"{rest.pop('matrix')} {rest.pop('n')} x {rest.pop('d')}"]
    setting = ", ".join(words + [f"{k} = {_number(v)}" for k, v in rest.items()])
    ratio = "-" if math.isnan(cell.ratio) else _in_short(cell.ratio)
    figures = [f"{cell.mean:.4g}", f"{cell.standard_error:.1e}", f"{cell.bound:.4g}", ratio]
    verdict = cell.verdict + (f", p = {cell.p_value:.2g}" if cell.verdict == "not refuted" else "")
    return [cell.statement, setting, *figures, verdict]


def _in_short(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio == 0 or ratio >= 1e-3 else f"{ratio:.0e}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_summary(statements: Sequence[dict[str, Any]], cells: Sequence[Cell]) -> None:
    """One line for each statement; then its loosest and tightest cells, and all refuted cells."""
    from lplr.theory.records import VERDICTS

    rows = []
    for s in statements:
        ratios = [s[f"{which}_ratio"] for which in ("least", "median", "largest")]
        rows.append(
            [s["name"]]
            + [str(s[key]) for key in ("cells", *VERDICTS)]
            + ["-" if ratio is None else _in_short(ratio) for ratio in ratios]
        )
    head = (
        *("statement", "cells", "hold", "not refuted", "refuted", "not met"),
        *("least ratio", "median", "largest"),
    )
    print(table(head, rows))
    print(
        "\ncell: the statement on one matrix with one setting (lplr bounds --list explains them)"
        "\nratio: mean measured value / mean bound; not refuted: the measured mean is above the "
        "bound, by no more than chance\nexplains (p: how often chance alone makes as large an "
        "excess); not met: a quantizer left its range, so that the\nstatement says nothing"
        "\n\nthe cells with the least and the largest ratio "
        "(± s.e.: standard error of the measured mean):\n"
    )
    shown = []
    for s in statements:
        found = [c for c in cells if c.statement == s["name"] and c.ratio > _ROUNDING]
        found.sort(key=lambda cell: cell.ratio)
        shown += [_line(cell) for cell in (found[:1] + found[-1:])[: len(found)]]
    print(table(_HEAD, shown, left=2))
    refuted = [_line(cell) for cell in cells if cell.verdict == "refuted"]
    if refuted:
        print("\nrefuted:\n\n" + table(_HEAD, refuted, left=2))
