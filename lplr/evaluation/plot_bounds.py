"""Figures of bounds: measured against bound as one parameter varies.

A panel shows one statement. Above, on logarithmic axes, the mean of the measured values with bands
of their quantiles, and the bound as a dashed line; below, the share of the bound that is measured,
where the factor between the two can be read off.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lplr.evaluation.bound_panels import BoundPanel, values_of
from lplr.evaluation.figures import (
    DASHED,
    MARKERS,
    PALETTE,
    CurveEnd,
    figure_style,
    label_ends,
    new_figure,
    plain_axes,
    save_png,
)
from lplr.theory.records import Cell

__all__ = ["draw_bounds", "figure_of_bounds"]

_WIDTH, _HEIGHT, _FOOT = 5.6, 4.75, 0.5  # inches of a panel, and of the line below all
_LINE = 0.085  # height of a line of text, as a share of the height of the upper axes
_BANDS = ((0, 4, 0.14), (1, 3, 0.26))  # of the quantiles 5, 25, 50, 75, 95 %, and how dark


def draw_bounds(path: str | os.PathLike[str], panels: Sequence[BoundPanel]) -> None:
    """Measured against bound, a panel for each statement, as a PNG file; a file is replaced.

    Parameters
    ----------
    path : str or path-like
    panels : sequence of BoundPanel
        At least one.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.bound_panels import panels_of
    >>> from lplr.evaluation.plot_bounds import draw_bounds
    >>> from lplr.theory.montecarlo import run
    >>> panels = panels_of(run("range-finder-bound", trials=2, rng=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_bounds(os.path.join(folder, "x.png"), panels)
    ...     os.listdir(folder)
    ['x.png']
    """
    save_png(figure_of_bounds(panels), path)


def figure_of_bounds(panels: Sequence[BoundPanel]) -> Any:
    """The figure that `draw_bounds` writes.

    Parameters
    ----------
    panels : sequence of BoundPanel
        At least one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    wide = 1 if len(panels) == 1 else 2 if len(panels) < 5 else 3 if len(panels) < 13 else 4
    high = math.ceil(len(panels) / wide)
    size = _WIDTH * wide, _HEIGHT * high + _FOOT
    with figure_style():
        figure = new_figure(*size)
        for i, panel in enumerate(panels):
            row, column = divmod(i, wide)
            _draw_panel(figure, panel, column * _WIDTH, (high - 1 - row) * _HEIGHT + _FOOT, size)
        words = [bool(panel.words) for panel in panels]
        bound = " or ".join(["a dashed line"] * (not all(words)) + ["a bar"] * any(words))
        legend = f"Mean of the trials, with their 5 to 95 % and 25 to 75 %; the bound is {bound}."
        verdicts = {cell.verdict for panel in panels for cell in panel.cells}
        signs = {
            "assumption not met": "hollow: its assumption is not met",
            "refuted": "cross: refuted",
        }
        notes = "; ".join(sign for verdict, sign in signs.items() if verdict in verdicts)
        if notes:
            legend += f"{chr(10) if wide == 1 else chr(32)}{notes.capitalize()}."
        figure.text(0.18 / size[0], 0.1 / size[1], legend, fontsize=9, color="#444444")
    return figure


def _draw_panel(
    figure: Any, panel: BoundPanel, left: float, bottom: float, size: tuple[float, float]
) -> None:
    """One panel, its lower left corner there."""

    def axes(x: float, y: float, w: float, h: float) -> Any:
        width, height = size
        box = (left + x) / width, (bottom + y) / height, w / width, h / height
        return plain_axes(figure.add_axes(box))

    def text(below: float, words: str, letters: float, colour: str) -> None:
        place = (left + 0.18) / size[0], (bottom + _HEIGHT - below) / size[1]
        words = words if len(words) <= 88 else words[:87].rstrip() + "…"
        figure.text(*place, words, fontsize=letters, color=colour)

    words = panel.words
    foot = 0.9 if words else 0.62
    across = _WIDTH - 1.15 - 0.078 * max(len(name) for name in panel.series)
    lower = axes(0.75, foot, across, 1.05)
    upper = axes(0.75, foot + 1.2, across, _HEIGHT - foot - 1.2 - 0.85)
    fixed = ", ".join(f"{key} = {_plain(value)}" for key, value in panel.fixed.items())
    text(0.25, panel.title, 11, "black")
    text(0.48, panel.note, 8.5, "#444444")
    text(0.69, fixed, 8.5, "#666666")
    ends = []
    for i, (name, cells) in enumerate(panel.series.items()):
        at = [c.setting[panel.parameter] for c in cells]
        if words:  # at 0, 1, 2, ...
            x = np.array([words.index(v) for v in at]) + 0.22 * (i - (len(panel.series) - 1) / 2)
        else:
            x = np.array(at, float)
        colour = PALETTE[i % len(PALETTE)]
        draw = _draw_bars if words else _draw_series
        draw(upper, lower, x, cells, colour, MARKERS[i % len(MARKERS)])
        ends.append(CurveEnd(float(x[-1]), cells[-1].mean, name, colour))
    shown = [v for c in panel.cells for v in (c.mean, c.bound)]
    upper.set_yscale("log")
    upper.set_ylim(0.6 * min(shown), 1.8 * max(shown))
    _plain_decades(upper)
    _scale_ratio(lower, panel)
    for ax in (upper, lower):
        _scale_parameter(ax, panel)
        ax.tick_params(labelsize=9)
    upper.tick_params(labelbottom=False)
    upper.set_ylabel("measured, bound", fontsize=9.5)
    lower.set_ylabel("measured / bound", fontsize=8)
    lower.set_xlabel(panel.parameter, fontsize=9.5)
    if len(ends) > 1:
        label_ends(upper, ends, gap=_LINE, size=9)


def _draw_series(
    upper: Any, lower: Any, x: np.ndarray, cells: Sequence[Cell], colour: str, marker: str
) -> None:
    """Curves and bands above a parameter of numbers."""
    quantiles, mean, bound = _columns(cells)
    for low, high, alpha in _BANDS:
        for ax, scale in ((upper, 1.0), (lower, bound)):
            ends = quantiles[:, low] / scale, quantiles[:, high] / scale
            ax.fill_between(x, *ends, color=colour, alpha=alpha, linewidth=0)
    upper.plot(x, bound, color=colour, linestyle=DASHED, linewidth=1.4)
    for ax, y in ((upper, mean), (lower, mean / bound)):
        ax.plot(x, y, color=colour, linewidth=1.4, zorder=3)
        _mark(ax, x, y, cells, colour, marker)


def _draw_bars(
    upper: Any, lower: Any, x: np.ndarray, cells: Sequence[Cell], colour: str, marker: str
) -> None:
    """Bars above words, between which there is nothing to draw a curve through."""
    quantiles, mean, bound = _columns(cells)
    for ax, scale in ((upper, 1.0), (lower, bound)):
        for low, high, width in ((0, 4, 1.2), (1, 3, 3.5)):
            ends = quantiles[:, low] / scale, quantiles[:, high] / scale
            ax.vlines(x, *ends, color=colour, linewidth=width, alpha=0.5)
        _mark(ax, x, mean / scale, cells, colour, marker)
    upper.hlines(bound, x - 0.1, x + 0.1, color=colour, linewidth=1.8)


def _columns(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    quantiles = np.array([cell.quantiles for cell in cells])
    quantiles[quantiles[:, 0] <= 0] = np.nan  # of what is 0 or 1, say: no band on these axes
    return quantiles, np.array([c.mean for c in cells]), np.array([c.bound for c in cells])


def _mark(
    axes: Any, x: np.ndarray, y: np.ndarray, cells: Sequence[Cell], colour: str, marker: str
) -> None:
    """Markers: full where the statement holds, hollow where it says nothing, crossed if refuted."""
    for at, height, cell in zip(x, y, cells, strict=True):
        face = "white" if cell.verdict == "assumption not met" else colour
        axes.plot(at, height, marker, color=colour, mfc=face, markersize=4.5, zorder=4)
        if cell.verdict == "refuted":
            axes.plot(at, height, "x", color="black", markersize=9, mew=1.8, zorder=5)


def _scale_ratio(axes: Any, panel: BoundPanel) -> None:
    ratios = [c.mean / c.bound for c in panel.cells]
    axes.axhline(1.0, color="black", linestyle=DASHED, linewidth=1.2)
    low, high = min(*ratios, 1.0), max(*ratios, 1.0)
    if low > 0.1 and high < 5:
        axes.set_ylim(0.0, 1.15 * high)
        return
    axes.set_yscale("log")
    axes.set_ylim(0.6 * low, 1.8 * high)
    _plain_decades(axes)


def _plain_decades(axes: Any) -> None:
    """Ticks at round numbers where there are few powers of ten, none between them else."""
    low, high = axes.get_ylim()
    if high < 200 * low:
        steps = (1, 2, 5) if high < 20 * low else (1,)
        ticks = [m * 10.0**e for e in range(-30, 12) for m in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _scale_parameter(axes: Any, panel: BoundPanel) -> None:
    if panel.words:
        axes.set_xticks(range(len(panel.words)), panel.words, rotation=25, ha="right")
        axes.set_xlim(-0.5, len(panel.words) - 0.5)
        return
    ticks = sorted(values_of(panel.cells, panel.parameter))
    # Bits are logarithms already; what else grows by factors is even on a logarithmic axis.
    even = len(ticks) < 2 or np.diff(ticks).max() <= 1.5 * np.diff(ticks).min()
    if "bits" not in panel.parameter and 0 < 6 * ticks[0] < ticks[-1] and not even:
        axes.set_xscale("log")
        axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
    else:
        margin = 0.05 * (ticks[-1] - ticks[0]) or 1.0
        axes.set_xlim(ticks[0] - margin, ticks[-1] + margin)
    step = math.ceil(len(ticks) / 8)
    axes.set_xticks(ticks[::step], [_plain(tick) for tick in ticks[::step]])
    axes.minorticks_off()


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
