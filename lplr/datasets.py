"""Matrices to compress: synthetic ones of a known spectrum, and small real ones.

Everything here works offline. The real data are files of the package (`data/README.md` names
origin, licence and command of each); only all of Fashion-MNIST has to be installed, and no function
downloads anything.
"""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.parallel import single_threaded_blas
from lplr.validation import check_choice, check_integer, check_real, check_rng

__all__ = [
    "LabelledImages",
    "Layer",
    "TextEmbeddings",
    "fashion_mnist",
    "layer",
    "layer_names",
    "shepp_logan",
    "synthetic",
    "text_embeddings",
]

_DATA = Path(__file__).parent / "data"
_LAYERS = ("minilm_l2_query", "minilm_l3_output", "smollm2_l10_up")
_SPECTRA = ("flat", "power", "exponential", "low-rank", "outlier")

_FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the Debian package
_FASHION_VARIABLE = "LPLR_FASHION_MNIST"
_FASHION_PREFIX = {"train": "train", "test": "t10k"}
_FASHION_SMALL = {"train": 6000, "test": 1000}
_FASHION_FULL = {"train": 60000, "test": 10000}
_PIXELS = 784

# Intensity, semi-axes, centre and rotation in degrees of the ten ellipses; x right, y up, both
# from -1 to 1. Intensities with Toft's contrast, which shows the small ones.
_ELLIPSES = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


class Layer(NamedTuple):
    """A linear layer y = W x and the second moment of its inputs.

    Parameters
    ----------
    name : str
    W : ndarray of shape (n, d), float32
        Weights; row i makes output i.
    H : ndarray of shape (d, d), float32
        Mean of x xᵀ over the inputs x, symmetric, not regularised.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.datasets import Layer
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    >>> Layer("mine", W=np.eye(2, dtype=np.float32), H=X.T @ X / len(X)).H
    array([[ 5.,  7.],
           [ 7., 10.]], dtype=float32)
    """

    name: str
    W: np.ndarray
    H: np.ndarray


class LabelledImages(NamedTuple):
    """Images as rows of a matrix.

    Parameters
    ----------
    images : ndarray of shape (n, pixels), float32
        Grey values in [0, 1], row by row of the image.
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


class TextEmbeddings(NamedTuple):
    """Sentence embeddings with the topic of each text.

    Parameters
    ----------
    embeddings : ndarray of shape (n, d), float32
        Unit rows, to the precision of the float16 that they are stored in.
    labels : ndarray of shape (n,), uint8
        Index into ``class_names``.
    class_names : tuple of str

    Examples
    --------
    >>> from lplr.datasets import text_embeddings
    >>> texts = text_embeddings()
    >>> [texts.class_names[i] for i in texts.labels[:3]]
    ['education', 'literature', 'literature']
    """

    embeddings: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def synthetic(
    n: int,
    d: int,
    spectrum: Any = "power",
    *,
    exponent: float = 1.0,
    rank: int = 10,
    rng: int | np.random.Generator | None = None,
) -> np.ndarray:
    """A matrix U diag(σ) Vᵀ of a given spectrum with Haar-distributed U and V.

    Parameters
    ----------
    n, d : int
        Rows and columns.
    spectrum : str or array_like of shape (min(n, d),)
        Singular values, or the name of a rule for σ_k, k = 1, 2, …:
        ``"flat"`` 1; ``"power"`` k^-exponent; ``"exponential"`` exp(-(k - 1)/rank);
        ``"low-rank"`` 1 up to `rank`, then 0; ``"outlier"`` 10 up to `rank`, then 1.
    exponent : float
        Of the power law, at least 0.
    rank : int
        At least 1; the named rules allow more than min(n, d).
    rng : int, numpy.random.Generator or None
        Same seed, same matrix; between LAPACK builds, up to rounding.

    Returns
    -------
    ndarray of shape (n, d), float64

    Raises
    ------
    InputError
        If an argument is outside its range.

    Notes
    -----
    Q of a QR factorization of a Gaussian matrix is Haar-distributed once R has a positive diagonal
    (Mezzadri, "How to generate random matrices from the classical compact groups", 2007).

    Examples
    --------
    The 1000×1000 matrix of the results tables, σ_k = 1/k, is
    ``synthetic(1000, 1000, "power", exponent=1.0, rng=0)``. A smaller one of the same kind:

    >>> import numpy as np
    >>> from lplr.datasets import synthetic
    >>> A = synthetic(60, 40, "power", exponent=1.0, rng=0)
    >>> np.linalg.svd(A, compute_uv=False)[:4].round(3)
    array([1.   , 0.5  , 0.333, 0.25 ])
    """
    n = check_integer(n, "n", 1)
    d = check_integer(d, "d", 1)
    sigma = _singular_values(min(n, d), spectrum, exponent, rank)
    generator = check_rng(rng)
    with single_threaded_blas():  # the same bits on any number of cores
        U = _haar(n, len(sigma), generator)
        V = _haar(d, len(sigma), generator)
        return (U * sigma) @ V.T


def _singular_values(count: int, spectrum: Any, exponent: float, rank: int) -> np.ndarray:
    if not isinstance(spectrum, str):
        sigma = np.asarray(spectrum)
        if sigma.shape != (count,) or sigma.dtype.kind not in "fiu":
            raise InputError(
                f"spectrum: must be a name or {count} real numbers, one for each of min(n, d); "
                f"found an array of shape {sigma.shape} and dtype {sigma.dtype}"
            )
        if not (np.isfinite(sigma) & (sigma >= 0)).all():
            raise InputError("spectrum: singular values must be finite and not negative")
        return sigma.astype(np.float64)
    check_choice(spectrum, "spectrum", _SPECTRA)
    exponent = check_real(exponent, "exponent", strict=False)
    rank = check_integer(rank, "rank", 1)
    k = np.arange(1, count + 1, dtype=np.float64)
    rules = {
        "flat": np.ones(count),
        "power": k**-exponent,
        "exponential": np.exp(-(k - 1) / rank),
        "low-rank": np.where(k <= rank, 1.0, 0.0),
        "outlier": np.where(k <= rank, 10.0, 1.0),
    }
    return rules[spectrum]


def _haar(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal columns, shape (n, k), of a Haar-distributed orthogonal matrix."""
    Q, R = np.linalg.qr(rng.standard_normal((n, k)))
    return Q * np.where(np.diag(R) < 0, -1.0, 1.0)


