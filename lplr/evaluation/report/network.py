"""The page of a network: what compression took and cost, against other ones, and layer by layer."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lplr.evaluation.figures import inline_svg
from lplr.evaluation.metrics import number
from lplr.evaluation.network_charts import heat_chart, size_chart
from lplr.evaluation.report.network_words import HEADS, in_words, terms
from lplr.evaluation.report.page import (
    Value,
    anchor,
    captioned,
    document,
    escape,
    listing,
    navigation,
    table,
)
from lplr.evaluation.styles import Style, in_order, style_of
from lplr.storage.atomic import write_atomic

__all__ = ["write_network_page"]

_DRAWN = {"predictions": "kl", "choices": "by_length", "embeddings": "recall"}
_STYLES = {"quantize": "naive"}  # methods that another name has in the other pictures


def write_network_page(
    path: str | os.PathLike[str],
    found: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Write what was measured of a network as one self-contained HTML file.

    Parameters
    ----------
    path : str or path-like
    found : mapping
        What ``lplr model evaluate --json`` prints.
    others : sequence of mapping
        The same of other networks, for comparison.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    InputError
        If the file exists and ``overwrite`` is False.
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.report.network import write_network_page
    >>> total = {"weights": 100, "nbytes": 25, "bits_per_weight": 2.0}
    >>> found = {"model": "small", "original": None, "method": "compress", "settings": {},
    ...     "network": {"model_type": "llama", "blocks": 2, "width": 8, "vocabulary": 9},
    ...     "totals": {"layers": total, "whole": total}, "layers": [], "results": []}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_network_page(os.path.join(folder, "page.html"), found)
    ...     os.listdir(folder)
    ['page.html']
    """
    title = f"What {_named(found)} keeps"
    page = document(title, _page(title, found, others))
    write_atomic(path, [page.encode()], overwrite)


