"""Charts of a network: what its parts do alone, how its error grows, and how training lowers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lplr.evaluation.charts import new_chart, plain_ticks
from lplr.evaluation.figures import CurveEnd, figure_style, label_ends, new_figure, plain_axes
from lplr.evaluation.styles import BLUE, INK, VERMILION, Style, font_size, style_of

__all__ = ["alone_chart", "drift_chart", "kinds_chart", "training_chart"]

_WIDTH = 5.2  # inches
_SIZE = font_size(_WIDTH, 11)  # points of letters
_GAP = 0.075  # of the height of the axes, between two names

Measured = tuple[float, float]  # a value and twice its standard error


def alone_chart(axis: str, measured: Sequence[Measured], predicted: Sequence[float] = ()) -> Any:
    """What each block costs when it alone is compressed: a bar for each.

    Parameters
    ----------
    axis : str
        What was measured.
    measured : sequence of (value, band)
        Of each block.
    predicted : sequence of float, optional
        What was expected of each, in the same unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    values, bands = np.array(measured).T
    places = np.arange(len(values))
    with figure_style():
        figure, axes = new_chart()
        axes.set_position((0.15, 0.15, 0.82, 0.8))  # no names at its right
        axes.grid(False, axis="x")
        axes.bar(places, values, 0.72, color=BLUE, label="measured")
        axes.vlines(places, np.maximum(values - bands, 0), values + bands, color=INK, linewidth=1)
        top = float((values + bands).max())
        if len(predicted):
            look = {"markerfacecolor": "none", "markersize": 5.5, "markeredgewidth": 1.4}
            axes.plot(places, predicted, "o", color=VERMILION, label="predicted", **look)
            top = max(top, max(predicted))
            axes.legend(loc="best", fontsize=_SIZE, frameon=False, handletextpad=0.4)
        axes.set_ylim(0, 1.06 * top or 1.0)
        axes.set_xlim(-0.7, len(values) - 0.3)
        step = max(1, round(len(values) / 6))
        axes.set_xticks(places[::step])
        axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel("the block that is compressed", fontsize=_SIZE)
        axes.set_ylabel(axis, labelpad=3, fontsize=_SIZE)
    return figure


def kinds_chart(axis: str, measured: Mapping[str, Measured]) -> Any:
    """What each kind of layer costs when it alone is compressed: a bar for each.

    Parameters
    ----------
    axis : str
        What was measured.
    measured : mapping of str to (value, band)

    Returns
    -------
    matplotlib.figure.Figure
    """
    values, bands = np.array(list(measured.values())).T
    places = np.arange(len(values))
    high = 0.3 * len(values) + 0.75  # inches
    left = (0.095 * max(map(len, measured)) + 0.15) / _WIDTH
    with figure_style():
        figure = new_figure(_WIDTH, high, "none")
        box = (left, 0.62 / high, 0.97 - left, 0.3 * len(values) / high)
        axes = plain_axes(figure.add_axes(box))
        axes.grid(False, axis="y")
        axes.barh(places, values, 0.68, color=BLUE)
        axes.hlines(places, np.maximum(values - bands, 0), values + bands, color=INK, linewidth=1)
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.set_xlim(0, 1.04 * float((values + bands).max()) or 1.0)
        axes.set_yticks(places, list(measured))
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(length=0, axis="y", labelsize=_SIZE)
        axes.tick_params(length=3, axis="x", labelsize=_SIZE)
        axes.set_xlabel(axis, fontsize=_SIZE)
    return figure


def drift_chart(curves: Sequence[tuple[str, Style, Sequence[float]]]) -> Any:
    """The relative error of hidden states after each block, a line for each network.

    Parameters
    ----------
    curves : sequence of (name, style, errors)

    Returns
    -------
    matplotlib.figure.Figure
    """
    with figure_style():
        figure, axes = new_chart()
        ends = []
        for name, style, errors in curves:
            look = style.line() | {"marker": "None"}
            axes.plot(range(1, len(errors) + 1), errors, **look)
            ends.append(CurveEnd(len(errors), errors[-1], name, style.colour, "", 1 + style.bold))
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.locator_params(axis="y", nbins=6)
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.set_xlabel("blocks behind it", fontsize=_SIZE)
        axes.set_ylabel("relative error", labelpad=3, fontsize=_SIZE)
        label_ends(axes, ends, _GAP, _SIZE)
    return figure


def training_chart(
    axis: str, history: Sequence[tuple[int, float]], before: float, stored: float
) -> Any:
    """The loss on held-out sequences by step, with what it was before and what is stored.

    Parameters
    ----------
    axis : str
        The loss.
    history : sequence of (step, loss)
    before, stored : float

    Returns
    -------
    matplotlib.figure.Figure
    """
    style, level = style_of("adapted"), style_of("uncompressed")
    steps, losses = zip(*history, strict=True)
    last = max(steps[-1], 1)
    with figure_style():
        figure, axes = new_chart()
        axes.plot(steps, losses, **style.line() | _marked(len(losses)))
        ends = [CurveEnd(last, losses[-1], "training", style.colour, "o", 2)]
        for value, name in ((before, "as it was"), (stored, "stored")):
            axes.axhline(value, **level.line())
            ends.append(CurveEnd(last, value, name, level.colour, "--", 1))
        values = [value for value in (*losses, before, stored) if value > 0]
        if len(values) == len(losses) + 2:
            low, high = min(values) / 1.08, max(values) * 1.08
            axes.set_yscale("log")
            axes.set_ylim(low, high)
            axes.minorticks_off()
            plain_ticks(axes.set_yticks, low, high, _steps(low, high))
        axes.set_xlim(0, last)
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.set_xlabel("steps", fontsize=_SIZE)
        axes.set_ylabel(axis, labelpad=2, fontsize=_SIZE)
        label_ends(axes, ends, _GAP, _SIZE)
    return figure


def _marked(n: int) -> dict[str, Any]:
    """Markers of a line of n points: a handful, of which one is at its end."""
    return {"marker": "o", "markersize": 4.5, "markevery": [*range(n - 1, -1, -max(1, n // 8))]}


def _steps(low: float, high: float) -> Sequence[float]:
    """Multiples of powers of ten for a handful of ticks."""
    if high > 12 * low:
        return (1, 2, 5)
    if high > 2 * low:
        return (1, 1.5, 2, 3, 5, 7)
    fine = 2 if high > 1.4 * low else 10
    return [i / fine for i in range(fine, 10 * fine)]