def shepp_logan(n: int = 256) -> np.ndarray:
    """The Shepp–Logan head phantom: ten ellipses, with the contrast that shows the small ones.

    Parameters
    ----------
    n : int
        Pixels a side. A pixel has the value at its centre; the image spans [-1, 1]².

    Returns
    -------
    ndarray of shape (n, n), float64
        Values in [0, 1]; row 0 is the top of the head.

    Raises
    ------
    InputError
        If `n` is not a positive integer.

    References
    ----------
    Shepp, Logan, "The Fourier reconstruction of a head section", 1974; intensities of Toft,
    "The Radon transform: theory and implementation", 1996, appendix B.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.datasets import shepp_logan
    >>> image = shepp_logan(64)
    >>> image.shape, image.min(), image.max(), np.linalg.matrix_rank(image) < 64
    ((64, 64), np.float64(0.0), np.float64(1.0), np.True_)
    """
    n = check_integer(n, "n", 1)
    x = (2 * np.arange(n) + 1 - n) / n
    y = -x[:, None]
    image = np.zeros((n, n))
    for intensity, a, b, x0, y0, degrees in _ELLIPSES:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        along = (x - x0) * c + (y - y0) * s
        across = (y - y0) * c - (x - x0) * s
        image[(along / a) ** 2 + (across / b) ** 2 <= 1] += intensity
    # All sums are multiples of 0.1; without this the dark regions would be at -5e-17.
    return np.abs(image.round(1))


