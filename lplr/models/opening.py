"""Networks from disk: of a compressed model, or of a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from lplr.exceptions import InputError
from lplr.models.base import Checkpoint
from lplr.models.checkpoint import open_checkpoint
from lplr.models.checks import check_checkpoint
from lplr.models.families import family_of
from lplr.models.manifest import MANIFEST
from lplr.models.network import Network
from lplr.models.packed import PackedModel

__all__ = ["load", "open_network", "open_tensors"]


def load(folder: str | os.PathLike[str]) -> Network:
    """Open a compressed model: a network whose products are on packed codes.

    Parameters
    ----------
    folder : str or path
        What `compress` made.

    Returns
    -------
    Network
        Each of its files is verified when it is first used. ``network.tensors`` has the tensors by
        name, and the description of the whole as ``network.tensors.manifest``.

    Raises
    ------
    MissingFileError
        If there is no such folder, or its model is not finished.
    CorruptFileError, UnsafeFileError
        If the folder is not what was written, here or when what is damaged is first used.

    Examples
    --------
    >>> import lplr
    >>> network = lplr.models.load("smaller")  # doctest: +SKIP
    >>> network.logits(ids)  # doctest: +SKIP
    """
    return _network(PackedModel(_as_path(folder)))


def open_network(path: str | os.PathLike[str]) -> Network:
    """Open a network, compressed or not.

    Parameters
    ----------
    path : str or path
        A folder that `compress` made, a folder in the form of Hugging Face, or a ``.gguf`` file.

    Returns
    -------
    Network

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `load` and `open_checkpoint`; InputError too if the tensors are not those of the
        network that config.json describes.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import lplr
    >>> from lplr.models.families import family_of
    >>> from lplr.models.writers import export_folder
    >>> config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
    ...           "n_positions": 16, "vocab_size": 50}
    >>> shapes, out = family_of(config).tensors(), os.path.join(tempfile.mkdtemp(), "tiny")
    >>> export_folder(out, config, shapes, lambda name: np.ones(shapes[name], np.float32), {})
    >>> network = lplr.models.open_network(out)
    >>> network.logits(np.array([[3, 1, 4]])).shape
    (1, 3, 50)
    """
    return _network(open_tensors(path))


def open_tensors(path: str | os.PathLike[str]) -> PackedModel | Checkpoint:
    """The tensors of a model, compressed or not, with its config; errors as `open_network`."""
    packed = os.path.lexists(_as_path(path) / MANIFEST)
    return PackedModel(Path(path)) if packed else open_checkpoint(path)


def _network(tensors: PackedModel | Checkpoint) -> Network:
    """The network, if the tensors have the names and shapes that their config asks for."""
    family = family_of(tensors.config)
    check_checkpoint(tensors, family.tensors(), ignored=family.ignored, tied=family.tied_tensors)
    return Network(family, tensors)


def _as_path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise InputError(f"path must be the name of a folder, not {path!r}") from None
