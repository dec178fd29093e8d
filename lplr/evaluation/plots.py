"""Pictures of errors: against stored bits for several matrices, and method by method for one."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from lplr.evaluation.figures import figure_style, plain_axes
from lplr.evaluation.sheet import DIM, Sheet
from lplr.evaluation.styles import in_order, style_of

__all__ = ["Curves", "draw_curves", "draw_errors", "error_axes"]

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # by method: bits and errors

_LIMIT = "limit"
_YARDSTICK = (
    "yardstick: two Gaussian factors with the same singular values, coded\n"
    "ideally. Not a bound: what uses more structure can go below."
)


def draw_curves(path: str | os.PathLike[str], panels: Mapping[str, Curves]) -> None:
    """Rate-distortion curves, a panel for each matrix, as a PNG file; a file is replaced.

    Parameters
    ----------
    path : str or path-like
    panels : mapping of str to mapping of str to (bits, errors)
        By title and method: stored bits per entry, ascending, and relative errors. The method
        "limit" is the yardstick.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.plots import draw_curves
    >>> curves = {"naive": ([1, 2], [0.2, 0.1]), "limit": ([1, 2], [0.1, 0.05])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_curves(os.path.join(folder, "x.png"), {"a matrix": curves})
    ...     os.listdir(folder)
    ['x.png']
    """
    wide = min(2, len(panels))
    high = math.ceil(len(panels) / wide)
    pitch = Sheet.WIDTH / wide
    methods = in_order({name for curves in panels.values() for name in curves if name != _LIMIT})
    families = [list(group) for _, group in groupby(methods, lambda m: style_of(m).family)]
    lines = max(map(len, families))
    yardstick = any(_LIMIT in curves for curves in panels.values())
    top, panel = 22, 190  # pixels of the headline, and of a panel with its labels
    with figure_style():
        sheet = Sheet(top + high * panel + 8 + 16 * lines + 30 * yardstick)
        sheet.text(4, 5, "Relative error against stored bits per entry", 12, weight="bold")
        sheet.text(396, 6, "lower is better", color=DIM, ha="right")
        for i, (title, curves) in enumerate(panels.items()):
            row, column = divmod(i, wide)
            x, y = column * pitch, top + row * panel
            head, _, size = title.partition(", ")
            sheet.text(x + 34, y + 6, head, 11)
            sheet.text(x + pitch - 4, y + 6.5, size, 10, color=DIM, ha="right")
            error_axes(sheet.axes(x + 34, y + 24, pitch - 40, panel - 46), curves)
        foot = top + high * panel + 8
        for x, family in zip((4, 130, 258), families, strict=False):
            for i, method in enumerate(family):
                sheet.key(x, foot + 16 * i, style_of(method))
        if yardstick:
            foot += 16 * lines
            sheet.key(4, foot, style_of(_LIMIT), _YARDSTICK)
        sheet.save(path)


def error_axes(axes: Any, curves: Curves) -> None:
    """Curves of errors in axes that are logarithmic in both directions.

    The range is that of the methods that are no more than four times better than the one in bold;
    where another one leaves it below, an arrow says with which error.
    """
    plain_axes(axes)
    for name, curve in curves.items():
        axes.plot(*curve, **style_of(name).line(0.85))
    bits = sorted(b for name, (own, _) in curves.items() if name != _LIMIT for b in own)
    errors = [e for _, own in curves.values() for e in own]
    bold = [min(own) for name, (_, own) in curves.items() if style_of(name).bold]
    low = max(min(errors), min(bold) / 4 if bold else 0.0, 1e-6)
    shown = [e for e in errors if e >= low]
    low, high = min(shown) / 1.25, 1.12 * max(shown)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(bits[0] / 1.12, bits[-1] * 1.12)
    axes.set_ylim(low, high)
    powers = 2.0 ** np.arange(round(math.log2(bits[0])), round(math.log2(bits[-1])) + 1)
    axes.set_xticks(powers, [f"{power:g}" for power in powers])
    steps = (1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 5, 7)
    ticks = [m * 10.0**e for e in range(-7, 1) for m in steps if low < m * 10.0**e <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    for name, (own, values) in curves.items():
        if min(values) < low:
            _point_below(axes, name, own, values, low)


def _point_below(
    axes: Any, name: str, bits: Sequence[float], errors: Sequence[float], low: float
) -> None:
    """An arrow where a curve leaves the axes below, with the error that it goes to."""
    end = next(i for i, error in enumerate(errors) if error < low)
    x = bits[end]
    if end:  # where the line crosses the edge
        heights = np.log([max(errors[end], 1e-12), errors[end - 1]])
        x = float(np.exp(np.interp(math.log(low), heights, np.log([bits[end], bits[end - 1]]))))
    value = "no error" if errors[end] < 1e-6 else f"{errors[end]:.2g}"
    axes.annotate(
        f"{style_of(name).label}:\n{value} at {bits[end]:.3g} bits",
        (x, low),
        (0.03, 0.06),
        textcoords="axes fraction",
        fontsize=11,
        color=style_of(name).colour,
        arrowprops={"arrowstyle": "->", "color": style_of(name).colour, "shrinkA": 2},
    )


def draw_errors(
    path: str | os.PathLike[str], title: str, errors: Mapping[str, float], note: str = ""
) -> None:
    """The error of each method on a line of its own, the least first, as a PNG file.

    Parameters
    ----------
    path : str or path-like
        An existing file is replaced.
    title : str
    errors : mapping of str to float
        By method.
    note : str
        Below the picture.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.plots import draw_errors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_errors(os.path.join(folder, "x.png"), "a title", {"lplr": 0.2})
    ...     os.listdir(folder)
    ['x.png']
    """
    line = 30
    foot = 30 + line * len(errors) + 22
    with figure_style():
        sheet = Sheet(foot + 16)
        sheet.text(4, 5, title, 12, weight="bold")
        axes = plain_axes(sheet.axes(152, 30, 200, line * len(errors)))
        axes.set_yticks([])
        axes.set_ylim(len(errors) - 0.5, -0.5)
        axes.set_xlim(0, 1.08 * max(errors.values()))
        axes.locator_params(axis="x", nbins=5)
        for i, method in enumerate(sorted(errors, key=lambda method: errors[method])):
            style, y = style_of(method), 30 + line * (i + 0.5)
            axes.hlines(i, 0, errors[method], color=style.colour, linewidth=1.5)
            axes.plot(errors[method], i, **style.line(1.5))
            how: dict[str, Any] = {"ha": "right", "va": "center"}
            how["weight"] = "bold" if style.bold else "normal"
            sheet.text(146, y, style.label, color=style.colour, **how)
            sheet.text(396, y, f"{errors[method]:.3f}", **how)
        sheet.text(4, foot, note, 9.5, color=DIM)
        sheet.save(path)
