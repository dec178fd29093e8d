"""The charts of the report: rate against distortion and accuracy, time against error.

One chart a data set, all methods in it: colours tell families apart, shapes of the markers the
members of one, and every curve has its name at its end. The project's default is drawn in bold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.evaluation.labels import apart
from lplr.evaluation.report.metrics import bits_text, metric, number
from lplr.evaluation.report.results import Cell, Results
from lplr.evaluation.report.svg import GREY, INK, PALETTE, figure, inline, settings

__all__ = ["Looks", "rate_chart", "time_chart"]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_WIDTH, _HEIGHT, _LINE = 5.2, 4.5, 0.043  # inches, inches, height of a label over that of the axes
_LETTERS = 23  # of a name beside the axes
_DASHES = (0, (4, 2))
_LEFT, _RIGHT, _LOW, _HIGH = 0.125, 0.585, 0.125, 0.97  # the axes in the figure


@dataclass(frozen=True)
class Looks:
    """Colour and marker of each method, the same in all charts.

    Parameters
    ----------
    default : str
    colours, markers : dict of str to str
        By method.
    """

    default: str
    colours: dict[str, str]
    markers: dict[str, str]

    @classmethod
    def of(cls, results: Results) -> Looks:
        """By order of appearance; the default's family comes first.

        Parameters
        ----------
        results : Results
        """
        members: dict[str, list[str]] = {"lplr": [results.default]}
        for cell in results.cells:
            listed = members.setdefault(cell.family, [])
            if cell.method not in listed and cell.family != "reference":
                listed.append(cell.method)
        colours, markers = {}, {}
        for i, listed in enumerate(members.values()):
            for j, method in enumerate(listed):
                colours[method] = PALETTE[i % len(PALETTE)]
                markers[method] = _MARKERS[j % len(_MARKERS)]
        return cls(results.default, colours, markers)


@dataclass(frozen=True)
class _End:
    """A label, and the point that it belongs to."""

    x: float
    y: float
    text: str
    colour: str
    marker: str
    bold: bool


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
        ends = [_draw_curve(axes, method, points, looks) for method, points in curves.items()]
        bits = [p[0] for points in curves.values() for p in points]
        values = [p[1] for points in curves.values() for p in points]
        if isinstance(levels, Mapping):
            xs = sorted(levels)
            ys = [levels[x] for x in xs]
            axes.plot(xs, ys, color=INK, linestyle=_DASHES, linewidth=1.3, zorder=5)
            values += [y for y in ys if y > 0]
            ends.append(_End(xs[-1], ys[-1], "limit", INK, "", False))
        elif levels is not None:
            axes.axhline(0, color=INK, linestyle=_DASHES, linewidth=1.3, zorder=5)
            ends.append(_End(max(bits), 0.0, "uncompressed", INK, "", False))
            _points_range(axes, values)
        if kind.better == "lower":
            _log_range(axes, values)
        axes.set_xscale("log", base=2)
        powers = 2.0 ** np.arange(math.floor(math.log2(min(bits))), math.log2(max(bits)) + 0.6)
        axes.set_xticks(powers, [f"{power:g}" for power in powers])
        axes.set_xlim(min(bits) / 1.08, max(bits) * 1.08)
        axes.minorticks_off()
        axes.set_xlabel("stored bits an entry")
        _label(axes, ends)
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
        for method, [(x, y, low, high)] in points.items():
            bold = method == looks.default
            colour, marker = looks.colours[method], looks.markers[method]
            axes.plot([x, x], [low, high], color=colour, linewidth=1.2)
            axes.plot(x, y, marker, color=colour, markersize=10 if bold else 7, zorder=4 + bold)
            ends.append(_End(x, y, method, colour, marker, bold))
        axes.set_xscale("log")
        low, high = min(end.x for end in ends) / 1.6, max(end.x for end in ends) * 1.6
        _log_range(axes, [end.y for end in ends])
        axes.set_xlim(low, high)
        steps = (1, 3) if high < 300 * low else (1,)
        ticks = [m * 10.0**e for e in range(-6, 6) for m in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("seconds to compress")
        _label(axes, ends)
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
    axes: Any, method: str, points: Sequence[tuple[float, float, float, float]], looks: Looks
) -> _End:
    x, y, low, high = zip(*points, strict=True)
    colour, marker = looks.colours[method], looks.markers[method]
    bold = method == looks.default
    if any(a < b for a, b in zip(low, high, strict=True)):
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        x,
        y,
        color=colour,
        marker=marker,
        markersize=5.5 if bold else 4,
        linewidth=2.8 if bold else 1.0,
        zorder=4 if bold else 3,
    )
    return _End(x[-1], y[-1], method, colour, marker, bold)


def _axes(made: Any) -> Any:
    axes = made.add_axes((_LEFT, _LOW, _RIGHT - _LEFT, _HIGH - _LOW), facecolor="none")
    axes.grid(True, which="major", color=GREY, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _log_range(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic axis of three decades at most, with plain ticks."""
    high = 1.12 * max(values)
    low = max(min(values) / 1.12, high * 1e-3)
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


def _label(axes: Any, ends: list[_End]) -> None:
    """Names right of the axes, in the order of the ends, with a thin line from each."""
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
            fontweight="bold" if end.bold else "normal",
        )


def _shorten(text: str) -> str:
    """What fits right of the axes; the last word tells methods apart more often than the middle."""
    if len(text) <= _LETTERS:
        return text
    last = text.split()[-1]
    kept = _LETTERS - len(last) - 2
    return f"{text[:kept]}… {last}" if kept > 5 else f"{text[: _LETTERS - 1]}…"


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
