"""The charts of the report. Each has at most six lines, and every line has its name at its end.

A method looks the same in all of them, by `lplr.evaluation.styles`; the default is bold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lplr.evaluation.figures import (
    PALETTE,
    CurveEnd,
    figure_style,
    label_ends,
    new_figure,
    plain_axes,
)
from lplr.evaluation.metrics import metric
from lplr.evaluation.styles import INK, PAPER, Style, font_size, style_of

__all__ = [
    "chart_floor",
    "kept_chart",
    "new_chart",
    "plain_ticks",
    "rate_chart",
    "row_chart",
    "time_chart",
]

_WIDTH, _HEIGHT = 5.2, 3.7  # inches of a chart
_LEFT, _RIGHT, _LOW, _HIGH = 0.13, 0.6, 0.15, 0.97  # of the axes in the chart
_SIZE = font_size(_WIDTH, 11)  # points of letters
_GAP = 0.075  # of the height of the axes, between two names
_MOST = 40.0  # points below the best, where an accuracy is drawn at the edge

_LEAST = 10.0  # points that an axis of accuracies has at least, so that chance looks small

Points = Sequence[tuple[float, float, float, float]]  # x; mean, least and greatest y; ascending


def _styled(method: str, default: str) -> Style:
    return replace(style_of(method), bold=method == default)


def new_chart() -> tuple[Any, Any]:
    """A figure without background, and its axes, with room for names at their right."""
    figure = new_figure(_WIDTH, _HEIGHT, "none")
    axes = plain_axes(figure.add_axes((_LEFT, _LOW, _RIGHT - _LEFT, _HIGH - _LOW)))
    axes.tick_params(length=3, labelsize=_SIZE)
    return figure, axes


def rate_chart(
    name: str,
    curves: Mapping[str, Points],
    default: str,
    *,
    limit: Sequence[tuple[float, float]] = (),
    level: float | None = None,
) -> Any:
    """One metric of one data set against stored bits.

    Parameters
    ----------
    name : str
        The metric. Shares, such as accuracies, are drawn in per cent.
    curves : mapping of str to sequence of (x, mean, least, greatest)
        By method: values at stored bits per entry, with their bands.
    default : str
        The method that is drawn in bold.
    limit : sequence of (bits, value)
        The yardstick of an error.
    level : float, optional
        The value without compression.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with figure_style():
        figure, axes = new_chart()
        _draw_rates(axes, name, curves, default, limit, level)
    return figure


def _draw_rates(
    axes: Any,
    name: str,
    curves: Mapping[str, Points],
    default: str,
    limit: Sequence[tuple[float, float]],
    level: float | None,
) -> None:
    share = metric(name).is_share
    scale = 100.0 if share else 1.0
    curves = {
        method: [(x, *(scale * y for y in ys)) for x, *ys in points]  # type: ignore[misc]
        for method, points in curves.items()
    }
    values = [p[1] for points in curves.values() for p in points]
    own = [p[1] for p in curves.get(default, [])] or values
    if share:
        best = max([*values, scale * (level or 0.0)])
        low = min(max(min(values), best - _MOST), best - _LEAST)
        axes.set_ylim(low - 0.06 * (best - low), best + 0.2 * (best - low))
    elif metric(name).sign < 0:
        # What is far beyond the default is at the edge, and leaves it half of the room.
        top = min(max(values), 2 * max(own) - min(values))
        margin = 0.04 * (top - min(values)) or 0.1
        axes.set_ylim(min(values) - margin, top + margin)
    else:
        _log_range(axes, values, own + [y for _, y in limit if y > 0])
    bits = [p[0] for points in curves.values() for p in points]
    axes.set_xscale("log", base=2)
    powers = 2.0 ** np.arange(math.floor(math.log2(min(bits))), math.log2(max(bits)) + 0.6)
    axes.set_xticks(powers, [f"{power:g}" for power in powers])
    axes.set_xlim(min(bits) / 1.12, max(bits) * 1.12)
    axes.minorticks_off()
    ends = [_draw_curve(axes, method, points, default) for method, points in curves.items()]
    if limit:
        style = style_of("limit")
        axes.plot(*zip(*limit, strict=True), **style.line())
        ends.append(CurveEnd(*limit[-1], style.label, style.colour, "--", 0))
    if level is not None:
        style = style_of("uncompressed")
        axes.axhline(scale * level, **style.line())
        ends.append(CurveEnd(max(bits), scale * level, style.label, style.colour, "--", 0))
    axes.set_xlabel("stored bits per entry", fontsize=_SIZE)
    axes.set_ylabel(metric(name).short, labelpad=2, fontsize=_SIZE)
    label_ends(axes, ends, _GAP, _SIZE)


def _draw_curve(axes: Any, method: str, points: Points, default: str) -> CurveEnd:
    x, y, low, high = zip(*points, strict=True)
    style = _styled(method, default)
    if low != high and style.bold:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
    axes.plot(x, y, **style.line())
    weight = 1 + style.bold
    return CurveEnd(x[-1], y[-1], style.label, style.colour, style.marker, weight, style.full)


