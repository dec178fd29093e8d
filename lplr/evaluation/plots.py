"""Pictures of curves: errors against stored bits for several matrices, and errors step by step."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from lplr.evaluation.charts import Styles, chart_axes, draw_rates, log_range
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

__all__ = ["draw_curves", "draw_history"]

_WIDTH, _HEIGHT = 6.2, 4.7  # inches of a panel


def draw_curves(
    path: str | os.PathLike[str],
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
) -> None:
    """Rate-distortion curves, a panel for each matrix, as a PNG file; a file is replaced.

    Parameters
    ----------
    path : str or path-like
    panels : mapping of str to mapping of str to (bits, errors)
        By title and name: stored bits per entry, ascending, and relative errors. Curves of one
        name have one colour; the first is bold, and the one called "limit" is dashed.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.plots import draw_curves
    >>> curves = {"a method": ([1, 2], [0.2, 0.1]), "limit": ([1, 2], [0.1, 0.05])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_curves(os.path.join(folder, "x.png"), {"a matrix": curves})
    ...     os.listdir(folder)
    ['x.png']
    """
    names = dict.fromkeys(name for curves in panels.values() for name in curves if name != "limit")
    styles = Styles(next(iter(names)), {name: name for name in names})
    wide = 2 if len(panels) > 1 else 1
    high = math.ceil(len(panels) / wide)
    with figure_style():
        figure = new_figure(_WIDTH * wide, _HEIGHT * high)
        for i, (title, curves) in enumerate(panels.items()):
            row, column = divmod(i, wide)
            axes = chart_axes(
                figure, (column / wide, 1 - (row + 1) / high, 1 / wide, 1 / high), title
            )
            points = {
                name: [(x, y, y, y) for x, y in zip(*curve, strict=True)]
                for name, curve in curves.items()
                if name != "limit"
            }
            limit = list(zip(*curves.get("limit", ((), ())), strict=True))
            draw_rates(axes, "relative error", points, styles, limit, None)
        save_png(figure, path)


def draw_history(
    path: str | os.PathLike[str],
    title: str,
    histories: Mapping[str, Sequence[float]],
    levels: Mapping[str, float],
) -> None:
    """Errors after each step of iterative methods, beside those of others, as a PNG file.

    Parameters
    ----------
    path : str or path-like
        An existing file is replaced.
    title : str
    histories : mapping of str to sequence of float
        Errors, positive, after step 1, 2, ...
    levels : mapping of str to float
        Errors of methods that have no steps.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.plots import draw_history
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_history(os.path.join(folder, "x.png"), "a title", {"a": [0.2, 0.1]}, {"b": 0.3})
    ...     os.listdir(folder)
    ['x.png']
    """
    with figure_style():
        figure = new_figure(8.4, 5.0)
        axes = plain_axes(figure.add_axes((0.1, 0.12, 0.6, 0.8)))
        last = max(map(len, histories.values()), default=1)
        ends = []
        for i, (name, errors) in enumerate(histories.items()):
            steps, colour = range(1, len(errors) + 1), PALETTE[i]
            axes.plot(steps, errors, color=colour, marker=MARKERS[i], markersize=4.5, linewidth=1.6)
            axes.plot(steps, np.minimum.accumulate(errors), color=colour, linewidth=0.8, alpha=0.5)
            ends.append(CurveEnd(len(errors), min(errors), f"{name}: {min(errors):.4f}", colour))
        for name, error in levels.items():
            axes.axhline(error, color=INK, linestyle=DASHED, linewidth=1.2)
            ends.append(CurveEnd(last, error, f"{name}: {error:.4f}", INK))
        every = [*levels.values(), *(e for errors in histories.values() for e in errors)]
        axes.set_xlim(0.5, last + 0.5)
        log_range(axes, every, [])
        axes.minorticks_off()
        ticks = range(1, last + 1, max(1, last // 10))
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        label_ends(axes, ends, gap=0.058)
        axes.set_xlabel("step: a fit of Q, of L, of R, or of L and R")
        axes.set_ylabel("relative error under H")
        axes.set_title(title, fontsize=11, loc="left")
        save_png(figure, path)
