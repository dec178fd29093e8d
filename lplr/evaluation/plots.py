"""Figures: rate-distortion curves, errors step by step, and images side by side.

Shapes of the markers say the same as the colours once more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.evaluation.figures import COLOURS, MARKERS, label_ends, new_figure, save_png

__all__ = ["Curve", "Panel", "Picture", "draw_curves", "draw_history", "draw_images"]


@dataclass(frozen=True)
class Curve:
    """Errors of one method.

    Parameters
    ----------
    name : str
    bits : sequence of float
        Stored bits an entry, ascending.
    errors : sequence of float
        Relative errors, positive.
    """

    name: str
    bits: Sequence[float]
    errors: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One matrix: its curves, and the limit.

    Parameters
    ----------
    title : str
    curves : sequence of Curve
    limit : Curve
    """

    title: str
    curves: Sequence[Curve]
    limit: Curve


def draw_curves(path: str | os.PathLike[str], panels: Sequence[Panel]) -> None:
    """Rate-distortion curves, a panel a matrix, as a PNG file; an existing file is replaced.

    Parameters
    ----------
    path : str or path-like
    panels : sequence of Panel
        Curves of one name have one colour in all of them.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.plots import Curve, Panel, draw_curves
    >>> limit = Curve("limit", [1, 2], [0.1, 0.05])
    >>> panel = Panel("a matrix", [Curve("a method", [1, 2], [0.2, 0.1])], limit)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_curves(os.path.join(folder, "x.png"), [panel])
    ...     os.listdir(folder)
    ['x.png']
    """
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    wide = 2 if len(panels) > 1 else 1
    high = -(-len(panels) // wide)
    figure = new_figure(6.4 * wide, 4.6 * high + 0.5)
    for i, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(high, wide, i + 1), panel, names)
    figure.suptitle("Relative error against stored bits an entry (lower is better)", fontsize=13)
    figure.tight_layout(rect=(0, 0, 1, 0.99), h_pad=2)
    save_png(figure, path)