def time_chart(name: str, curves: Mapping[str, Points], default: str) -> Any:
    """The error of each method against its time, at one budget of one data set.

    Parameters
    ----------
    name : str
        The error.
    curves : mapping of str to sequence of (seconds, mean, least, greatest)
        One point for each method.
    default : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    with figure_style():
        figure, axes = new_chart()
        axes.set_ylabel(name, labelpad=2, fontsize=_SIZE)
        low = min(x for [(x, *_)] in curves.values()) / 1.6
        high = max(x for [(x, *_)] in curves.values()) * 1.6
        values = [y for [(_, y, *_)] in curves.values()]
        axes.set_xscale("log")
        _log_range(axes, values, [p[1] for p in curves.get(default, [])] or values)
        axes.set_xlim(low, high)
        steps = (1, 3) if high < 50 * low else (1,)
        plain_ticks(axes.set_xticks, low, high, steps)
        axes.minorticks_off()
        ends = [_draw_curve(axes, method, points, default) for method, points in curves.items()]
        axes.set_xlabel("seconds to compress", fontsize=_SIZE)
        label_ends(axes, ends, _GAP, _SIZE)
    return figure


def kept_chart(points: Mapping[str, Sequence[tuple[float, float]]], mark: float) -> Any:
    """The share of neighbours that is kept against the error, whatever the method.

    Parameters
    ----------
    points : mapping of str to sequence of (error, share)
        By data set, six at most.
    mark : float
        The error that the text speaks of.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with figure_style():
        figure, axes = new_chart()
        axes.set_position((_LEFT, _LOW, 0.97 - _LEFT, _HIGH - _LOW))  # no names at its right
        for (dataset, found), colour in zip(points.items(), PALETTE, strict=False):
            x, y = zip(*found, strict=True)
            look = {"markersize": 5, "alpha": 0.6, "markeredgewidth": 0, "label": dataset}
            axes.plot(x, 100 * np.array(y), "o", color=colour, **look)
        axes.legend(loc="lower left", fontsize=_SIZE, frameon=False, handletextpad=0.2)
        axes.axvline(mark, color=INK, linewidth=1)
        every = [x for found in points.values() for x, _ in found]
        low, high = max(min(every) / 1.1, 0.004), min(max(every) * 1.1, 1.1)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(-3, 103)
        plain_ticks(axes.set_xticks, low, high, (1, 2, 5))
        axes.minorticks_off()
        axes.set_xlabel("relative error", fontsize=_SIZE)
        axes.set_ylabel("10 nearest neighbours kept, %", labelpad=2, fontsize=_SIZE)
    return figure


def row_chart(
    rows: Mapping[str, Mapping[str, float]],
    series: Mapping[str, Mapping[str, Any]],
    axis: str,
    line: str = "",
) -> Any:
    """Positive numbers as points on one logarithmic axis, a row for each thing.

    Parameters
    ----------
    rows : mapping of str to mapping of str to float
        By the label of the row: numbers by series.
    series : mapping of str to mapping
        By name: keywords of ``axes.plot``.
    axis : str
        What the numbers are.
    line : str
        If given, the name of a line at 1.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = [name for name in series if any(name in row for row in rows.values())]
    above = 0.26 * math.ceil((len(names) + bool(line)) / 2) + 0.1
    height = above + 0.42 * len(rows) + 0.62  # inches
    with figure_style():
        figure = new_figure(_WIDTH, height, "none")
        box = (0.02, 0.58 / height, 0.95, 0.42 * len(rows) / height)
        axes = plain_axes(figure.add_axes(box))
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.35, -0.7)
        values = [x for row in rows.values() for x in row.values()]
        low, high = min(values) / 1.25, max(values) * 1.25
        if line:
            low, high = min(low, 1 / 1.25), max(high, 1.25)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        steps = (1, 1.5, 2, 3, 5, 7) if high < 8 * low else (1, 2, 5) if high < 60 * low else (1,)
        plain_ticks(axes.set_xticks, low, high, steps)
        axes.minorticks_off()
        axes.tick_params(length=3, labelsize=_SIZE)
        handles = []
        if line:
            style = _styled(line, line)
            handles += [axes.axvline(1, color=style.colour, linewidth=2.4, label=style.label)]
        for name in names:
            x, y = zip(*[(row[name], i) for i, row in enumerate(rows.values()) if name in row],
                       strict=True)  # fmt: skip
            look = {**series[name], "linestyle": "none", "markersize": 7.5, "zorder": 4}
            handles += axes.plot(x, y, **look, label=name)
        for i, label in enumerate(rows):
            axes.axhline(i, color=INK, linewidth=0.4, alpha=0.35, zorder=1)
            axes.text(
                0, i - 0.22, label, transform=axes.get_yaxis_transform(), fontsize=_SIZE,
                va="bottom", zorder=2.5,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
        axes.set_xlabel(axis, fontsize=_SIZE)
        figure.legend(
            handles=handles, loc="upper left", ncols=2, fontsize=_SIZE, frameon=False,
            bbox_to_anchor=(0.0, 1.0), borderpad=0, borderaxespad=0.2, handletextpad=0.5,
            columnspacing=1.2,
        )  # fmt: skip
    return figure


def chart_floor(own: Sequence[float]) -> float:
    """Below which errors leave a chart: half of the least of the default and of the yardstick."""
    return 0.5 * min(own, default=0.0)


def _log_range(axes: Any, values: Sequence[float], own: Sequence[float]) -> None:
    """A logarithmic axis with plain ticks, down to half of the default's least value.

    An error of more than 1 is worse than storing nothing, and one far below the default's is next
    to none; what lies outside has its name at the edge, and its number in the table.
    """
    high = 1.12 * min(max(values), max(1.0, min(values)))
    low = max(min([*values, *own]) / 1.12, chart_floor(own), high * 1e-4)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    plain_ticks(axes.set_yticks, low, high, (1, 2, 5) if high > 12 * low else (1, 1.5, 2, 3, 5, 7))


def plain_ticks(set_ticks: Any, low: float, high: float, steps: Sequence[float]) -> None:
    """Ticks at these multiples of powers of ten, in plain numbers."""
    ticks = [m * 10.0**e for e in range(-12, 6) for m in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    set_ticks(ticks, [f"{tick:g}" for tick in ticks])