def _page(title: str, found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    runs = [found, *others]
    sections = {
        "Measured": _measured(runs),
        "Layers": _layers(found["layers"]),
        "Words": terms({result["kind"] for run in runs for result in run["results"]}),
        "Settings": listing(found["settings"]) if found["settings"] else "",
    }
    shown = {name: content for name, content in sections.items() if content}
    links = navigation([(anchor(name), name) for name in shown])
    body = "".join(
        f'<section><h2 id="{anchor(name)}">{name}</h2>{content}</section>'
        for name, content in shown.items()
    )
    return f"{_head(title, found, others)}{links}{body}"


def _named(found: Mapping[str, Any]) -> str:
    path = Path(str(found["model"]))
    return path.stem if path.suffix == ".gguf" else path.name or str(path)


def _head(title: str, found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    about, totals = found["network"], found["totals"]
    lines = [
        (
            "Network",
            f"{about['model_type']}, {about['blocks']} blocks of width {about['width']}, "
            f"vocabulary of {about['vocabulary']} tokens.",
        ),
        *(
            (
                name.capitalize(),
                f"{totals[name]['weights']:,} weights in {totals[name]['nbytes'] / 1e6:,.1f} MB: "
                f"{totals[name]['bits_per_weight']:.3f} bits per weight.",
            )
            for name in ("layers", "whole")
        ),
    ]
    for result in found["results"]:
        told = ", ".join(
            f"{head} {in_words(name, result['numbers'][name])}"
            for name, head in HEADS[result["kind"]].items()
            if name in result["numbers"] and not name.startswith(("original", "change"))
        )
        lines.append((str(result["source"]), f"{told}."))
    lead = "A network with compressed layers" if found["layers"] else "A network"
    if found["original"] is not None:
        lead += f", compared with {Path(str(found['original'])).name}"
    lead += f" and {len(others)} other{'s' * (len(others) > 1)}." if others else "."
    said = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in lines)
    charts = [chart for chart in _charts([found, *others]) if chart]
    return (
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f'<div class="overview"><dl>{said}</dl>{charts[0] if len(charts) == 1 else ""}</div>'
        + (f'<div class="charts">{"".join(charts)}</div>' if len(charts) > 1 else "")
        + "</header>"
    )


def _charts(runs: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """For each thing that the first network was measured on: what all of them lost, by size."""
    for i, wanted in enumerate(runs[0]["results"]):
        name = _DRAWN[wanted["kind"]]
        curves: dict[str, list[tuple[float, float, float, float]]] = {}
        for run in runs:
            for result in run["results"]:
                value = result["numbers"].get(name)
                if (result["kind"], result["source"]) != (wanted["kind"], wanted["source"]):
                    continue
                if value is None or value["value"] is None:
                    continue
                band = 2 * (value["standard_error"] or 0.0)
                at = run["totals"]["layers"]["bits_per_weight"]
                mean = value["value"]
                least = max(mean - band, mean / 10) if name == "kl" else mean - band
                curves.setdefault(_label(run), []).append((at, mean, least, mean + band))
        log = name == "kl"
        curves = {
            label: sorted(points)
            for label, points in curves.items()
            if not log or all(y > 0 for _, y, *_ in points)
        }
        if sum(map(len, curves.values())) < 2:  # one network alone is no chart
            continue
        styles = {label: _style(label, label == _label(runs[0])) for label in curves}
        ordered = {label: curves[label] for label in in_order(curves)}
        axis = HEADS[wanted["kind"]][name]
        told = "; ".join(
            f"{label}: " + ", ".join(f"{number(y)} at {x:.3g} bits" for x, y, *_ in points)
            for label, points in ordered.items()
        )
        svg = inline_svg(size_chart(axis, ordered, styles, log=log), f"s{i}", f"{axis}. {told}.")
        yield captioned(
            svg, escape(f"{axis} on {wanted['source']}; lines: twice the standard error")
        )


def _label(run: Mapping[str, Any]) -> str:
    """What a chart calls a network: its method, or its name where there is none."""
    return str(run["method"] or _named(run))


def _style(label: str, bold: bool) -> Style:
    return replace(style_of(_STYLES.get(label, label)), bold=bold)


def _measured(runs: Sequence[Mapping[str, Any]]) -> str:
    """A table for each kind of measurement, with all networks, and how it was measured."""
    shown = []
    for kind, heads in HEADS.items():
        found = [(run, r) for run in runs for r in run["results"] if r["kind"] == kind]
        names = [name for name in heads if any(name in r["numbers"] for _, r in found)]
        if not found:
            continue
        rows = [
            [
                Value(_named(run)),
                Value(str(result["source"])),
                Value(f"{run['totals']['layers']['bits_per_weight']:.3f}",
                      run["totals"]["layers"]["bits_per_weight"]),
                Value(f"{run['totals']['whole']['nbytes'] / 1e6:,.1f}",
                      run["totals"]["whole"]["nbytes"]),
                *(
                    Value(in_words(name, value), None if value is None else value["value"])
                    for name in names
                    for value in [result["numbers"].get(name)]
                ),
            ]
            for run, result in found
        ]  # fmt: skip
        columns = ("network", "on", "bits per weight", "whole, MB", *(heads[n] for n in names))
        shown.append(
            table(
                f"{kind.capitalize()}, ± standard error",
                columns,
                rows,
                numeric=range(2, len(columns)),
                own=[i for i, (run, _) in enumerate(found) if run is runs[0]],
            )
        )
        for protocol in dict.fromkeys(result["protocol"] for _, result in found):
            shown.append(f'<p class="dim">{escape(protocol)}.</p>')
    return "".join(shown)


def _layers(layers: Sequence[Mapping[str, Any]]) -> str:
    """The heat of layers by depth, and a row for each."""
    if not layers:
        return ""
    rows = [
        [
            Value(str(layer["name"])),
            Value("\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, layer["shape"]))),
            Value(f"{layer['bits_per_entry']:.3f}", layer["bits_per_entry"]),
            _plain(layer.get("rank"), "d"),
            _plain(layer.get("relative_error"), ".4f"),
            _plain(layer.get("seconds"), ".3g"),
            _plain(layer["nbytes"], ",d"),
            Value(str(layer["code"]), mark="w"),
        ]
        for layer in layers
    ]
    heads = ("layer", "shape", "bits per weight", "rank", "error", "seconds", "bytes", "code")
    shown = table("In the order of the network", heads, rows, numeric=range(2, len(heads) - 1))
    return f'<div class="charts">{"".join(_heat(layers))}</div>{shown}'


def _heat(layers: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    places = [_place(str(layer["name"])) for layer in layers]
    kinds = list(dict.fromkeys(kind for kind, _ in places))
    blocks = 1 + max(block for _, block in places)
    for name, axis in (("relative_error", "error"), ("bits_per_entry", "bits per weight")):
        values = np.full((len(kinds), blocks), np.nan)
        for (kind, block), layer in zip(places, layers, strict=True):
            values[kinds.index(kind), block] = layer.get(name, np.nan)
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        low, high = float(known.min()), float(known.max())
        if high - low < 0.02 * high:
            ends = dict.fromkeys(f"{value:.3f}" for value in (low, high))
            said = f"{axis} of all layers: {' to '.join(ends)}"
            yield f'<p class="dim">{escape(said.capitalize())}.</p>'
            continue
        worst = max(range(len(layers)), key=lambda i: layers[i].get(name, -math.inf))
        text = f"{axis} by kind and block, {low:.3f} to {high:.3f}; most: {layers[worst]['name']}"
        svg = inline_svg(heat_chart(values, _suffixes(kinds), axis), f"h-{name[:4]}", text)
        yield captioned(svg, escape(text[:1].upper() + text[1:]))


def _place(name: str) -> tuple[str, int]:
    """Kind and block of a layer: of ``model.layers.3.mlp.up_proj`` ``mlp.up_proj`` and 3."""
    match = re.search(r"(?:^|\.)(\d+)\.(.+)", name)
    return (match[2], int(match[1])) if match else (name, 0)


def _suffixes(kinds: Sequence[str]) -> list[str]:
    """As few last words of each as tell it from all others."""
    found = []
    for kind in kinds:
        words = kind.split(".")
        ends = (".".join(words[i:]) for i in range(len(words) - 1, -1, -1))
        others = [other for other in kinds if other != kind]
        found.append(next((e for e in ends if not any(o.endswith(e) for o in others)), kind))
    return found


def _plain(value: Any, kind: str) -> Value:
    return Value("–" if value is None else format(value, kind), value)
