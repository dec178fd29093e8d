"""Figures of bounds: measured against bound as one parameter varies, one figure a statement.

Above, on logarithmic axes, the mean of the measured values with bands of their quantiles, and the
bound as a dashed line; below, the share of the bound that is measured, where the factor between the
two can be read off.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lplr.evaluation.bound_panels import BoundPanel, in_mathematics, values_of
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
    save_png,
)
from lplr.evaluation.styles import font_size
from lplr.exceptions import InputError
from lplr.storage.atomic import write_atomic
from lplr.theory.records import Cell

__all__ = ["draw_bounds", "figure_of_bound", "files_of_bounds"]

_WIDTH = 5.0  # inches
_HEAD, _TEXT, _SMALL = (font_size(_WIDTH, pixels) for pixels in (13, 10, 9.4))
_DIM = "#555555"
_RIGHT, _BELOW, _UPPER, _LOWER = 0.75, 0.46, 2.3, 1.05  # left and below the axes; their heights
_LINE = 0.085  # height of a line of text, as a share of the height of the upper axes
_BANDS = ((0, 4, 0.14), (1, 3, 0.26))  # of the quantiles 5, 25, 50, 75, 95 %, and how dark
_SIGNS = {"assumption not met": "hollow: its assumption is not met", "refuted": "cross: refuted"}


def files_of_bounds(path: str | os.PathLike[str], names: Sequence[str]) -> list[Path]:
    """The files that `draw_bounds` writes for statements of these names.

    Parameters
    ----------
    path : str or path-like
        As in `draw_bounds`.
    names : sequence of str

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If the name is not one of a .pdf, .png, .svg or folder, or several statements are to go
        into one picture.
    """
    target = Path(path)
    if not target.suffix or target.is_dir():
        return [target / f"{name}.png" for name in names]
    if target.suffix.lower() not in (".pdf", ".png", ".svg"):
        raise InputError(f"{path}: a picture of bounds is a .pdf, a .png, a .svg or a folder")
    if target.suffix.lower() != ".pdf" and len(names) > 1:
        raise InputError(
            f"{path}: {len(names)} statements make {len(names)} pictures; name a .pdf for a page "
            "each, a folder for a .png each, or one statement"
        )
    return [target]


def draw_bounds(path: str | os.PathLike[str], panels: Sequence[BoundPanel]) -> None:
    """Measured against bound, a figure for each statement; existing files are replaced.

    Parameters
    ----------
    path : str or path-like
        A .pdf file with a page for each; a folder, made where it is missing, with a .png for each;
        or the .png or .svg file of one.
    panels : sequence of BoundPanel
        At least one.

    Raises
    ------
    InputError
        As `files_of_bounds`.
    StorageError
        If a file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.bound_panels import panels_of
    >>> from lplr.evaluation.plot_bounds import draw_bounds
    >>> from lplr.theory.montecarlo import run
    >>> panels = panels_of(run(["range_finder_bound", "pseudo-inverse"], trials=2, rng=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_bounds(os.path.join(folder, "pictures"), panels)
    ...     sorted(os.listdir(os.path.join(folder, "pictures")))
    ['pseudo-inverse.png', 'range-finder-bound.png']
    """
    files = files_of_bounds(path, [panel.title for panel in panels])
    if files[0].suffix.lower() == ".pdf":
        _save_pdf(panels, files[0])
        return
    if files[0].parent == Path(path):
        files[0].parent.mkdir(exist_ok=True)
    for panel, file in zip(panels, files, strict=True):
        figure = figure_of_bound(panel)
        if file.suffix.lower() == ".png":
            save_png(figure, file)
            continue
        buffer = io.BytesIO()
        with _fonts_inside():
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        write_atomic(file, [buffer.getvalue()], overwrite=True)


@contextmanager
def _fonts_inside() -> Iterator[None]:
    """The style of the figures, in files that look the same where a font is missing."""
    from matplotlib import rc_context

    with figure_style(), rc_context({"pdf.fonttype": 42, "svg.fonttype": "path"}):
        yield


def _save_pdf(panels: Sequence[BoundPanel], file: Path) -> None:
    from matplotlib.backends.backend_pdf import PdfPages

    buffer, unsaid = io.BytesIO(), dict.fromkeys(("CreationDate", "Producer", "Creator"))
    with _fonts_inside(), PdfPages(buffer, metadata=unsaid) as pages:
        for panel in panels:
            pages.savefig(figure_of_bound(panel))
    write_atomic(file, [buffer.getvalue()], overwrite=True)


def figure_of_bound(panel: BoundPanel) -> Any:
    """The figure of one statement.

    Parameters
    ----------
    panel : BoundPanel

    Returns
    -------
    matplotlib.figure.Figure
    """
    note = textwrap.wrap(panel.note, 66)
    fixed = ", ".join(f"{key} = {_plain(value)}" for key, value in panel.fixed.items())
    shown = [fixed, panel.omitted] if panel.omitted else [fixed]
    lines = [*note, *(line for text in shown for line in textwrap.wrap(text, 74))]
    foot = _BELOW + (0.3 if panel.words else 0)
    above = 0.5 + 0.2 * len(lines)
    legend = textwrap.wrap(_legend(panel), 74)
    below = foot + 0.15 + 0.19 * len(legend)
    height = above + _UPPER + 0.12 + _LOWER + below
    across = _WIDTH - _RIGHT - 0.35 - 0.08 * max(len(name) for name in panel.series)
    with figure_style():
        figure = new_figure(_WIDTH, height)

        def text(down: float, words: str, letters: float, colour: str) -> None:
            place = 0.15 / _WIDTH, 1 - down / height
            figure.text(*place, words, fontsize=letters, color=colour, va="top")

        def axes(down: float, tall: float) -> Any:
            box = (
                *(_RIGHT / _WIDTH, 1 - (down + tall) / height),
                *(across / _WIDTH, tall / height),
            )
            return plain_axes(figure.add_axes(box))

        text(0.12, panel.title, _HEAD, INK)
        for i, line in enumerate(lines):
            text(0.4 + 0.2 * i, line, _TEXT, INK if i < len(note) else _DIM)
        for i, line in enumerate(legend):
            text(height - below + foot + 0.05 + 0.19 * i, line, _SMALL, _DIM)
        _draw(axes(above, _UPPER), axes(above + _UPPER + 0.12, _LOWER), panel)
    return figure


def _legend(panel: BoundPanel) -> str:
    bound = "a bar" if panel.words else "a dashed line"
    verdicts = {cell.verdict for cell in panel.cells}
    signs = [sign for verdict, sign in _SIGNS.items() if verdict in verdicts]
    trials = panel.cells[0].trials
    return (
        f"Mean of {trials} trials, with their 5 to 95 % and 25 to 75 %; the bound is {bound}."
        + (f" {'; '.join(signs).capitalize()}." if signs else "")
    )


def _draw(upper: Any, lower: Any, panel: BoundPanel) -> None:
    """Measured and bound, and their ratio below."""
    words, ends = panel.words, []
    for i, (name, cells) in enumerate(panel.series.items()):
        at = [c.setting[panel.parameter] for c in cells]
        if words:  # at 0, 1, 2, ...
            x = np.array([words.index(v) for v in at]) + 0.22 * (i - (len(panel.series) - 1) / 2)
        else:
            x = np.array(at, float)
        colour = PALETTE[i % len(PALETTE)]
        draw = _draw_bars if words else _draw_series
        draw(upper, lower, x, cells, colour, MARKERS[i % len(MARKERS)])
        ends.append(CurveEnd(float(x[-1]), cells[-1].mean, in_mathematics(name), colour))
    shown = [v for c in panel.cells for v in (c.mean, c.bound)]
    upper.set_yscale("log")
    upper.set_ylim(0.6 * min(shown), 1.8 * max(shown))
    _plain_decades(upper)
    _scale_ratio(lower, panel)
    for ax in (upper, lower):
        _scale_parameter(ax, panel)
        ax.tick_params(labelsize=_TEXT)
    upper.tick_params(labelbottom=False)
    upper.set_ylabel("measured, bound", fontsize=_TEXT)
    lower.set_ylabel("measured/bound", fontsize=_SMALL)
    lower.set_xlabel(panel.parameter, fontsize=_TEXT)
    if len(ends) > 1:
        label_ends(upper, ends, gap=_LINE, size=_TEXT)


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
        names = map(in_mathematics, panel.words)
        axes.set_xticks(range(len(panel.words)), names, rotation=25, ha="right")
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
