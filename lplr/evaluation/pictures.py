"""Compressed images side by side, drawn as a PNG file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lplr.evaluation.figures import figure_style
from lplr.evaluation.sheet import Sheet
from lplr.evaluation.styles import style_of

__all__ = ["SIDE", "Picture", "class_images", "draw_images"]

SIDE = 28  # pixels of an image of Fashion-MNIST


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


def class_images(A: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The first of the small images of each class, which are rows of A."""
    first = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    return [A[i].reshape(SIDE, SIDE).clip(0, 1) for i in first]


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
