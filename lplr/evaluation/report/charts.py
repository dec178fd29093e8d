"""The charts of the report: rate against distortion and accuracy, time against error.

One chart a data set, all methods in it: colours tell families apart, shapes of the markers the
members of one, and every curve has its name at its end. The project's default is drawn in bold, the
best of each family before the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lplr.evaluation.report.looks import End, Looks, label
from lplr.evaluation.report.metrics import bits_text, metric, number
from lplr.evaluation.report.results import Cell
from lplr.evaluation.report.svg import GREY, INK, figure, inline, settings

__all__ = ["rate_chart", "time_chart"]

_WIDTH, _HEIGHT = 5.2, 4.5  # inches
_DASHES = (0, (4, 2))
_LEFT, _RIGHT, _LOW, _HIGH = 0.125, 0.585, 0.125, 0.97  # the axes in the figure


def rate_chart(
    cells: Sequence[Cell], looks: Looks, name: str, levels: Mapping[float, float] | float | None
) -> str:
    """One metric of one data set against stored bits, with bands over the seeds.

    An accuracy is drawn as the points that it differs from that without compression, where this
    is known: linear within a point, logarithmic beyond, since that is how much is at stake.

    Parameters
    ----------
    cells : sequence of Cell
        Of one data set, metric and protocol.
    looks : Looks
    name : str
        Of the figure in its page.
    levels : mapping of float to float, float or None
        The limit at each number of bits; or the value without compression.

    Returns
    -------
    str
        An ``<svg>`` element, or nothing if no value is finite.
    """
    curves = _curves(cells, looks, lambda cell: cell.bits or cell.budget)
    if not curves:
        return ""
    kind = metric(cells[0].metric)
    with settings():
        made = figure(_WIDTH, _HEIGHT)
        axes = _axes(made)
        axes.set_ylabel(kind.name, labelpad=2)
        if isinstance(levels, float):
            curves = {
                method: [
                    (x, 100 * (y - levels), 100 * (a - levels), 100 * (b - levels))
                    for x, y, a, b in points
                ]
                for method, points in curves.items()
            }
            axes.set_ylabel(f"accuracy − {100 * levels:.1f} %, in points", labelpad=2)
        first = looks.prominent(cells)
        ends = [
            _draw_curve(axes, method, points, looks, method in first)
            for method, points in curves.items()
        ]
        bits = [p[0] for points in curves.values() for p in points]
        values = [p[1] for points in curves.values() for p in points]
        own = [p[1] for p in curves.get(looks.default, [])] or values
        if isinstance(levels, Mapping):
            xs = sorted(levels)
            ys = [levels[x] for x in xs]
            axes.plot(xs, ys, color=INK, linestyle=_DASHES, linewidth=1.3, zorder=5)
            own = own + [y for y in ys if y > 0]
            ends.append(End(xs[-1], ys[-1], "limit", INK))
        elif levels is not None:
            axes.axhline(0, color=INK, linestyle=_DASHES, linewidth=1.3, zorder=5)
            ends.append(End(max(bits), 0.0, "uncompressed", INK))
            _points_range(axes, values)
        elif kind.better == "higher":
            # What is far beyond the default is at the edge, and leaves it half of the room.
            top = min(max(values), 2 * max(own) - min(values))
            margin = 0.04 * (top - min(values)) or 0.1
            axes.set_ylim(min(values) - margin, top + margin)
        if kind.better == "lower":
            _log_range(axes, values, own)
        axes.set_xscale("log", base=2)
        powers = 2.0 ** np.arange(math.floor(math.log2(min(bits))), math.log2(max(bits)) + 0.6)
        axes.set_xticks(powers, [f"{power:g}" for power in powers])
        axes.set_xlim(min(bits) / 1.08, max(bits) * 1.08)
        axes.minorticks_off()
        axes.set_xlabel("stored bits an entry")
        label(axes, ends)
        return inline(made, name, _alternative(cells, looks, kind.name, levels))


def time_chart(cells: Sequence[Cell], looks: Looks, name: str) -> str:
    """The error of each method against its time, at one budget of one data set.

    Parameters
    ----------
    cells : sequence of Cell
        Of one data set, metric and budget.
    looks : Looks
    name : str

    Returns
    -------
    str
        An ``<svg>`` element, or nothing if no time was measured.
    """
    points = _curves([c for c in cells if c.seconds], looks, lambda cell: cell.seconds or 0.0)
    if not points:
        return ""
    with settings():
        made = figure(_WIDTH, _HEIGHT)
        axes = _axes(made)
        axes.set_ylabel(cells[0].metric, labelpad=2)
        ends = []
        first = looks.prominent(cells)
        for method, [(x, y, low, high)] in points.items():
            weight = 2 if method == looks.default else int(method in first)
            colour, marker = looks.colours[method], looks.markers[method]
            axes.plot([x, x], [low, high], color=colour, linewidth=1.2)
            size = (5.5, 7.5, 10)[weight]
            axes.plot(x, y, marker, color=colour, markersize=size, zorder=4 + weight)
            ends.append(End(x, y, method, colour, marker, weight))
        axes.set_xscale("log")
        low, high = min(end.x for end in ends) / 1.6, max(end.x for end in ends) * 1.6
        own = [end.y for end in ends if end.weight == 2] or [end.y for end in ends]
        _log_range(axes, [end.y for end in ends], own)
        axes.set_xlim(low, high)
        steps = (1, 3) if high < 300 * low else (1,)
        ticks = [m * 10.0**e for e in range(-6, 6) for m in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("seconds to compress")
        label(axes, ends)
        told = [f"{end.text} {number(end.y)} in {end.x:.2g} s" for end in ends]
        return inline(made, name, f"{cells[0].metric} against time: {'; '.join(told)}.")


def _curves(
    cells: Sequence[Cell], looks: Looks, x_of: Any
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Points (x, mean, least, greatest) of each method that can be drawn, ascending."""
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    positive = bool(cells) and metric(cells[0].metric).better == "lower"
    for cell in cells:
        point = (x_of(cell), cell.mean, min(cell.values), max(cell.values))
        if cell.method in looks.colours and all(map(math.isfinite, point)):
            if positive:  # an exact method has no place on a logarithmic scale but its foot
                point = (point[0], *(max(y, 1e-9) for y in point[1:]))
            curves.setdefault(cell.method, []).append(point)
    return {method: sorted(points) for method, points in curves.items()}


