"""The picture of a comparison, made for a column of a paper."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.storage.atomic import write_atomic
from lplr.validation.arguments import check_real

__all__ = ["SUFFIXES", "draw_comparison"]

SUFFIXES = (".pdf", ".svg", ".png")

_STYLE = {
    "font.size": 8,
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "pdf.fonttype": 42,  # TrueType, embedded: publishers refuse the other kind
    "svg.fonttype": "path",  # outlines look the same without the font
    "svg.hashsalt": "lplr",
}
_MEASURED, _FLOOR = "#0072b2", "#777777"
# Bounds: colour and dashes differ, so that they are told apart in grey too.
_BOUNDS = (
    ("#d55e00", (0, (5, 2))),
    ("#222222", (0, (1, 1.2))),
    ("#882255", (0, (5, 1.5, 1, 1.5))),
    ("#009e73", (0, (2.5, 1.2))),
    ("#cc79a7", (0, (7, 1.5, 1, 1.5, 1, 1.5))),
)
_AXES = {
    "bits": "bits per entry, $B$",
    "rank": "rank aimed at, $k$",
    "oversampling": "oversampling, $p$",
}
_LETTERS = {"bits": "B", "rank": "k", "oversampling": "p"}


def draw_comparison(
    path: str | os.PathLike[str], found: Any, width: float, overwrite: bool
) -> None:
    """Draw a comparison into a file.

    Parameters
    ----------
    path
        As in `lplr.theory.Comparison.plot`.
    found : lplr.theory.Comparison
    width, overwrite
        As in `lplr.theory.Comparison.plot`.

    Raises
    ------
    InputError, StorageError
        As `lplr.theory.Comparison.plot`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"path: must end in {', '.join(SUFFIXES)}, found {os.fspath(path)!r}")
    width = check_real(width, "width")
    if not 2 <= width <= 20:
        raise InputError(f"width: must be from 2 to 20 inches, found {width:g}")
    from matplotlib import style

    # The same file for equal numbers, whatever the user's matplotlibrc, the day and the version.
    unsaid = {
        ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        ".svg": {"Date": None, "Creator": None},
        ".png": {"Software": None},
    }
    buffer = io.BytesIO()
    with style.context(["default", _STYLE]):
        figure = _figure(found, width)
        figure.savefig(buffer, format=suffix[1:], dpi=300, metadata=unsaid[suffix])
    write_atomic(path, [buffer.getvalue()], overwrite)


