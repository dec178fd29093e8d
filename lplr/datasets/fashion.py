"""Fashion-MNIST: the first images are in this package, the full set can be installed."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lplr.datasets.bundled import read_bundled
from lplr.exceptions import CorruptFileError, MissingFileError
from lplr.validation.arguments import check_choice, check_integer

__all__ = ["LabelledImages", "fashion_mnist"]

_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package installs it
_VARIABLE = "LPLR_FASHION_MNIST"
_PREFIX = {"train": "train", "test": "t10k"}
_SMALL = {"train": 6000, "test": 1000}
_FULL = {"train": 60000, "test": 10000}
_PIXELS = 784


class LabelledImages(NamedTuple):
    """Images, as the rows of a matrix, with their labels.

    Parameters
    ----------
    images : ndarray of shape (n, pixels), float32
        Grey values in [0, 1], one row of the image after the other.
    labels : ndarray of shape (n,), uint8

    Examples
    --------
    >>> from lplr.datasets import fashion_mnist
    >>> boot = fashion_mnist("test", n=1).images[0].reshape(28, 28)
    >>> (boot[12:16, ::4] * 9).astype(int)
    array([[0, 0, 0, 0, 3, 5, 5],
           [0, 0, 0, 0, 3, 5, 5],
           [0, 0, 0, 3, 3, 5, 5],
           [0, 0, 0, 4, 4, 5, 5]])
    """

    images: np.ndarray
    labels: np.ndarray


def fashion_mnist(
    split: str = "train",
    *,
    n: int | None = None,
    subset: str = "auto",
    folder: str | os.PathLike[str] | None = None,
) -> LabelledImages:
    """Fashion-MNIST, 28×28 images of clothes in ten classes, the first `n` of a split.

    The first 6000 training and 1000 test images are in this package. The full set, 60000 and 10000
    images, is read from the Debian package dataset-fashion-mnist, or from any folder with the
    four files of the official distribution (``train-images-idx3-ubyte.gz``, …).

    Parameters
    ----------
    split : {"train", "test"}
    n : int, optional
        How many images; by default all images of the subset.
    subset : {"auto", "small", "full"}
        The images in this package, or the full set. ``"auto"`` takes the small subset if it has
        `n` images, otherwise the full set; without `n`, the full set if it is installed. Both start
        with the same images.
    folder : path, optional
        The folder with the full set. By default, the environment variable ``LPLR_FASHION_MNIST``
        names it; if that is not set, the folder of the Debian package is used.

    Returns
    -------
    LabelledImages
        ``images`` of shape (n, 784), float32 in [0, 1]; ``labels`` of shape (n,), uint8.

    Raises
    ------
    InputError
        If an argument is outside its range.
    MissingFileError
        If the full set is needed but not found; it is an `InputError` too.
    CorruptFileError
        If a file is damaged or has another format than its name says.

    References
    ----------
    Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms", arXiv 1708.07747.

    Examples
    --------
    >>> from lplr.datasets import fashion_mnist
    >>> images, labels = fashion_mnist("test", subset="small")
    >>> images.shape, labels[:5]
    ((1000, 784), array([9, 2, 1, 1, 6], dtype=uint8))
    """
    check_choice(split, "split", tuple(_PREFIX))
    check_choice(subset, "subset", ("auto", "small", "full"))
    source = Path(folder or os.environ.get(_VARIABLE) or _FOLDER)
    if n is not None:
        n = check_integer(n, "n", 1, (_SMALL if subset == "small" else _FULL)[split])
    if subset == "auto":
        is_small = n <= _SMALL[split] if n is not None else not _has_full(source, split)
    else:
        is_small = subset == "small"
    available = (_SMALL if is_small else _FULL)[split]
    count = available if n is None else n
    if is_small:
        arrays = read_bundled("fashion_mnist_small")
        pixels, labels = arrays[f"{split}_images"][:count], arrays[f"{split}_labels"][:count]
    else:
        if not _has_full(source, split):
            raise MissingFileError(
                f"subset: all of Fashion-MNIST is needed and {source} does not have it; install "
                "the Debian package dataset-fashion-mnist, or name a folder with its files by "
                f"folder= or {_VARIABLE}; subset='small' has {_SMALL[split]} "
                f"{split} images",
                str(source),
            )
        images_path, labels_path = _full_paths(source, split)
        pixels = _read_idx(images_path, (available, 28, 28), count).reshape(count, _PIXELS)
        labels = _read_idx(labels_path, (available,), count)
    return LabelledImages(pixels.astype(np.float32) / np.float32(255), labels.copy())


def _full_paths(folder: Path, split: str) -> tuple[Path, Path]:
    prefix = folder / _PREFIX[split]
    return Path(f"{prefix}-images-idx3-ubyte.gz"), Path(f"{prefix}-labels-idx1-ubyte.gz")


def _has_full(folder: Path, split: str) -> bool:
    return all(path.is_file() for path in _full_paths(folder, split))


def _read_idx(path: Path, shape: tuple[int, ...], count: int) -> np.ndarray:
    """The first `count` items of a gzipped IDX file of uint8 that declares `shape`."""
    header = bytes((0, 0, 8, len(shape))) + b"".join(s.to_bytes(4, "big") for s in shape)
    size = count * int(np.prod(shape[1:], dtype=np.int64))
    try:
        with gzip.open(path) as f:
            found, payload = f.read(len(header)), f.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorruptFileError(f"{path}: is not a gzip file, or damaged: {error}") from None
    if found != header or len(payload) != size:
        raise CorruptFileError(
            f"{path}: is not an IDX file of uint8 of shape {shape}; install it again"
        )
    return np.frombuffer(payload, np.uint8).reshape(count, *shape[1:])
