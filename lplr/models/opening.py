"""Networks from disk: of a compressed model, or of a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from lplr.exceptions import InputError
from lplr.models.base import Checkpoint
from lplr.models.checkpoint import open_checkpoint
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
        As `load` and `open_checkpoint`.
    """
    return _network(open_tensors(path))


def open_tensors(path: str | os.PathLike[str]) -> PackedModel | Checkpoint:
    """The tensors of a model, compressed or not, and its config; as `open_network` otherwise."""
    if os.path.lexists(_as_path(path) / MANIFEST):
        return PackedModel(Path(path))
    return open_checkpoint(path)


def _network(tensors: PackedModel | Checkpoint) -> Network:
    return Network(family_of(tensors.config), tensors)


def _as_path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise InputError(f"path must be the name of a folder, not {path!r}") from None
