"""The one place where figures are made: their style, the names at the ends of curves, PNG and SVG.

Matplotlib's objects alone: no pyplot, no global state, no display. The style is the same whatever
the user's matplotlibrc says: everything is drawn and saved inside `figure_style`.

Three things keep a page from being broken by an SVG that is pasted into it: ids that occur twice,
style rules that reach beyond the picture, and colours that are only readable on white. Ids get the
name of the figure in front, the rules go, and the colours become variables of the page's style.
"""

from __future__ import annotations

import html
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.evaluation.styles import COLOURS, INK, PAPER, variable
from lplr.exceptions import LplrWarning
from lplr.storage.atomic import write_atomic

__all__ = [
    "DASHED",
    "GREY",
    "INK",
    "MARKERS",
    "PALETTE",
    "CurveEnd",
    "draw_or_warn",
    "figure_style",
    "inline_svg",
    "label_ends",
    "new_figure",
    "plain_axes",
    "save_png",
    "spread_apart",
]

# Okabe and Ito, "Color universal design", 2008: the colour-blind can tell them apart. The yellow
# is left out, too pale on white; wine, the last, is Paul Tol's. Matplotlib writes lower case.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
GREY = "#dddddd"
DASHED = (0, (4, 2))

_VARIABLES = (
    {colour: f"var(--c{i})" for i, colour in enumerate(PALETTE)}
    | {colour: f"var({variable(colour)}, {colour})" for colour in COLOURS}
    | {INK: "var(--ink)", GREY: "var(--rule)", PAPER: "var(--paper)"}
)
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched, selected and read aloud
    "svg.hashsalt": "lplr",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    **{f"{name}color": INK for name in ("text.", "xtick.", "ytick.", "axes.edge", "axes.label")},
}
_LETTERS = 23  # of a name beside the axes


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's own defaults and this package's style, those of the user set aside."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def new_figure(width: float, height: float, background: str = "white") -> Any:
    """An empty figure; its size is in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=background)
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG file; an existing one is replaced, and never half.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    from PIL import Image

    drawn, buffer = io.BytesIO(), io.BytesIO()
    with figure_style():
        figure.savefig(drawn, format="png", dpi=120)
    # Without transparency, the version of Matplotlib and the like: small, and equal for equal ones.
    Image.open(drawn).convert("RGB").save(buffer, format="png", optimize=True)
    write_atomic(path, [buffer.getvalue()], overwrite=True)


def inline_svg(figure: Any, name: str, text: str) -> str:
    """A figure as an ``<svg>`` element that depends on nothing and disturbs nothing.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Letters, digits and hyphens, another one for each figure of a page.
    text : str
        What the picture shows, for those who cannot see it.

    Returns
    -------
    str
        The same for equal figures.

    Examples
    --------
    >>> from lplr.evaluation.figures import inline_svg, new_figure
    >>> inline_svg(new_figure(1, 1, "none"), "a", "nothing")[:57]
    '<svg role="img" aria-label="nothing" viewBox="0 0 72 72">'
    """
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    head, body = buffer.getvalue().partition("<svg")[2].split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    body = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for colour, name_in_page in _VARIABLES.items():
        body = body.replace(colour, name_in_page)
    view = box.group(1) if box else ""
    return f'<svg role="img" aria-label="{html.escape(text)}" viewBox="{view}">{body.strip()}'


def draw_or_warn(
    draw: Callable[..., None], path: str | os.PathLike[str], *args: Any, **options: Any
) -> bool:
    """Whether ``draw(path, *args, **options)`` made its picture.

    Where it fails for any reason, Matplotlib that cannot even be imported included, a warning says
    so, and what was calculated before is not lost.
    """
    try:
        draw(path, *args, **options)
    except Exception as error:
        warnings.warn(
            f"{os.fspath(path)}: was not drawn, everything else is complete: "
            f"{type(error).__name__}: {error}",
            LplrWarning,
            stacklevel=2,
        )
        return False
    return True


def plain_axes(axes: Any) -> Any:
    """Two spines, a light grid behind the curves, no background."""
    axes.set_facecolor("none")
    axes.grid(True, which="major", color=GREY, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


@dataclass(frozen=True)
class CurveEnd:
    """A name, and the point that it belongs to.

    Parameters
    ----------
    x, y : float
        In the units of the axes.
    text, colour : str
    marker : str
        What stands before the name: a marker, ``"--"`` for a dashed line, or nothing; then the
        name itself is in the colour.
    weight : {0, 1, 2}
        In the background, normal, bold.
    full : bool
        Whether the marker is full.
    """

    x: float
    y: float
    text: str
    colour: str
    marker: str = ""
    weight: int = 1
    full: bool = True


def label_ends(
    axes: Any, ends: Sequence[CurveEnd], gap: float = 0.043, size: float | None = None
) -> None:
    """Names right of the axes, moved apart where they would overlap, with a thin line from each.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With its limits set.
    ends : sequence of CurveEnd
    gap : float
        Height of a line of text, as a share of the height of the axes.
    size : float, optional
        Height of the letters, in points.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    places = np.clip([to_axes.transform((end.x, end.y)) for end in ends], 0.0, 1.0)
    order = np.argsort(places[:, 1], kind="stable")
    heights = spread_apart(places[order, 1], min(gap, 1.0 / len(ends)))
    for i, height in zip(order, heights, strict=True):
        end = ends[i]
        here = {"color": end.colour, "transform": axes.transAxes, "clip_on": False}
        axes.plot([places[i, 0], 1.03], [places[i, 1], height], lw=0.5, alpha=0.6, zorder=2, **here)
        if end.marker == "--":
            axes.plot([1.04, 1.085], [height, height], lw=1.3, linestyle=(0, (3, 1.5)), **here)
        elif end.marker:
            inside = end.colour if end.full else PAPER
            axes.plot(1.06, height, end.marker, markersize=5, markerfacecolor=inside, **here)
        axes.text(
            1.105 if end.marker else 1.04,
            height,
            _shorten(end.text) if end.marker else end.text,
            transform=axes.transAxes,
            va="center_baseline",
            color=INK if end.marker else end.colour,
            fontsize=size,
            fontweight="bold" if end.weight == 2 else "normal",
            alpha=1.0 if end.weight else 0.7,
        )


def _shorten(text: str) -> str:
    """What fits right of the axes; the last word tells methods apart more often than the middle."""
    if len(text) <= _LETTERS:
        return text
    last = text.split()[-1]
    room = _LETTERS - len(last) - 2
    return f"{text[:room]}… {last}" if room > 5 else f"{text[: _LETTERS - 1]}…"


def spread_apart(wanted: Sequence[float] | np.ndarray, gap: float) -> np.ndarray:
    """The heights nearest to the wanted ones that are at least ``gap`` apart, from 0 to 1.

    Parameters
    ----------
    wanted : array_like of shape (k,), ascending
    gap : float

    Returns
    -------
    ndarray of shape (k,), ascending

    Notes
    -----
    Least squares under ``h[i + 1] - h[i] >= gap`` is an isotonic regression of
    ``wanted[i] - i gap``. More labels than there is room for go on below 0.

    Examples
    --------
    >>> from lplr.evaluation.figures import spread_apart
    >>> spread_apart([0.1, 0.5, 0.5], 0.2).round(2).tolist()
    [0.1, 0.4, 0.6]
    """
    from scipy.optimize import isotonic_regression

    steps = gap * np.arange(len(wanted))
    heights = isotonic_regression(np.asarray(wanted) - steps).x + steps
    return np.minimum(np.maximum(heights, steps), 1.0 - steps[::-1])
