"""The charts of the report: error or accuracy against stored bits, and error against time.

Every curve has its name at its end. Few methods have a colour each; of many, the colour tells the
families apart and the shape of the marker the members of one. The default is bold, the best method
of each family is before the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.evaluation.figures import (
    DASHED,
    INK,
    MARKERS,
    PALETTE,
    CurveEnd,
    figure_style,
    label_ends,
    new_figure,
    plain_axes,
)
from lplr.evaluation.metrics import metric

__all__ = ["Styles", "chart_axes", "draw_rates", "log_range", "rate_chart", "time_chart"]

_WIDTH, _HEIGHT = 5.2, 4.5  # inches of a chart
_LEFT, _RIGHT, _LOW, _HIGH = 0.125, 0.585, 0.125, 0.97  # of the axes in the chart
_RIGHT_TITLED, _HIGH_TITLED = 0.66, 0.92  # of wider axes below a title

Points = Sequence[tuple[float, float, float, float]]  # x; mean, least and greatest y; ascending


@dataclass(frozen=True)
class Styles:
    """Colour, marker and family of each method, the same in all charts of a report.

    Parameters
    ----------
    default : str
        The method that is drawn in bold.
    families : mapping of str to str
        By method.
    """

    default: str
    families: Mapping[str, str]

    @property
    def few(self) -> bool:
        """Whether each method has a colour of its own."""
        return len(self.families) <= len(PALETTE)

    def colour(self, method: str) -> str:
        """The colour of a method, or of its family."""
        listed = list(self.families if self.few else dict.fromkeys(self.families.values()))
        name = method if self.few else self.families[method]
        return PALETTE[listed.index(name) % len(PALETTE)]

    def marker(self, method: str) -> str:
        """The marker of a method among those of its colour."""
        members = [m for m, f in self.families.items() if self.few or f == self.families[method]]
        return MARKERS[members.index(method) % len(MARKERS)]

    def prominent(self, curves: Mapping[str, Points], sign: int) -> set[str]:
        """The best method of each family at the point nearest to one bit; all, if they are few."""
        if self.few:
            return set(curves)
        best: dict[str, tuple[float, float, str]] = {}
        for method, points in curves.items():
            x, y = min(points, key=lambda p: abs(math.log2(p[0])))[:2]
            rank = round(abs(math.log2(x))), sign * y, method
            family = self.families[method]
            best[family] = min(best.get(family, rank), rank)
        return {method for _, _, method in best.values()}


def rate_chart(
    name: str,
    curves: Mapping[str, Points],
    styles: Styles,
    *,
    limit: Sequence[tuple[float, float]] = (),
    level: float | None = None,
) -> Any:
    """One metric of one data set against stored bits, with bands over the seeds.

    An accuracy is drawn as the points that it differs from that without compression, where this
    is known: linear within a point, logarithmic beyond, since that is how much is at stake.

    Parameters
    ----------
    name : str
        The metric.
    curves : mapping of str to sequence of (x, mean, least, greatest)
        By method: values at stored bits per entry.
    styles : Styles
    limit : sequence of (bits, value)
    level : float, optional
        The value without compression.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with figure_style():
        figure = new_figure(_WIDTH, _HEIGHT, "none")
        draw_rates(chart_axes(figure), name, curves, styles, limit, level)
    return figure


def chart_axes(
    figure: Any, box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0), title: str = ""
) -> Any:
    """Axes in a part of a figure, with room for names at their right."""
    left, bottom, width, height = box
    right, high = (_RIGHT_TITLED, _HIGH_TITLED) if title else (_RIGHT, _HIGH)
    corner = left + _LEFT * width, bottom + _LOW * height
    axes = figure.add_axes((*corner, (right - _LEFT) * width, (high - _LOW) * height))
    axes.set_title(title, fontsize=11, loc="left")
    axes.tick_params(length=3)
    return plain_axes(axes)


