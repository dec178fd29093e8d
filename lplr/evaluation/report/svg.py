"""Matplotlib's figures as SVG that can stand beside others inside one HTML page.

Three things keep a page from being broken by an SVG that is pasted into it: ids that occur twice,
style rules that reach beyond the picture, and colours that are only readable on white. Ids get the
name of the figure in front, the rules go, and the colours become variables of the page's style.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

__all__ = ["GREY", "INK", "PALETTE", "figure", "inline", "settings"]

# Okabe and Ito, "Color universal design", 2008; lower-case as Matplotlib writes them.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, GREY = "#111111", "#dddddd"
_VARIABLES = {INK: "var(--ink)", GREY: "var(--rule)"} | {
    colour: f"var(--c{i})" for i, colour in enumerate(PALETTE)
}
_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: it can be searched, selected and read aloud
    "svg.hashsalt": "lplr",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "axes.unicode_minus": True,
    "path.simplify": True,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def figure(width: float, height: float) -> Any:
    """An empty figure without a background.

    Parameters
    ----------
    width, height : float
        Inches; in the page, a viewBox of 72 units an inch that is scaled to its column.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), facecolor="none")
    FigureCanvasSVG(made)
    return made


def settings() -> Any:
    """A context with the settings of all charts, those of the user aside."""
    from matplotlib import style

    # The defaults first: a style of the user's would change the bytes from machine to machine.
    return style.context(["default", _SETTINGS])


def inline(made: Any, name: str, text: str) -> str:
    """A figure as an ``<svg>`` element that depends on nothing and disturbs nothing.

    Parameters
    ----------
    made : matplotlib.figure.Figure
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
    >>> from lplr.evaluation.report.svg import figure, inline
    >>> inline(figure(1, 1), "a", "nothing")[:57]
    '<svg role="img" aria-label="nothing" viewBox="0 0 72 72">'
    """
    buffer = io.StringIO()
    made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    body = buffer.getvalue()
    start = body.index("<svg")
    head, body = body[start:].split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<style\b.*?</style>\s*", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    view = box.group(1) if box else ""
    return f'<svg role="img" aria-label="{html.escape(text)}" viewBox="{view}">{body.strip()}'
