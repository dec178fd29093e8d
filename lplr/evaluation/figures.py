"""What all figures share: colours, the names at the ends of curves, and the PNG file.

Matplotlib's objects alone: no pyplot, no global state, and the Agg canvas, so no display either.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lplr.evaluation.labels import apart
from lplr.storage.atomic import write_atomic

__all__ = ["COLOURS", "MARKERS", "label_ends", "new_figure", "save_png"]

# Okabe and Ito, "Color universal design", 2008: the colour-blind can tell them apart. The yellow
# is left out, too pale on white; wine, the last, is Paul Tol's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def new_figure(width: float, height: float) -> Any:
    """An empty white figure.

    Parameters
    ----------
    width, height : float
        Inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG file; an existing one is replaced, and never half.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or path-like

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    buffer = io.BytesIO()
    # Without the version of Matplotlib, equal figures are equal files.
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_atomic(path, [buffer.getvalue()], overwrite=True)


def label_ends(
    axes: Any,
    ends: Sequence[tuple[float, float, str, str]],
    gap: float = 0.058,
    size: float = 9.5,
) -> None:
    """Names right of where the curves end, moved apart where they would overlap.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Logarithmic in y, with its limits set.
    ends : sequence of (x, y, text, colour)
    gap : float
        Height of a line of text, of that of the axes.
    size : float
        Of the letters, in points.
    """
    low, high = np.log(axes.get_ylim())
    ends = sorted(ends, key=lambda end: end[1])
    wanted = (np.log([y for _, y, _, _ in ends]) - low) / (high - low)
    heights = apart(wanted, gap)
    for height, (x, y, text, colour) in zip(heights, ends, strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkB": 5,
            },
        )
