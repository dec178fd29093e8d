"""One picture of what the package is for: images, what is left of them, and at which size."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from lplr.evaluation.figures import figure_style
from lplr.evaluation.pictures import class_images
from lplr.evaluation.plots import Curves, error_axes
from lplr.evaluation.sheet import DIM, Sheet
from lplr.evaluation.styles import in_order, style_of
from lplr.matrices.base import PackedMatrix

__all__ = ["draw_overview"]

_CURVES = ("compress", "TruncatedSVD float16", "naive")
_SHOWN = ("compress", "naive")
_NOTE = (
    "Images at 1 bit per pixel, 32 in the original. Error: |A - B| / |A|, with A the matrix and\n"
    "B what is read back. All that is stored counts. Lower is better."
)


def draw_overview(
    path: str | os.PathLike[str],
    A: np.ndarray,
    labels: np.ndarray,
    stored: Mapping[str, PackedMatrix],
    curves: Curves,
) -> None:
    """Images beside what two methods keep of them, and errors against stored bits, as a PNG file.

    Parameters
    ----------
    path : str or path-like
        An existing file is replaced.
    A : ndarray of shape (n, 784)
        Images of Fashion-MNIST in its rows, 0 to 1.
    labels : ndarray of shape (m,)
        Classes of the first images, each of the ten at least once.
    stored : mapping of str to PackedMatrix
        What methods stored at one bit per entry.
    curves : mapping of str to (bits, errors)

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import lplr
    >>> from lplr.evaluation.overview import draw_overview
    >>> A, labels = lplr.datasets.fashion_mnist(n=100)
    >>> stored = {"naive": lplr.quantize(A, bits=1)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_overview(os.path.join(folder, "x.png"), A, labels, stored, {"naive": ([1], [0.3])})
    ...     os.listdir(folder)
    ['x.png']
    """
    shown = [name for name in _SHOWN if name in stored]
    sizes = A.nbytes / 1e6, max(stored[name].nbytes for name in shown) / 1e6
    rows = [("original", "original", A)]
    for name in shown:
        error = _percent(stored[name].relative_error(A))
        rows.append((f"{style_of(name).label}: error {error}", name, stored[name].to_dense()))
    title = "{} images as a matrix: {:.2g} MB in {:.2g} MB".format(len(A), *sizes)
    with figure_style():
        sheet = Sheet(28 + 66 * 3 + 34)
        sheet.text(4, 5, title, 13, weight="bold")
        for i, (words, name, B) in enumerate(rows):
            y, style = 28 + 66 * i, style_of(name)
            weight = "bold" if style.bold else "normal"
            sheet.text(4, y, words, color=style.colour, weight=weight)
            for j, image in enumerate(class_images(B, labels)[::3]):
                sheet.image(4 + 47 * j, y + 15, 45, image)
        sheet.text(206, 28, "Error against bits per pixel")
        lines = in_order(name for name in _CURVES if name in curves)
        for i, name in enumerate(lines):
            sheet.key(208, 45 + 15 * i, style_of(name))
        axes = sheet.axes(236, 94, 160, 112)
        error_axes(axes, {name: curves[name] for name in lines})
        ticks = axes.get_yticks()
        axes.set_yticks(ticks, map(_percent, ticks))
        sheet.text(4, 230, _NOTE, 9, color=DIM)
        sheet.save(path)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
