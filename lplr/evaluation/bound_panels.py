"""Which cells of a simulation to draw together: slices of the grids of statements."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lplr.theory.records import Cell

__all__ = ["BoundPanel", "in_mathematics", "is_numeric", "panels_of", "values_of"]

_SERIES = 7  # curves that a panel can hold: as many as there are colours, and spectra
_ROUNDING = 1e-9  # of its bound: what is smaller is a zero in exact arithmetic
_UNIT = 1e-16  # of the largest bound of a statement: likewise


@dataclass(frozen=True)
class BoundPanel:
    """A statement along one parameter.

    Parameters
    ----------
    title, note : str
        Name of the statement, and what it says.
    parameter : str
        On the horizontal axis: a key of the settings, of numbers or of words.
    series : dict of str to tuple of Cell
        By name, each in ascending order of the parameter; one series may have no name.
    fixed : dict
        What all cells have in common.
    omitted : str
        Which cells of the statement are not shown; empty if all are.
    """

    title: str
    note: str
    parameter: str
    series: dict[str, tuple[Cell, ...]]
    fixed: dict[str, Any]
    omitted: str = ""

    @property
    def cells(self) -> list[Cell]:
        """All of them, series by series."""
        return [cell for cells in self.series.values() for cell in cells]

    @property
    def words(self) -> list[str]:
        """Values of the parameter where they are words; empty where they are numbers."""
        values = values_of(self.cells, self.parameter)
        return [] if is_numeric(values) else values


def panels_of(
    cells: Sequence[Cell], parameter: str | None = None, notes: Mapping[str, str] | None = None
) -> list[BoundPanel]:
    """Panels of the statements among some cells, each along the parameter that varies most.

    Parameters
    ----------
    cells : sequence of Cell
        Those that measure rounding errors alone are left out: these axes cannot show a zero.
    parameter : str, optional
        By default, the number that takes most values in a statement; where no number takes three,
        the word.
    notes : mapping of str to str, optional
        What the statements say, by their names.

    Returns
    -------
    list of BoundPanel
        One for each statement that has the parameter; where the grid has more dimensions, one
        slice of it is shown, and ``omitted`` says so.

    Examples
    --------
    >>> from lplr.evaluation.bound_panels import panels_of
    >>> from lplr.theory.montecarlo import run
    >>> (panel,) = panels_of(run("range-finder-bound", trials=2, rng=0), "m")
    >>> panel.parameter, len(panel.series)
    ('m', 7)
    """
    panels = []
    for name in dict.fromkeys(cell.statement for cell in cells):
        found = [c for c in cells if c.statement == name]
        floor = _UNIT * max(c.bound for c in found)
        shown = [c for c in found if c.bound > floor and c.mean > _ROUNDING * c.bound]
        zeros = len(found) - len(shown)
        along = parameter or _parameter(shown)
        shown = [c for c in shown if along in c.setting]
        if along is not None and shown:
            panel = _panel(name, (notes or {}).get(name, ""), along, shown)
            panels.append(replace(panel, omitted=_omitted(panel.cells, found, zeros)))
    return panels


def _omitted(shown: Sequence[Cell], found: Sequence[Cell], zeros: int) -> str:
    """How many cells there are besides those shown, and what they differ in."""
    if len(shown) == len(found):
        return ""
    other = []
    for key in dict.fromkeys(key for cell in found for key in cell.setting):
        left = [v for v in values_of(found, key) if v not in values_of(shown, key)]
        if left:
            other.append(f"{key} = {', '.join(f'{v:g}' if is_numeric([v]) else v for v in left)}")
    words = f"Shown: {len(shown)} of {len(found)} cells"
    words += f"; not those of {'; '.join(other)}" if other else ""
    return words + (f"; {zeros} {'is' if zeros == 1 else 'are'} 0" if zeros else "")


def in_mathematics(name: str) -> str:
    """The name of a matrix or a setting, powers as Matplotlib sets them: k^-1 becomes $k^{-1}$."""
    return re.sub(r"k\^(-[\d/]+)", r"$k^{\1}$", name)


def values_of(cells: Sequence[Cell], key: str) -> list[Any]:
    """The values that a key of the settings takes, in the order of the cells."""
    return list(dict.fromkeys(cell.setting[key] for cell in cells if key in cell.setting))


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether all of them are numbers, so that they belong on an axis."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _groups(cells: Sequence[Cell], *without: str | None) -> list[list[Cell]]:
    """Cells that agree in what their settings have besides some keys."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        rest = tuple((k, v) for k, v in cell.setting.items() if k not in without)
        groups.setdefault(rest, []).append(cell)
    return list(groups.values())


def _parameter(cells: Sequence[Cell]) -> str | None:
    keys = list(dict.fromkeys(key for cell in cells for key in cell.setting))

    def longest(key: str) -> int:
        return max(len(values_of(group, key)) for group in _groups(cells, key))

    numbers = [key for key in keys if is_numeric(values_of(cells, key)) and longest(key) > 2]
    return max(numbers or keys, key=longest, default=None)


def _panel(title: str, note: str, along: str, cells: Sequence[Cell]) -> BoundPanel:
    keys = [key for key in dict.fromkeys(k for c in cells for k in c.setting) if key != along]

    def best(*without: str | None) -> list[Cell]:
        return max(_groups(cells, *without), key=len)

    # The slice with most cells: one other key may vary, which then names the series.
    by = max(keys, key=lambda key: len(best(along, key)), default=None)
    chosen = best(along, by)
    by = by or ""
    names = values_of(chosen, by)
    if len(names) > _SERIES:
        names = [names[i] for i in np.linspace(0, len(names) - 1, _SERIES).round().astype(int)]
    if is_numeric(values_of(chosen, along)):
        chosen.sort(key=lambda c: c.setting[along])
    series = {
        f"{by} = {name}" if is_numeric([name]) else str(name): tuple(
            c for c in chosen if c.setting[by] == name
        )
        for name in names
    }
    if len(series) < 2:
        series, by = {"": tuple(chosen)}, None
    fixed = {k: v for k, v in chosen[0].setting.items() if k not in (along, by)}
    return BoundPanel(title, note, along, series, fixed)