def _draw_panel(axes: Any, panel: Panel, names: list[str]) -> None:
    # In these axes the limit is close to straight, so that a line between two points of a method
    # says something about what lies between.
    axes.set_yscale("log")
    limit = panel.limit
    axes.plot(limit.bits, limit.errors, color="black", linestyle=(0, (4, 2)), linewidth=1.4)
    # Codes of entries may go below the limit of factors; only what is nearly exact leaves the axes.
    least = min(limit.errors)
    lowest = [e for curve in panel.curves for e in curve.errors if e > 0.1 * least]
    floor = 0.8 * min([least, *lowest])
    axes.fill_between(limit.bits, limit.errors, floor, color="black", alpha=0.06, linewidth=0)
    ends = [(limit.bits[-1], limit.errors[-1], "limit", "black")]
    for curve in panel.curves:
        i = names.index(curve.name)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            curve.bits,
            curve.errors,
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=5.5,
            linewidth=2.2 if i == 0 else 1.4,
            zorder=4 if i == 0 else 3,
        )
        # An error of next to nothing leaves the axes at their foot, and so does its name.
        ends.append((curve.bits[-1], max(curve.errors[-1], floor), curve.name, colour))
    highest = max(max(curve.errors) for curve in [*panel.curves, limit])
    bits = sorted(b for curve in [*panel.curves, limit] for b in curve.bits)
    axes.set_ylim(floor, 1.25 * highest)
    margin = 0.03 * (bits[-1] - bits[0])
    axes.set_xlim(max(bits[0] - margin, 0), bits[-1] + margin)
    label_ends(axes, ends)
    _plain_ticks(axes, bits)
    axes.set_title(panel.title, fontsize=11, loc="left")
    axes.set_xlabel("stored bits an entry")
    axes.set_ylabel("relative error")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _plain_ticks(axes: Any, bits: Sequence[float]) -> None:
    """Ticks in plain numbers: powers of two for the bits, round numbers for the errors."""
    first, last = round(np.log2(bits[0])), round(np.log2(bits[-1]))
    powers = 2.0 ** np.arange(first, last + 1)
    axes.set_xticks(powers, [f"{b:g}" for b in powers])
    low, high = axes.get_ylim()
    steps = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7)
    ticks = [m * 10.0**e for e in range(-6, 3) for m in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


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
    figure = new_figure(8.4, 5.0)
    axes = figure.add_subplot(1, 1, 1)
    axes.set_yscale("log")
    last = max(len(errors) for errors in histories.values())
    ends = []
    for i, (name, errors) in enumerate(histories.items()):
        colour = COLOURS[i % len(COLOURS)]
        steps = range(1, len(errors) + 1)
        axes.plot(steps, errors, color=colour, marker=MARKERS[i], markersize=4.5, linewidth=1.6)
        axes.plot(steps, np.minimum.accumulate(errors), color=colour, linewidth=0.8, alpha=0.5)
        ends.append((len(errors), min(errors), f"{name}: {min(errors):.4f}", colour))
    for name, error in levels.items():
        axes.axhline(error, color="black", linestyle=(0, (4, 2)), linewidth=1.2)
        ends.append((last, error, f"{name}: {error:.4f}", "black"))
    every = [*levels.values(), *(e for errors in histories.values() for e in errors)]
    axes.set_ylim(0.85 * min(every), 1.2 * max(every))
    axes.set_xlim(0.5, last + 0.5)
    label_ends(axes, ends)
    _plain_ticks(axes, [1.0, 1.0])
    ticks = range(1, last + 1, max(1, last // 10))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel("half step (a fit of Q, of L, of R, or of L and R)")
    axes.set_ylabel("relative error under H")
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    save_png(figure, path)


@dataclass(frozen=True)
class Picture:
    """An image and what is written on it.

    Parameters
    ----------
    image : ndarray of shape (h, w)
        Grey values, 0 to 1.
    caption : str
        In a lower corner, in white.
    """

    image: np.ndarray
    caption: str = ""


def draw_images(
    path: str | os.PathLike[str],
    title: str,
    rows: Mapping[str, Sequence[Picture | None]],
    heads: Sequence[str] = (),
) -> None:
    """Images side by side as a PNG file, all on the grey scale 0 to 1; a file is replaced.

    Parameters
    ----------
    path : str or path-like
    title : str
    rows : mapping of str to sequence of Picture or None
        Label and pictures of each row; None leaves a place empty.
    heads : sequence of str
        Above the columns.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.evaluation.plots import Picture, draw_images
    >>> rows = {"a row": [Picture(np.eye(8), "diagonal"), None]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_images(os.path.join(folder, "x.png"), "a title", rows)
    ...     os.listdir(folder)
    ['x.png']
    """
    wide = max(len(pictures) for pictures in rows.values())
    side = max(1.0, 14.0 / (wide + 2))  # inches of an image
    pitch, left, top = 1.04 * side, 1.75, 0.9 if heads else 0.6
    width, height = left + wide * pitch, top + len(rows) * pitch
    figure = new_figure(width, height)
    figure.text(0.12 / width, 1 - 0.3 / height, title, fontsize=12, va="center")
    for j, head in enumerate(heads):
        x = (left + j * pitch + side / 2) / width
        figure.text(x, 1 - (top - 0.08) / height, head, ha="center", va="bottom", fontsize=9)
    for i, (label, pictures) in enumerate(rows.items()):
        base = height - top - (i + 1) * pitch
        place = (left - 0.12) / width, (base + side / 2) / height
        figure.text(*place, label, ha="right", va="center", fontsize=10)
        for j, picture in enumerate(pictures):
            if picture is None:
                continue
            box = (left + j * pitch) / width, base / height, side / width, side / height
            axes = figure.add_axes(box)
            axes.imshow(picture.image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            axes.text(
                0.98,
                0.02,
                picture.caption,
                transform=axes.transAxes,
                color="white",
                fontsize=9,
                ha="right",
                va="bottom",
            )
    save_png(figure, path)
