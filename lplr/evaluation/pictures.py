"""Compressed images side by side: collected while a benchmark runs, and drawn as a PNG file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lplr.evaluation.figures import figure_style
from lplr.evaluation.grid import Grid, Run
from lplr.evaluation.sheet import Sheet
from lplr.evaluation.styles import style_of
from lplr.evaluation.tasks import Task
from lplr.matrices.base import PackedMatrix

__all__ = ["Picture", "PictureCollector", "class_images", "draw_images"]

_BUDGET = 1.0
_SIDE = 28  # pixels of an image of Fashion-MNIST
_SHOWN = ("lplr", "direct-svd", "naive", "TruncatedSVD float16", "KMeans sub-vectors", "PQ")


@dataclass(frozen=True)
class Picture:
    """An image and what is written on it.

    Parameters
    ----------
    image : ndarray of shape (h, w)
        Grey values, 0 to 1.
    caption : str
    """

    image: np.ndarray
    caption: str = ""


class PictureCollector:
    """Keeps a picture of each result that a report shows, while a grid runs.

    Parameters
    ----------
    grid : Grid
    default : str
        The method that comes first.

    Examples
    --------
    >>> from lplr.evaluation.grid import Grid, run_grid
    >>> from lplr.evaluation.pictures import PictureCollector
    >>> from lplr.evaluation.tasks import load_suite
    >>> grid = Grid(load_suite("image", quick=True)[:1], ["naive"], [1.0], [0])
    >>> collector = PictureCollector(grid, default="naive")
    >>> rows = run_grid(grid, see=collector.see)
    >>> [picture.caption for picture in collector.pictures()["Shepp-Logan 128"]]
    ['original', 'naive, 1 bit, error 0.416']
    """

    def __init__(self, grid: Grid, default: str) -> None:
        self._order = list(dict.fromkeys([default, *_SHOWN]))
        self._tasks = [task for task in grid.tasks if _has_picture(task)]
        self._runs = [run for run in grid.runs() if self._wants(run)]
        self._seen: dict[tuple[str, str], Picture] = {}

    def see(self, run: Run, f: PackedMatrix) -> None:
        """Keep the picture of a result, if it is one to show."""
        key = run.task.name, run.method.name
        if self._wants(run) and key not in self._seen:
            error = f.relative_error(run.task.A)
            caption = f"{run.method.name}, {_BUDGET:g} bit, error {error:.3f}"
            self._seen[key] = Picture(_picture(run.task, f.to_dense()), caption)

    def missing(self) -> list[Run]:
        """Runs to be carried out once more and given to `see`: their results were there before."""
        wanted: dict[tuple[str, str], Run] = {}
        for run in self._runs:  # of the first seed
            wanted.setdefault((run.task.name, run.method.name), run)
        return [run for key, run in wanted.items() if key not in self._seen]

    def pictures(self) -> dict[str, list[Picture]]:
        """By data set: the original, then the methods."""
        return {
            task.name: [
                Picture(_picture(task, task.A), "original"),
                *(self._seen[key] for m in self._order if (key := (task.name, m)) in self._seen),
            ]
            for task in self._tasks
        }

    def _wants(self, run: Run) -> bool:
        return run.budget == _BUDGET and run.method.name in self._order and _has_picture(run.task)


def _has_picture(task: Task) -> bool:
    return task.is_image or (task.queries is not None and task.A.shape[1] == _SIDE**2)


def _picture(task: Task, A: np.ndarray) -> np.ndarray:
    """An image, or one small image of each class in two rows."""
    if task.is_image or task.queries is None:
        return A.clip(0, 1)
    small = class_images(A, task.queries.labels)
    half = -(-len(small) // 2)
    small += [np.ones((_SIDE, _SIDE), np.float32)] * (2 * half - len(small))
    return np.vstack([np.hstack(small[:half]), np.hstack(small[half:])])


def class_images(A: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The first of the small images of each class, which are rows of A."""
    first = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    return [A[i].reshape(_SIDE, _SIDE).clip(0, 1) for i in first]


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
        Method and pictures of each row, the method in the first line of the key; more lines may
        follow. None leaves a place empty.
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
    >>> from lplr.evaluation.pictures import Picture, draw_images
    >>> rows = {"naive": [Picture(np.eye(8), "diagonal"), None]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_images(os.path.join(folder, "x.png"), "a title", rows)
    ...     os.listdir(folder)
    ['x.png']
    """
    left, top = 122, 42 if heads else 26
    pitch = (Sheet.WIDTH - left) / max(map(len, rows.values()))
    side = pitch - 3
    with figure_style():
        sheet = Sheet(top + pitch * len(rows))
        sheet.text(4, 5, title, 12, weight="bold")
        for j, head in enumerate(heads):
            sheet.text(left + j * pitch + side / 2, top - 15, head, 10, ha="center")
        for i, (key, pictures) in enumerate(rows.items()):
            method, *more = key.split("\n")
            style = style_of(method)
            y = top + i * pitch
            words = "\n".join([style.label.replace(" float16", "\nfloat16"), *more])
            weight = "bold" if style.bold else "normal"
            sheet.text(4, y + side / 2, words, color=style.colour, va="center", weight=weight)
            for j, picture in enumerate(pictures):
                if picture is None:
                    continue
                x = left + j * pitch
                sheet.image(x, y, side, picture.image)
                if picture.caption:
                    sheet.text(
                        *(x + side - 2, y + side - 2, picture.caption, 10),
                        color="white",
                        ha="right",
                        va="bottom",
                        bbox={"facecolor": "black", "edgecolor": "none", "pad": 1.5},
                    )
        sheet.save(path)
