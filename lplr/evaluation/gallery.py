"""Pictures of compressed images, to be looked at side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lplr.evaluation.cases import Case
from lplr.evaluation.grid import Grid, Run
from lplr.evaluation.plots import Picture
from lplr.matrices.base import Artefact

__all__ = ["Gallery"]

_BUDGET = 1.0
_SIDE = 28  # pixels of an image of Fashion-MNIST
_SHOWN = ("lplr", "direct-svd", "naive", "TruncatedSVD float16", "KMeans sub-vectors", "PQ")


class Gallery:
    """Collects pictures while a grid runs.

    Parameters
    ----------
    grid : Grid
    default : str
        The method that comes first.

    Examples
    --------
    >>> from lplr.evaluation.cases import load_suite
    >>> from lplr.evaluation.gallery import Gallery
    >>> from lplr.evaluation.grid import Grid, run_grid
    >>> grid = Grid(load_suite("image", quick=True)[:1], ["naive"], [1.0], [0])
    >>> gallery = Gallery(grid, default="naive")
    >>> rows = run_grid(grid, see=gallery.see)
    >>> [picture.caption for picture in gallery.pictures()["Shepp-Logan 128"]]
    ['original', 'naive, 1 bit, error 0.416']
    """

    def __init__(self, grid: Grid, default: str) -> None:
        self._order = list(dict.fromkeys([default, *_SHOWN]))
        self._cases = [case for case in grid.cases if _cut(case) is not None]
        self._runs = [run for run in grid.runs() if self._wants(run)]
        self._seen: dict[tuple[str, str], Picture] = {}

    def see(self, run: Run, f: Artefact) -> None:
        """Keep the picture of a result, if it is one to show.

        Parameters
        ----------
        run : Run
        f : Artefact
        """
        key = run.case.name, run.method.name
        if self._wants(run) and key not in self._seen:
            error = f.relative_error(run.case.A)
            caption = f"{run.method.name}, {_BUDGET:g} bit, error {error:.3f}"
            self._seen[key] = Picture(_picture(run.case, f.to_dense()), caption)

    def missing(self) -> list[Run]:
        """Runs whose pictures were made before: those of a table that was resumed.

        Returns
        -------
        list of Run
            To be carried out once more and given to `see`.
        """
        wanted: dict[tuple[str, str], Run] = {}
        for run in self._runs:  # of the first seed
            wanted.setdefault((run.case.name, run.method.name), run)
        return [run for key, run in wanted.items() if key not in self._seen]

    def pictures(self) -> dict[str, list[Picture]]:
        """By data set: the original, then the methods.

        Returns
        -------
        dict of str to list of Picture
        """
        shown = {}
        for case in self._cases:
            row = [Picture(_picture(case, case.A), "original")]
            for name in self._order:
                if (case.name, name) in self._seen:
                    row.append(self._seen[case.name, name])
            shown[case.name] = row
        return shown

    def _wants(self, run: Run) -> bool:
        return (
            run.budget == _BUDGET and run.method.name in self._order and _cut(run.case) is not None
        )


def _cut(case: Case) -> Any:
    """The rows to show of a matrix of small images, or "all" of an image; None of any other."""
    if case.is_image:
        return "all"
    if case.queries is not None and case.A.shape[1] == _SIDE**2:
        labels = case.queries.labels
        return [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    return None


def _picture(case: Case, A: np.ndarray) -> np.ndarray:
    """An image, or one small image of each class in two rows."""
    rows: Sequence[int] | str = _cut(case)
    if rows == "all":
        return A.clip(0, 1)
    small = [A[i].reshape(_SIDE, _SIDE).clip(0, 1) for i in rows]
    half = -(-len(small) // 2)
    small += [np.ones((_SIDE, _SIDE), np.float32)] * (2 * half - len(small))
    return np.vstack([np.hstack(small[:half]), np.hstack(small[half:])])
