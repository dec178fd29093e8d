"""The charts of a network's page: what is lost against size, and its layers by depth."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from lplr.evaluation.charts import Points, new_chart, plain_ticks
from lplr.evaluation.figures import CurveEnd, figure_style, label_ends, new_figure
from lplr.evaluation.styles import Style, font_size

__all__ = ["heat_chart", "size_chart"]

_WIDTH = 5.2  # inches
_SIZE = font_size(_WIDTH, 11)  # points of letters
_GAP = 0.075  # of the height of the axes, between two names
_COLOURS = "cividis"  # even in lightness, to the colour-blind too


def size_chart(
    axis: str,
    curves: Mapping[str, Points],
    styles: Mapping[str, Style],
    *,
    log: bool,
    apart: Container[str] = (),
) -> Any:
    """What was measured of networks against their stored bits.

    Parameters
    ----------
    axis : str
        What was measured.
    curves : mapping of str to sequence of (bits, value, least, greatest)
        By method, ascending in bits.
    styles : mapping of str to Style
        Of each method.
    log : bool
        Whether values fall towards 0.
    apart : container of str
        Those whose points are different things, which no line joins.

    Returns
    -------
    matplotlib.figure.Figure
    """
    points = [point for curve in curves.values() for point in curve]
    bits = [x for x, *_ in points]
    with figure_style():
        figure, axes = new_chart()
        if log:
            values = [y for _, y, *_ in points if y > 0]
            low, high = min(values) / 1.3, max(values) * 1.3
            axes.set_yscale("log")
            axes.set_ylim(low, high)
            steps = (
                (1, 1.5, 2, 3, 5, 7) if high < 12 * low else (1, 2, 5) if high < 200 * low else (1,)
            )
            plain_ticks(axes.set_yticks, low, high, steps)
        else:
            low, high = min(p[2] for p in points), max(p[3] for p in points)
            margin = 0.08 * (high - low) or 0.05
            axes.set_ylim(low - margin, high + margin)
        low, high = min(bits) / 1.15, max(bits) * 1.15
        axes.set_xscale("log", base=2)
        widths = [b for b in (0.5, 1, 1.5, 2, 2.5, 3, 4, 6, 8, 16, 32) if low <= b <= high]
        if len(widths) > 6:
            widths = [b for b in widths if math.log2(b).is_integer()]
        axes.set_xticks(widths, [f"{b:g}" for b in widths])
        axes.set_xlim(low, high)
        axes.minorticks_off()
        ends = []
        for method, curve in curves.items():
            style = styles[method]
            x, y, least, greatest = (np.array(values) for values in zip(*curve, strict=True))
            axes.vlines(x, least, greatest, color=style.colour, linewidth=1.2)
            axes.plot(x, y, **style.line() | ({"linestyle": "none"} if method in apart else {}))
            end = style.colour, style.marker, 1 + style.bold, style.full
            ends.append(CurveEnd(x[-1], y[-1], method, *end))
        axes.set_xlabel("stored bits per weight of the layers", fontsize=_SIZE)
        axes.set_ylabel(axis, labelpad=2, fontsize=_SIZE)
        label_ends(axes, ends, _GAP, _SIZE)
    return figure


def heat_chart(values: np.ndarray, rows: Sequence[str], axis: str) -> Any:
    """A number of each layer, as a colour: a row for each kind, a column for each block.

    Parameters
    ----------
    values : ndarray of shape (kinds, blocks)
        NaN where there is none.
    rows : sequence of str
        The kinds.
    axis : str
        What the numbers are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    kinds, blocks = values.shape
    high = 0.27 * kinds + 1.25  # inches
    left = (0.095 * max(map(len, rows)) + 0.12) / _WIDTH
    with figure_style():
        figure = new_figure(_WIDTH, high, "none")
        axes = figure.add_axes((left, 1.1 / high, 0.985 - left, 0.27 * kinds / high))
        bar = figure.add_axes((left, 0.42 / high, 0.985 - left, 0.13 / high))
        mesh = axes.pcolormesh(
            np.ma.masked_invalid(values), cmap=_COLOURS, edgecolors="none", linewidth=0
        )
        axes.set_facecolor("none")
        axes.invert_yaxis()
        axes.set_yticks(np.arange(kinds) + 0.5, rows)
        step = max(1, round(blocks / 6))
        axes.set_xticks(np.arange(0, blocks, step) + 0.5, [str(i) for i in range(0, blocks, step)])
        axes.set_xlabel("block", fontsize=_SIZE, labelpad=1)
        scale = figure.colorbar(mesh, cax=bar, orientation="horizontal")
        scale.set_label(axis, fontsize=_SIZE, labelpad=1)
        scale.outline.set_visible(False)
        scale.locator = _few_ticks()
        for each in (axes, bar):
            each.tick_params(length=2, labelsize=_SIZE)
            for spine in each.spines.values():
                spine.set_visible(False)
    return figure


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)
