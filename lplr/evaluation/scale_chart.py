"""Curves of ``lplr bench scale``: time of a row, memory and error against the number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lplr.evaluation.charts import plain_ticks
from lplr.evaluation.figures import (
    CurveEnd,
    figure_style,
    label_ends,
    new_figure,
    plain_axes,
)
from lplr.evaluation.scale_methods import REFERENCE
from lplr.evaluation.styles import in_order, style_of

__all__ = ["SCALE_VALUES", "scale_chart", "value_of"]

# Of a picture: what it shows, and of a record the value.
SCALE_VALUES: Mapping[str, tuple[str, str]] = {
    "time": ("microseconds of CPU per row", "time of a row"),
    "memory": ("megabytes", "peak growth of memory"),
    "error": ("relative error", "relative error"),
}
_WIDTH, _HEIGHT, _SIZE = 5.4, 3.3, 10.5


def value_of(row: Mapping[str, Any], name: str) -> float | None:
    """A value of `SCALE_VALUES`, or None where the record has none."""
    if row["status"] != "ok":
        return None
    if name == "time":
        return 1e6 * row["cpu_seconds"] / row["rows"]
    if name == "memory":
        return None if row["extra_nbytes"] is None else row["extra_nbytes"] / 1e6
    return row["error"]


def scale_chart(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    """One of `SCALE_VALUES` against the number of rows, both on logarithmic axes.

    Parameters
    ----------
    rows : sequence of mapping
        Of `lplr.evaluation.scale.measure_scale`.
    name : {"time", "memory", "error"}

    Returns
    -------
    matplotlib.figure.Figure or None
        None if no record has the value.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        value = value_of(row, name)
        if value is not None and not (name == "memory" and row["method"] == REFERENCE):
            curves.setdefault(row["method"], []).append((row["rows"], max(value, 1e-6)))
    if not curves:
        return None
    with figure_style():
        figure = new_figure(_WIDTH, _HEIGHT, "none")
        axes = plain_axes(figure.add_axes((0.115, 0.14, 0.515, 0.76)))
        axes.tick_params(length=3, labelsize=_SIZE)
        axes.set_xscale("log")
        axes.set_yscale("log")
        points = [point for curve in curves.values() for point in curve]
        for set_limits, set_ticks, values, margin in (
            (axes.set_xlim, axes.set_xticks, [x for x, _ in points], 1.15),
            (axes.set_ylim, axes.set_yticks, [y for _, y in points], 1.25),
        ):
            low, high = min(values) / margin, max(values) * margin
            set_limits(low, high)
            plain_ticks(set_ticks, low, high, _steps(high / low))
        axes.minorticks_off()
        n = sorted({int(x) for x, _ in points})
        axes.set_xticks(n, [_short(x) for x in n])
        ends = []
        for method in in_order(curves):
            style = style_of(method)
            x, y = zip(*sorted(curves[method]), strict=True)
            axes.plot(x, y, **style.line(0.8))
            marker = style.marker or "--"
            ends.append(
                CurveEnd(
                    x[-1], y[-1], style.label, style.colour, marker, 1 + style.bold, style.full
                )
            )
        axes.set_xlabel("rows", fontsize=_SIZE)
        axes.set_title(SCALE_VALUES[name][0], loc="left", fontsize=_SIZE)
        label_ends(axes, ends, 0.075, _SIZE)
    return figure


def _steps(span: float) -> tuple[float, ...]:
    """Ticks of each power of ten, few where there are many powers."""
    return (1,) if span > 100 else (1, 2, 5) if span > 10 else (1, 1.5, 2, 3, 4, 5, 7)


def _short(n: int) -> str:
    """1e5 as 100k, 4e6 as 4M."""
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if n >= unit:
            return f"{n / unit:g}{letter}"
    return str(n)