def draw_rates(
    axes: Any,
    name: str,
    curves: Mapping[str, Points],
    styles: Styles,
    limit: Sequence[tuple[float, float]],
    level: float | None,
) -> None:
    sign = metric(name).sign
    axes.set_ylabel(name, labelpad=2)
    if level is not None:
        curves = {
            method: [
                (x, 100 * (y - level), 100 * (low - level), 100 * (high - level))
                for x, y, low, high in points
            ]
            for method, points in curves.items()
        }
        axes.set_ylabel(f"accuracy − {100 * level:.1f} %, in points", labelpad=2)
    prominent = styles.prominent(curves, sign)
    ends = [_draw_curve(axes, m, points, styles, m in prominent) for m, points in curves.items()]
    bits = [p[0] for points in curves.values() for p in points]
    values = [p[1] for points in curves.values() for p in points]
    own = [p[1] for p in curves.get(styles.default, [])] or values
    dashed: dict[str, Any] = {"color": INK, "linestyle": DASHED, "linewidth": 1.3, "zorder": 5}
    if limit:
        axes.plot(*zip(*limit, strict=True), **dashed)
        own = own + [y for _, y in limit if y > 0]
        ends.append(CurveEnd(*limit[-1], "limit", INK, "--"))
    if level is not None:
        axes.axhline(0, **dashed)
        ends.append(CurveEnd(max(bits), 0.0, "uncompressed", INK, "--"))
        _points_range(axes, values)
    elif sign < 0:
        # What is far beyond the default is at the edge, and leaves it half of the room.
        top = min(max(values), 2 * max(own) - min(values))
        margin = 0.04 * (top - min(values)) or 0.1
        axes.set_ylim(min(values) - margin, top + margin)
    elif sign > 0:
        log_range(axes, values, own)
    axes.set_xscale("log", base=2)
    powers = 2.0 ** np.arange(math.floor(math.log2(min(bits))), math.log2(max(bits)) + 0.6)
    axes.set_xticks(powers, [f"{power:g}" for power in powers])
    axes.set_xlim(min(bits) / 1.08, max(bits) * 1.08)
    axes.minorticks_off()
    axes.set_xlabel("stored bits per entry")
    label_ends(axes, ends)


def _draw_curve(
    axes: Any, method: str, points: Points, styles: Styles, prominent: bool
) -> CurveEnd:
    """The best of each family with its band, the others thin behind them."""
    x, y, low, high = zip(*points, strict=True)
    colour, marker = styles.colour(method), styles.marker(method)
    weight = 2 if method == styles.default else int(prominent)
    if weight and low != high:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        x,
        y,
        color=colour,
        marker=marker,
        markersize=(3, 4.5, 5.5)[weight],
        linewidth=(0.7, 1.4, 2.8)[weight],
        alpha=1.0 if weight else 0.5,
        zorder=2 + weight,
    )
    return CurveEnd(x[-1], y[-1], method, colour, marker, weight)


def time_chart(name: str, curves: Mapping[str, Points], styles: Styles) -> Any:
    """The error of each method against its time, at one budget of one data set.

    Parameters
    ----------
    name : str
        The error.
    curves : mapping of str to sequence of (seconds, mean, least, greatest)
        One point for each method.
    styles : Styles

    Returns
    -------
    matplotlib.figure.Figure
    """
    with figure_style():
        figure = new_figure(_WIDTH, _HEIGHT, "none")
        axes = chart_axes(figure)
        axes.set_ylabel(name, labelpad=2)
        ends = []
        first = styles.prominent({m: [(1.0, *p[0][1:])] for m, p in curves.items()}, 1)
        for method, [(x, y, low, high)] in curves.items():
            weight = 2 if method == styles.default else int(method in first)
            colour, marker = styles.colour(method), styles.marker(method)
            axes.plot([x, x], [low, high], color=colour, linewidth=1.2)
            size = (5.5, 7.5, 10)[weight]
            axes.plot(x, y, marker, color=colour, markersize=size, zorder=4 + weight)
            ends.append(CurveEnd(x, y, method, colour, marker, weight))
        axes.set_xscale("log")
        low, high = min(end.x for end in ends) / 1.6, max(end.x for end in ends) * 1.6
        own = [end.y for end in ends if end.weight == 2] or [end.y for end in ends]
        log_range(axes, [end.y for end in ends], own)
        axes.set_xlim(low, high)
        _plain_ticks(axes.set_xticks, low, high, (1, 3) if high < 300 * low else (1,))
        axes.minorticks_off()
        axes.set_xlabel("seconds to compress")
        label_ends(axes, ends)
    return figure


def log_range(axes: Any, values: Sequence[float], own: Sequence[float]) -> None:
    """A logarithmic axis with plain ticks, down to half of the default's least value.

    An error of more than 1 is worse than storing nothing, and one far below the default's is next
    to none; what lies outside has its name at the edge, and its number in the table.
    """
    high = 1.12 * min(max(values), max(1.0, min(values)))
    low = max(min([*values, *own]) / 1.12, 0.5 * min(own, default=0.0), high * 1e-4)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    _plain_ticks(axes.set_yticks, low, high, (1, 2, 5) if high > 12 * low else (1, 1.5, 2, 3, 5, 7))


def _plain_ticks(set_ticks: Any, low: float, high: float, steps: Sequence[float]) -> None:
    """Ticks at these multiples of powers of ten, in plain numbers."""
    ticks = [m * 10.0**e for e in range(-12, 6) for m in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    set_ticks(ticks, [f"{tick:g}" for tick in ticks])


def _points_range(axes: Any, values: Sequence[float]) -> None:
    """Points of an accuracy: linear within one, logarithmic beyond."""
    axes.set_yscale("symlog", linthresh=1, linscale=0.7)
    low, high = 1.15 * min(-1.0, *values), 1.15 * max(0.5, *values)
    axes.set_ylim(low, high)
    ticks = [sign * size for size in (0.5, 1, 2, 5, 10, 20, 50) for sign in (-1, 1)] + [0]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks])
