"""The real data in this package: transformer layers and text embeddings."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.validation.arguments import check_choice

__all__ = ["Layer", "TextEmbeddings", "layer", "layer_names", "text_embeddings"]

_DATA = Path(__file__).parents[1] / "data"
_LAYERS = ("minilm_l2_query", "minilm_l3_output", "smollm2_l10_up")


class Layer(NamedTuple):
    """A linear layer y = W x and the second moment of its inputs.

    Parameters
    ----------
    name : str
    W : ndarray of shape (n, d), float32
        Weights; row i gives output i.
    H : ndarray of shape (d, d), float32
        Mean of x xᵀ over the inputs x; symmetric and not regularised.

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


class TextEmbeddings(NamedTuple):
    """Sentence embeddings with the topic of each text.

    Parameters
    ----------
    embeddings : ndarray of shape (n, d), float32
        Rows of norm 1, up to the rounding to float16.
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


def layer_names() -> tuple[str, ...]:
    """Names of the transformer layers in this package.

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
    """A linear layer of a transformer, and the Hessian from its inputs.

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
    rounded to multiples of 2⁻²⁰. For the errors E of all methods that were tried, this changes
    tr(E H Eᵀ)/tr(W H Wᵀ) by a relative 1e-5 at most; `data/README.md` has the measurement.

    Examples
    --------
    >>> from lplr.datasets import layer
    >>> name, W, H = layer("smollm2_l10_up")
    >>> W.shape, H.shape, W.dtype, (H == H.T).all()
    ((1536, 576), (576, 576), dtype('float32'), np.True_)
    """
    check_choice(name, "name", _LAYERS)
    arrays = read_bundled(name)
    W = _join_q4_1(arrays) if "W_codes" in arrays else _from_planes(arrays["W_planes"], "<f4")
    d = W.shape[1]
    H = np.empty((d, d), np.float32)
    rows, columns = np.tril_indices(d)
    H[rows, columns] = H[columns, rows] = _from_planes(arrays["H_planes"], "<f4")
    return Layer(name, W, H)


def text_embeddings() -> TextEmbeddings:
    """Embeddings of 4224 short texts on 15 topics, from the Debian package fortunes.

    Returns
    -------
    TextEmbeddings
        ``embeddings`` has shape (4224, 384): mean-pooled outputs of all-MiniLM-L6-v2. The rows are
        shuffled; by convention the first 80 % are for training and the rest for testing.

    Examples
    --------
    >>> from lplr.datasets import text_embeddings
    >>> embeddings, labels, class_names = text_embeddings()
    >>> embeddings.shape, len(class_names), class_names[:3]
    ((4224, 384), 15, ('computers', 'definitions', 'drugs'))
    """
    arrays = read_bundled("fortune_embeddings")
    return TextEmbeddings(
        _from_planes(arrays["embeddings_planes"], "<f2").astype(np.float32),
        arrays["labels"],
        tuple(str(name) for name in arrays["class_names"]),
    )


def read_bundled(name: str) -> dict[str, np.ndarray]:
    """All arrays in a file of this package."""
    from lzma import LZMAError  # here, since a few builds of Python lack it

    path = _DATA / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, LZMAError, zipfile.BadZipFile) as error:
        raise CorruptFileError(f"{path}: cannot be read ({error}); install lplr again") from None


def _from_planes(planes: np.ndarray, dtype: str) -> np.ndarray:
    """Array of shape (…) from its byte planes, uint8 of shape (itemsize, …), lowest byte first."""
    items = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view(dtype)[..., 0]
    return items.astype(items.dtype.newbyteorder("="))


def _join_q4_1(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Weights in GGML's Q4_1: scale * code + offset, with one pair for 32 entries of a row."""
    packed, scale, offset = arrays["W_codes"], arrays["W_scale"], arrays["W_offset"]
    codes = np.stack((packed & 15, packed >> 4), axis=-1).reshape(*scale.shape, -1)
    W = scale.astype(np.float32)[..., None] * codes + offset.astype(np.float32)[..., None]
    return W.reshape(len(scale), -1)
