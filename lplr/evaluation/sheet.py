"""A picture that is laid out in the pixels of a telephone."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lplr.evaluation.figures import new_figure, save_png
from lplr.evaluation.styles import INK, Style

__all__ = ["DIM", "Sheet"]

DIM = "#555555"  # of what is less important


class Sheet:
    """A PNG picture that is 400 pixels wide where there is least room, laid out in these pixels.

    Everything has its place and size in pixels of that width, counted from the upper left corner;
    the file has twice as many. So letters of 10 pixels are what they are on a telephone.

    Parameters
    ----------
    height : float
    """

    WIDTH = 400
    _PER_INCH, _POINTS = 60, 1.2  # of a pixel: 72 points are an inch

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = new_figure(self.WIDTH / self._PER_INCH, height / self._PER_INCH)

    def text(self, x: float, y: float, words: str, size: float = 10.5, **how: Any) -> None:
        """Words whose upper left corner is at (x, y), unless ``ha`` and ``va`` say otherwise."""
        how = {"va": "top", "color": INK, "linespacing": 1.15} | how
        place = x / self.WIDTH, 1 - y / self.height
        self.figure.text(*place, words, fontsize=size * self._POINTS, **how)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes that take this room, without their labels."""
        low = 1 - (y + height) / self.height
        box = x / self.WIDTH, low, width / self.WIDTH, height / self.height
        axes = self.figure.add_axes(box)
        axes.tick_params(length=4, labelsize=10 * self._POINTS, pad=3)
        return axes

    def image(self, x: float, y: float, width: float, image: np.ndarray) -> None:
        """A picture of grey values, 0 to 1."""
        axes = self.axes(x, y, width, width * image.shape[0] / image.shape[1])
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()

    def key(self, x: float, y: float, style: Style, words: str = "") -> None:
        """A piece of the line of a method and its name, or other words, for a legend."""
        from matplotlib.lines import Line2D

        ends = np.array([x, x + 12, x + 24]) / self.WIDTH
        line = Line2D(ends, np.full(3, 1 - (y + 6) / self.height), markevery=[1], **style.line())
        self.figure.add_artist(line)
        self.text(x + 28, y, words or style.label, 9.5)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; an existing file is replaced."""
        save_png(self.figure, path)
