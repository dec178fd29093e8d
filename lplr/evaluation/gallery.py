"""What results look like: images kept while a grid runs, in a file beside its table."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lplr.evaluation.baselines import DEFAULT
from lplr.evaluation.grid import UNCOMPRESSED, Grid, Run
from lplr.evaluation.metrics import nearest_to_one
from lplr.evaluation.pictures import SIDE, class_images
from lplr.evaluation.tasks import Task
from lplr.exceptions import CorruptFileError
from lplr.matrices.base import PackedMatrix
from lplr.storage.atomic import write_atomic

__all__ = ["Gallery", "Sample", "gallery_path", "read_gallery"]

# Beside the default, at about one bit; the default itself at all budgets.
_SHOWN = ("lplr", "naive", "TruncatedSVD float16", "KMeans sub-vectors", "PQ")


@dataclass(frozen=True)
class Sample:
    """An image of a result, or of the matrix itself.

    Parameters
    ----------
    image : ndarray of shape (h, w), uint8
    method : str
        `lplr.evaluation.grid.UNCOMPRESSED` for the matrix itself.
    budget : float
    error : float
        Relative error of the whole matrix.
    """

    image: np.ndarray
    method: str
    budget: float
    error: float


class Gallery:
    """Keeps an image of each result that a report shows.

    Parameters
    ----------
    grid : Grid
    default : str
        The method that is shown at all budgets; others are at the one nearest to one bit.
    path : str or path-like, optional
        Where `save` writes; what is there already is read.

    Examples
    --------
    >>> from lplr.evaluation.gallery import Gallery
    >>> from lplr.evaluation.grid import Grid, run_grid
    >>> from lplr.evaluation.tasks import load_suite
    >>> grid = Grid(load_suite("image", quick=True)[:1], ["naive"], [1.0], [0])
    >>> gallery = Gallery(grid, default="naive")
    >>> rows = run_grid(grid, see=gallery.see)
    >>> [(s.method, round(s.error, 3)) for s in gallery.samples["Shepp-Logan 128"]]
    [('uncompressed', 0.0), ('naive', 0.416)]
    """

    def __init__(
        self, grid: Grid, default: str = DEFAULT, path: str | os.PathLike[str] | None = None
    ) -> None:
        self.samples = read_gallery(path) if path else {}
        self._default, self._path = default, path
        self._budget = nearest_to_one(grid.budgets)
        self._saved = self._count()

    def see(self, run: Run, f: PackedMatrix) -> None:
        """Keep the image of a result, if it is one to show."""
        task, method = run.task, run.method.name
        shown = method == self._default or (method in _SHOWN and run.budget == self._budget)
        if not shown or not _is_visible(task):
            return
        samples = self.samples.setdefault(task.name, [_sample(task, task.A, UNCOMPRESSED, 32, 0)])
        if not any((s.method, s.budget) == (method, run.budget) for s in samples):
            error = f.relative_error(task.A)
            samples.append(_sample(task, f.to_dense(), method, run.budget, error))

    def save(self) -> None:
        """Write what is new."""
        if self._path and self._count() > self._saved:
            self._saved = self._count()
            _write(self._path, self.samples)

    def _count(self) -> int:
        return sum(map(len, self.samples.values()))


def gallery_path(table: str | os.PathLike[str]) -> Path:
    """The file of images beside a table: ``results.pictures.npz`` for ``results.jsonl``."""
    return Path(table).with_suffix(".pictures.npz")


def read_gallery(path: str | os.PathLike[str]) -> dict[str, list[Sample]]:
    """Images by data set; none if there is no file.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    samples: dict[str, list[Sample]] = {}
    if not os.path.exists(path):
        return samples
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            for i, (dataset, *about) in enumerate(json.loads(str(file["index"]))):
                samples.setdefault(dataset, []).append(Sample(file[str(i)], *about))
    except Exception as error:  # NumPy and zipfile raise what they like
        raise CorruptFileError(f"{os.fspath(path)!r} is damaged: {error}; delete it") from error
    return samples


def _write(path: str | os.PathLike[str], samples: Mapping[str, Sequence[Sample]]) -> None:
    flat = [(name, s) for name, listed in samples.items() for s in listed]
    index = json.dumps([[name, s.method, s.budget, s.error] for name, s in flat])
    buffer = io.BytesIO()
    images = {str(i): s.image for i, (_, s) in enumerate(flat)}
    np.savez_compressed(buffer, allow_pickle=False, index=np.array(index), **images)
    write_atomic(path, [buffer.getvalue()], overwrite=True)


def _is_visible(task: Task) -> bool:
    return task.is_image or (task.queries is not None and task.A.shape[1] == SIDE**2)


def _sample(task: Task, A: np.ndarray, method: str, budget: float, error: float) -> Sample:
    """All of an image, or one small image of each class in two rows."""
    image = A
    if not task.is_image and task.queries is not None:
        small = class_images(A, task.queries.labels)
        half = -(-len(small) // 2)
        small += [np.ones((SIDE, SIDE), np.float32)] * (2 * half - len(small))
        image = np.vstack([np.hstack(small[:half]), np.hstack(small[half:])])
    codes = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return Sample(codes, method, float(budget), float(error))