def fashion_mnist(
    split: str = "train",
    *,
    n: int | None = None,
    subset: str = "auto",
    folder: str | os.PathLike[str] | None = None,
) -> LabelledImages:
    """Fashion-MNIST, 28×28 images of clothes in ten classes, the first `n` of a split.

    The first 6000 training and 1000 test images are part of this package. All 60000 and 10000 are
    read from the Debian package dataset-fashion-mnist, or from any folder that has the four
    files of the official distribution (``train-images-idx3-ubyte.gz``, …).

    Parameters
    ----------
    split : {"train", "test"}
    n : int, optional
        How many images; all of the subset if not given.
    subset : {"auto", "small", "full"}
        What is part of this package, or the installed one; ``"auto"`` takes the small one where
        it has `n` images, else the full one, and without `n` all that is there. Both start with
        the same images.
    folder : path, optional
        Where the full one lies. Default: the variable ``LPLR_FASHION_MNIST``, else the place of
        the Debian package.

    Returns
    -------
    LabelledImages
        ``images`` of shape (n, 784), float32 in [0, 1]; ``labels`` of shape (n,), uint8.

    Raises
    ------
    InputError
        If an argument is outside its range, or the full set is needed and not there.
    CorruptFileError
        If a file is not what its name says.

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
    check_choice(split, "split", tuple(_FASHION_PREFIX))
    check_choice(subset, "subset", ("auto", "small", "full"))
    source = Path(folder or os.environ.get(_FASHION_VARIABLE) or _FASHION_FOLDER)
    if n is not None:
        n = check_integer(
            n, "n", 1, (_FASHION_SMALL if subset == "small" else _FASHION_FULL)[split]
        )
    if subset == "auto":
        is_small = n <= _FASHION_SMALL[split] if n is not None else not _has_full(source, split)
    else:
        is_small = subset == "small"
    available = (_FASHION_SMALL if is_small else _FASHION_FULL)[split]
    count = available if n is None else n
    if is_small:
        arrays = _read("fashion_mnist_small")
        pixels, labels = arrays[f"{split}_images"][:count], arrays[f"{split}_labels"][:count]
    else:
        if not _has_full(source, split):
            raise InputError(
                f"subset: all of Fashion-MNIST is needed and {source} does not have it; install "
                "the Debian package dataset-fashion-mnist, or name a folder with its files by "
                f"folder= or {_FASHION_VARIABLE}; subset='small' has {_FASHION_SMALL[split]} "
                f"{split} images"
            )
        images_path, labels_path = _full_paths(source, split)
        pixels = _read_idx(images_path, (available, 28, 28), count).reshape(count, _PIXELS)
        labels = _read_idx(labels_path, (available,), count)
    return LabelledImages(pixels.astype(np.float32) / np.float32(255), labels.copy())


def _full_paths(folder: Path, split: str) -> tuple[Path, Path]:
    prefix = folder / _FASHION_PREFIX[split]
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


def layer_names() -> tuple[str, ...]:
    """Names of the transformer layers that are part of this package.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from lplr.datasets import layer_names
    >>> layer_names()
    ('minilm_l2_query', 'minilm_l3_output', 'smollm2_l10_up')
    """
    return _LAYERS


def layer(name: str) -> Layer:
    """A linear layer of a transformer with the Hessian of its inputs.

    Parameters
    ----------
    name : str
        One of `layer_names`: two layers of all-MiniLM-L6-v2 (384×384 and 384×1536) and one of
        SmolLM2-135M-Instruct (1536×576, weights dequantized from Q4_1).

    Returns
    -------
    Layer

    Raises
    ------
    InputError
        If there is no layer of that name.

    Notes
    -----
    All weights and two of the Hessians are as captured, bit for bit. H of ``minilm_l3_output`` is
    rounded to multiples of 2⁻²⁰, which changes tr(E H Eᵀ)/tr(W H Wᵀ) by less than 1e-5 of itself
    for the rounding errors E of every method tried; `data/README.md` has the measurement.

    Examples
    --------
    >>> from lplr.datasets import layer
    >>> name, W, H = layer("smollm2_l10_up")
    >>> W.shape, H.shape, W.dtype, (H == H.T).all()
    ((1536, 576), (576, 576), dtype('float32'), np.True_)
    """
    check_choice(name, "name", _LAYERS)
    arrays = _read(name)
    W = _join_q4_1(arrays) if "W_codes" in arrays else _from_planes(arrays["W_planes"], "<f4")
    d = W.shape[1]
    H = np.empty((d, d), np.float32)
    rows, columns = np.tril_indices(d)
    H[rows, columns] = H[columns, rows] = _from_planes(arrays["H_planes"], "<f4")
    return Layer(name, W, H)


def text_embeddings() -> TextEmbeddings:
    """Embeddings of 4224 short texts on 15 topics, of the Debian package fortunes.

    Returns
    -------
    TextEmbeddings
        ``embeddings`` of shape (4224, 384): mean-pooled outputs of all-MiniLM-L6-v2. The rows are
        shuffled; by convention the first 80 % train and the rest test.

    Examples
    --------
    >>> from lplr.datasets import text_embeddings
    >>> embeddings, labels, class_names = text_embeddings()
    >>> embeddings.shape, len(class_names), class_names[:3]
    ((4224, 384), 15, ('computers', 'definitions', 'drugs'))
    """
    arrays = _read("fortune_embeddings")
    return TextEmbeddings(
        _from_planes(arrays["embeddings_planes"], "<f2").astype(np.float32),
        arrays["labels"],
        tuple(str(name) for name in arrays["class_names"]),
    )


def _read(name: str) -> dict[str, np.ndarray]:
    """Every member of a file of this package."""
    from lzma import LZMAError  # here, since a few builds of Python lack it

    path = _DATA / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, LZMAError, zipfile.BadZipFile) as error:
        raise CorruptFileError(f"{path}: cannot be read ({error}); install lplr again") from None


def _from_planes(planes: np.ndarray, dtype: str) -> np.ndarray:
    """Array of shape (…) from uint8 byte planes of shape (itemsize, …), the lowest byte first."""
    items = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view(dtype)[..., 0]
    return items.astype(items.dtype.newbyteorder("="))


def _join_q4_1(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Weights as GGML's Q4_1 defines them: scale * code + offset for each 32 entries of a row."""
    packed, scale, offset = arrays["W_codes"], arrays["W_scale"], arrays["W_offset"]
    codes = np.stack((packed & 15, packed >> 4), axis=-1).reshape(*scale.shape, -1)
    W = scale.astype(np.float32)[..., None] * codes + offset.astype(np.float32)[..., None]
    return W.reshape(len(scale), -1)
