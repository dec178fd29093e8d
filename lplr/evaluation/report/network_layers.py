"""The layers of a network on its page: their heat by depth, and a row for each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lplr.evaluation.figures import inline_svg
from lplr.evaluation.network_charts import heat_chart
from lplr.evaluation.report.page import Value, captioned, escape, folded, table

__all__ = ["layers_section", "place_of", "short_names"]


class _Column(NamedTuple):
    """A number of each layer: its key in the description, its head, its format."""

    key: str
    head: str
    form: str


_COLUMNS = (
    _Column("bits_per_entry", "bits per weight", ".3f"),
    _Column("rank", "rank", "d"),
    _Column("relative_error", "error", ".4f"),
    _Column("two_sided_error", "two-sided error", ".4f"),
    _Column("predicted_kl", "predicted KL", ".3g"),
    _Column("seconds", "seconds", ".3g"),
    _Column("nbytes", "bytes", ",d"),
)
_MANY = 30  # layers that are folded
_HEAT = ("relative_error", "two_sided_error", "predicted_kl", "bits_per_entry")


def layers_section(layers: Sequence[Mapping[str, Any]]) -> str:
    """The heat of layers by depth, and a row for each."""
    if not layers:
        return ""
    known = [c for c in _COLUMNS if any(c.key in layer for layer in layers)]
    rows = [
        [
            Value(str(layer["name"])),
            Value("\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, layer["shape"]))),
            *(_plain(layer.get(column.key), column.form) for column in known),
            Value(str(layer["code"]), mark="w"),
        ]
        for layer in layers
    ]
    heads = ("layer", "shape", *(column.head for column in known), "code")
    shown = table("In the order of the network", heads, rows, numeric=range(2, len(heads) - 1))
    if len(rows) > _MANY:
        shown = folded(f"All {len(rows)} layers", shown)
    return f'<div class="charts">{"".join(_heat(layers))}</div>{shown}'


def _heat(layers: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    places = [place_of(str(layer["name"])) for layer in layers]
    kinds = list(dict.fromkeys(kind for kind, _ in places))
    blocks = 1 + max(block for _, block in places)
    heads = {column.key: column.head for column in _COLUMNS}
    for name, axis in ((name, heads[name]) for name in _HEAT):
        values = np.full((len(kinds), blocks), np.nan)
        for (kind, block), layer in zip(places, layers, strict=True):
            values[kinds.index(kind), block] = layer.get(name, np.nan)
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        low, high = float(known.min()), float(known.max())
        if high - low < 0.02 * high:
            both = dict.fromkeys(f"{value:.3f}" for value in (low, high))
            said = f"{axis} of all layers: {' to '.join(both)}"
            yield f'<p class="dim">{escape(said.capitalize())}.</p>'
            continue
        worst = max(range(len(layers)), key=lambda i: layers[i].get(name, -math.inf))
        ends = f"{low:.3f} to {high:.3f}" if high > 0.05 else f"{low:.2g} to {high:.2g}"
        text = f"{axis} by kind and block, {ends}; most: {layers[worst]['name']}"
        svg = inline_svg(heat_chart(values, short_names(kinds), axis), f"h-{name[:4]}", text)
        yield captioned(svg, escape(text[:1].upper() + text[1:]))


def place_of(name: str) -> tuple[str, int]:
    """Kind and block of a layer: of ``model.layers.3.mlp.up_proj`` ``mlp.up_proj`` and 3."""
    match = re.search(r"(?:^|\.)(\d+)\.(.+)", name)
    return (match[2], int(match[1])) if match else (name, 0)


def short_names(kinds: Sequence[str]) -> list[str]:
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
