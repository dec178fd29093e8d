"""The charts at the head of a network's page: what was lost, by stored bits and by method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lplr.evaluation.figures import inline_svg
from lplr.evaluation.metrics import number
from lplr.evaluation.network_charts import size_chart
from lplr.evaluation.report.llama_cpp import SAID, figures_for
from lplr.evaluation.report.network_words import HEADS
from lplr.evaluation.report.page import Value, captioned, escape, folded, table
from lplr.evaluation.styles import Style, style_of

__all__ = ["label_of", "named", "same_source", "size_charts", "style_of_run", "types_table"]

_DRAWN = {"predictions": "kl", "choices": "by_length", "embeddings": "recall"}
_ROUNDING = "plain rounding"
_STYLES = {_ROUNDING: "naive"}  # methods that another name has in the other pictures

Points = list[tuple[float, float, float, float]]


def named(run: Mapping[str, Any]) -> str:
    """What tables call a network: the name of its folder or file."""
    path = Path(str(run["model"]))
    return path.stem if path.suffix == ".gguf" else path.name or str(path)


def label_of(run: Mapping[str, Any]) -> str:
    """What a chart calls a network: how it was made, or its name where it was not compressed."""
    settings, method = run["settings"], run["method"]
    if settings.get("adaptations"):
        return "adapted" if method == "compress" else f"{method}, adapted"
    if settings.get("output_moments"):
        return "two-sided"
    return _ROUNDING if method == "quantize" else str(method or named(run))


def style_of_run(run: Mapping[str, Any], bold: bool) -> Style:
    """How it is drawn."""
    label = label_of(run)
    return replace(style_of(_STYLES.get(label, label)), bold=bold)


def same_source(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two results are of one thing: the same tokens where both tell, else the same name."""
    if a["kind"] != b["kind"]:
        return False
    tokens = a.get("tokens"), b.get("tokens")
    return tokens[0] == tokens[1] if all(tokens) else a["source"] == b["source"]


def size_charts(runs: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """For each thing that the first network was measured on: what all of them lost, by size."""
    for i, wanted in enumerate(runs[0]["results"]):
        name = _DRAWN[wanted["kind"]]
        log = name == "kl"
        curves, styles = _curves(runs, wanted, name)
        theirs = figures_for(runs[0], wanted)
        for label, types in theirs.items():
            curves[label] = [(bits, kl, kl, kl) for _, bits, kl in types]
            styles[label] = style_of(label)
        if sum(map(len, curves.values())) < 2:  # one network alone is no chart
            continue
        order = sorted(curves, key=lambda label: (styles[label].order, label))
        ordered = {label: curves[label] for label in order}
        axis = HEADS[wanted["kind"]][name]
        told = "; ".join(
            f"{label}: " + ", ".join(f"{number(y)} at {x:.3g} bits" for x, y, *_ in points)
            for label, points in ordered.items()
        )
        chart = size_chart(axis, ordered, styles, log=log, apart=list(theirs))
        svg = inline_svg(chart, f"s{i}", f"{axis}. {told}.")
        said = f"{axis} on {wanted['source']}; lines: twice the standard error"
        said += "; llama.cpp: see its types, below" if theirs else ""
        yield captioned(svg, escape(said))


def _curves(
    runs: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any], name: str
) -> tuple[dict[str, Points], dict[str, Style]]:
    """Points by method, ascending in bits, and how they are drawn."""
    curves: dict[str, Points] = {}
    styles: dict[str, Style] = {}
    own = label_of(runs[0])
    for run in runs:
        for result in run["results"]:
            value = result["numbers"].get(name)
            if not same_source(result, wanted) or value is None or value["value"] is None:
                continue
            mean, band = value["value"], 2 * (value["standard_error"] or 0.0)
            if name == "kl" and mean <= 0:  # the original itself
                continue
            bits = run["totals"]["layers"]["bits_per_weight"]
            least = max(mean - band, mean / 10) if name == "kl" else mean - band
            curves.setdefault(label_of(run), []).append((bits, mean, least, mean + band))
            styles[label_of(run)] = style_of_run(run, label_of(run) == own)
    return {label: sorted(points) for label, points in curves.items()}, styles


def types_table(run: Mapping[str, Any]) -> str:
    """What is known of llama.cpp's types on the texts that a network was measured on."""
    rows = [
        [
            Value(name), Value(label.partition(", ")[2] or "as if they fitted"),
            Value(str(result["source"])), Value(f"{bits:.2f}", bits), Value(f"{kl:g}", kl),
        ]
        for result in run["results"]
        for label, types in figures_for(run, result).items()
        for name, bits, kl in types
    ]  # fmt: skip
    if not rows:
        return ""
    heads = ("type", "blocks", "on", "bits per weight", HEADS["predictions"]["kl"])
    return folded("Types of llama.cpp", table(SAID, heads, rows, numeric=(3, 4)))