def _figure(found: Any, width: float) -> Any:
    """Above, errors and bounds; below, the share of each bound that is measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 0.9 + 0.72 * min(width, 4.5)), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(1.9, 1))
    _draw_errors(upper, found, letters=int(8 * width - 2))
    _draw_ratios(lower, found)
    upper.set_ylabel(r"$\mathrm{E}\,\Vert LR-A\Vert_F^2 \,/\, \Vert A\Vert_F^2$")
    lower.set_ylabel("measured/bound")
    lower.set_xlabel(f"{_AXES[found.parameter]}   ({_fixed(found)})")
    x = found.values
    wide = found.parameter != "bits" and len(x) > 2 and x[-1] >= 12 * x[0]
    if wide:
        lower.set_xscale("log")
    told = _apart(np.log(x) if wide else x, least=0.24 / width)
    lower.set_xticks(x[told], [str(value) for value in x[told]])
    for axes in (upper, lower):
        axes.minorticks_off()
        axes.grid(True, which="major", color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.align_ylabels()
    handles, labels = upper.get_legend_handles_labels()
    lines = sum(1 + label.count("\n") for label in labels)
    figure.set_figheight(figure.get_figheight() + 0.08 * max(lines - 8, 0))
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=2,
        frameon=False,
        handlelength=2.4,
        columnspacing=1.2,
    )
    return figure


def _apart(place: np.ndarray, least: float) -> list[int]:
    """Which of ascending places are told: neighbours are this share of the whole apart."""
    told = [0]
    for i in range(1, len(place)):
        if place[i] - place[told[-1]] >= least * (place[-1] - place[0]):
            told.append(i)
    return told


def _draw_errors(axes: Any, found: Any, letters: int) -> None:
    from matplotlib.ticker import MaxNLocator

    x, scale = found.values, 1 / found.energy
    mean, best = scale * found.mean, scale * found.best
    axes.plot(*_line(x, mean), color=_MEASURED, lw=1.2, label="measured mean", zorder=3)
    for low, high, alpha, label in (
        (0, 4, 0.18, "5 to 95 % of trials"),
        (1, 3, 0.32, "25 to 75 %"),
    ):
        wide, lower = _line(x, scale * found.quantiles[:, low])
        upper = _line(x, scale * found.quantiles[:, high])[1]
        axes.fill_between(
            wide, lower, upper, color=_MEASURED, alpha=alpha, linewidth=0, label=label
        )
    rank = "k+p" if found.method == "lplr" else "k"
    axes.plot(*_line(x, best), color=_FLOOR, lw=0.8, label=f"best of rank ${rank}$")
    for name, bound, look in _bounds(found):
        axes.plot(*_line(x, scale * bound), **look, lw=1.2, label=_label(name, letters))
    refuted = np.any([np.equal(words, "refuted") for words in found.verdicts.values()], axis=0)
    beyond = found.saturated > 0
    for here, look in (
        (~beyond, {"marker": "o", "mfc": _MEASURED, "ms": 3}),
        (beyond, {"marker": "o", "mfc": "white", "ms": 3, "label": "a range was left: not tested"}),
        (refuted, {"marker": "x", "color": "black", "ms": 6, "label": "above a bound: refuted"}),
    ):
        if here.any():
            axes.plot(x[here], mean[here], **{"color": _MEASURED, "ls": "", "zorder": 4} | look)
    axes.set_yscale("log")
    shown = [_positive(scale * bound) for bound in found.bounds.values()] + [_positive(mean)]
    low, high = np.nanmin(shown), np.nanmax(shown)
    low = min(low, np.nanmin(best, where=best > 0.1 * low, initial=low))
    axes.set_ylim(0.75 * low, 1.3 * high)
    if high < 100 * low:  # few powers of ten: round numbers between them
        ticks = [m * 10.0**e for e in range(-300, 300) for m in (1, 2, 5)]
        ticks = [tick for tick in ticks if 0.75 * low <= tick <= 1.3 * high]
        if len(ticks) < 3:
            ticks = [*MaxNLocator(4).tick_values(0.8 * low, 1.2 * high)][1:-1]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def _draw_ratios(axes: Any, found: Any) -> None:
    for _, bound, look in _bounds(found):
        share = 1 / _positive(bound)
        wide, low = _line(found.values, found.quantiles[:, 0] * share)
        high = _line(found.values, found.quantiles[:, 4] * share)[1]
        axes.fill_between(wide, low, high, color=look["color"], alpha=0.13, linewidth=0)
        axes.plot(*_line(found.values, found.mean * share), **look, lw=1.2)
    axes.axhline(1.0, color="black", lw=0.6)
    top = max(axes.get_ylim()[1], 1.05)
    if top < 10:
        axes.set_ylim(0, top)
    else:
        axes.set_yscale("log")


def _bounds(found: Any) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Name, values, colour and dashes of each bound."""
    for i, (name, bound) in enumerate(found.bounds.items()):
        turn, place = divmod(i, len(_BOUNDS))  # after a turn, each colour gets the next dashes
        colour, dashes = _BOUNDS[place][0], _BOUNDS[(place + turn) % len(_BOUNDS)][1]
        yield name, bound, {"color": colour, "ls": dashes}


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of a line; a single one is drawn out, since a line of no length is not seen."""
    y = _positive(y)
    return (x, y) if len(x) > 1 else (x[0] + np.array([-0.4, 0.4]), np.repeat(y, 2))


def _positive(y: np.ndarray) -> np.ndarray:
    """What logarithmic axes can show."""
    return np.where(np.isfinite(y) & (y > 0), y, np.nan)


def _label(name: str, letters: int) -> str:
    """The name of a bound in words, or as it is where it has mathematics between dollar signs."""
    if "$" in name:
        return name
    words = name.replace("_", " ").replace("lplr", "LPLR").replace("svd", "SVD")
    return textwrap.fill(words, letters)


def _fixed(found: Any) -> str:
    """What does not vary, in symbols."""
    given = found.settings[0]
    shown = [f"{letter}={given[key]}" for key, letter in _LETTERS.items() if key != found.parameter]
    if found.method != "lplr":
        shown = [text for text in shown if not text.startswith("p=")]
    return ", ".join(f"${text}$" for text in shown)
