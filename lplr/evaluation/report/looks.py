"""Who is who in a chart: colours of families, markers of their members, and names at the ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.evaluation.labels import apart
from lplr.evaluation.report.metrics import metric
from lplr.evaluation.report.results import Cell, Results
from lplr.evaluation.report.svg import PALETTE

__all__ = ["End", "Looks", "label"]

_FAMILIES = ("lplr", "paper", "sklearn", "naive", "faiss", "scipy")  # in the order of the palette
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_LINE = 0.043  # height of a label over that of the axes
_LETTERS = 23  # of a name beside the axes


@dataclass(frozen=True)
class Looks:
    """Colour and marker of each method, the same in all charts.

    Parameters
    ----------
    default : str
    colours, markers, families : dict of str to str
        By method.
    """

    default: str
    colours: dict[str, str]
    markers: dict[str, str]
    families: dict[str, str]

    @classmethod
    def of(cls, results: Results) -> Looks:
        """Families have colours of their own, members markers by order of appearance.

        Parameters
        ----------
        results : Results
        """
        members: dict[str, list[str]] = {name: [] for name in _FAMILIES}
        members["lplr"].append(results.default)
        for cell in results.cells:
            if cell.family != "reference":
                listed = members.setdefault(cell.family, [])
                if cell.method not in listed:
                    listed.append(cell.method)
        colours, markers, families = {}, {}, {}
        for i, (family, listed) in enumerate(members.items()):
            for j, method in enumerate(listed):
                colours[method] = PALETTE[i % len(PALETTE)]
                markers[method] = _MARKERS[j % len(_MARKERS)]
                families[method] = family
        return cls(results.default, colours, markers, families)

    def prominent(self, cells: Sequence[Cell]) -> set[str]:
        """The best method of each family at the budget nearest to one bit.

        Parameters
        ----------
        cells : sequence of Cell
            Of one data set and metric.
        """
        sign = -1 if cells and metric(cells[0].metric).better == "higher" else 1
        best: dict[str, tuple[float, float, str]] = {}
        for cell in cells:
            if cell.method in self.families:
                rank = abs(math.log2(cell.budget)), sign * cell.mean, cell.method
                family = self.families[cell.method]
                best[family] = min(best.get(family, rank), rank)
        return {method for _, _, method in best.values()}


@dataclass(frozen=True)
class End:
    """A name, and the point that it belongs to.

    Parameters
    ----------
    x, y : float
        In the units of the axes.
    text, colour : str
    marker : str
        Empty for a dashed line.
    weight : {0, 1, 2}
        In the background, normal, bold.
    """

    x: float
    y: float
    text: str
    colour: str
    marker: str = ""
    weight: int = 1


def label(axes: Any, ends: Sequence[End]) -> None:
    """Names right of the axes, in the order of the ends, with a thin line from each.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With its limits set.
    ends : sequence of End
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    places = np.clip([to_axes.transform((end.x, end.y)) for end in ends], 0.0, 1.0)
    order = np.argsort(places[:, 1], kind="stable")
    gap = min(_LINE, 1.0 / len(ends))
    for i, height in zip(order, apart(places[order, 1], gap), strict=True):
        end = ends[i]
        colour = {"color": end.colour, "transform": axes.transAxes, "clip_on": False}
        axes.plot(
            [places[i, 0], 1.03], [places[i, 1], height], lw=0.4, alpha=0.6, zorder=2, **colour
        )
        if end.marker:
            axes.plot(1.06, height, end.marker, markersize=4.5, **colour)
        else:
            axes.plot([1.04, 1.085], [height, height], lw=1.3, linestyle=(0, (3, 1.5)), **colour)
        axes.text(
            1.105,
            height,
            _shorten(end.text),
            transform=axes.transAxes,
            va="center_baseline",
            fontweight="bold" if end.weight == 2 else "normal",
            alpha=1.0 if end.weight else 0.7,
        )


def _shorten(text: str) -> str:
    """What fits right of the axes; the last word tells methods apart more often than the middle."""
    if len(text) <= _LETTERS:
        return text
    last = text.split()[-1]
    kept = _LETTERS - len(last) - 2
    return f"{text[:kept]}… {last}" if kept > 5 else f"{text[: _LETTERS - 1]}…"