def _draw_curve(
    axes: Any,
    method: str,
    points: Sequence[tuple[float, float, float, float]],
    looks: Looks,
    prominent: bool,
) -> End:
    """The best of each family with its band, the others thin behind them."""
    x, y, low, high = zip(*points, strict=True)
    colour, marker = looks.colours[method], looks.markers[method]
    weight = 2 if method == looks.default else int(prominent)
    if weight and any(a < b for a, b in zip(low, high, strict=True)):
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
    return End(x[-1], y[-1], method, colour, marker, weight)


def _axes(made: Any) -> Any:
    axes = made.add_axes((_LEFT, _LOW, _RIGHT - _LEFT, _HIGH - _LOW), facecolor="none")
    axes.grid(True, which="major", color=GREY, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _log_range(axes: Any, values: Sequence[float], own: Sequence[float]) -> None:
    """A logarithmic axis with plain ticks, down to half of the default's least value.

    An error of more than 1 is worse than storing nothing, and one far below the default's is next
    to none; what lies outside has its name at the edge, and its number in the table.
    """
    high = 1.12 * min(max(values), max(1.0, min(values)))
    low = max(min([*values, *own]) / 1.12, 0.5 * min(own), high * 1e-4)
    steps: tuple[float, ...] = (1, 2, 5) if high > 12 * low else (1, 1.5, 2, 3, 5, 7)
    ticks = [m * 10.0**e for e in range(-12, 4) for m in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def _points_range(axes: Any, values: Sequence[float]) -> None:
    """Points of an accuracy: linear within one, logarithmic beyond."""
    axes.set_yscale("symlog", linthresh=1, linscale=0.7)
    low, high = min(-1.0, *values), max(0.5, *values)
    axes.set_ylim(1.15 * low, 1.15 * high)
    ticks = [sign * size for size in (0.5, 1, 2, 5, 10, 20, 50) for sign in (-1, 1)] + [0]
    ticks = [tick for tick in ticks if 1.15 * low <= tick <= 1.15 * high]
    axes.set_yticks(ticks, [f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks])


def _alternative(
    cells: Sequence[Cell], looks: Looks, name: str, levels: Mapping[float, float] | float | None
) -> str:
    """What the chart shows, in words: the default at each budget, and the limit."""
    mine = sorted((c for c in cells if c.method == looks.default), key=lambda c: c.budget)
    told = [f"{number(c.mean)} at {bits_text(c.budget)}" for c in mine]
    text = f"{name} against stored bits an entry for {len({c.method for c in cells})} methods"
    if told:
        text += f"; the default, {looks.default}: {', '.join(told)}"
    if isinstance(levels, Mapping):
        text += f"; limit: {', '.join(f'{number(v)} at {bits_text(b)}' for b, v in levels.items())}"
    elif levels is not None:
        text += f"; uncompressed: {number(levels)}"
    return text + ". The table below has all numbers."
