"""The one way in: a folder in the form of Hugging Face, or a GGUF file."""

from __future__ import annotations

import os
from pathlib import Path

from lplr.exceptions import InputError, MissingFileError
from lplr.models.base import Checkpoint, TensorInfo
from lplr.models.families import class_of
from lplr.models.families.sentence import sentence_settings
from lplr.models.gguf_checkpoint import open_gguf
from lplr.models.manifest import MANIFEST
from lplr.models.safetensors_folder import open_folder

__all__ = ["Checkpoint", "TensorInfo", "open_checkpoint"]


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a model: its config and its tensors by name; none of them is read yet.

    Parameters
    ----------
    path : str or path
        A folder with config.json and ``model.safetensors``, or several such files with
        ``model.safetensors.index.json``, or one file of any name that ends in ``.safetensors``;
        or the name of such a file, config.json beside it; or a ``.gguf`` file.

    Returns
    -------
    Checkpoint
        A mapping from Hugging Face names to float32 arrays, each read when it is asked for. The
        names and rows of a GGUF file are translated.

    Raises
    ------
    MissingFileError
        If ``path``, config.json or a file that the index names is not there.
    InputError
        If there is no one set of tensors, a GGUF file is of an unknown architecture, or the folder
        is a compressed model.
    CorruptFileError
        If a file is truncated, altered or not what its name says; UnsafeFileError if a name
        leaves the folder.
    MissingPackageError
        If ``path`` is a GGUF file and the package ``gguf`` is not installed.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from lplr.models.checkpoint import open_checkpoint
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "config.json").write_text('{"model_type": "llama"}')
    >>> header = b'{"w": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]}}'
    >>> data = np.array([[1.5, -2]], np.float16).tobytes()
    >>> _ = (folder / "model.safetensors").write_bytes(
    ...     len(header).to_bytes(8, "little") + header + data
    ... )
    >>> checkpoint = open_checkpoint(folder)
    >>> checkpoint.info("w").dtype, checkpoint["w"]
    ('F16', array([[ 1.5, -2. ]], dtype=float32))
    """
    try:
        found = Path(path)
    except TypeError:
        raise InputError(f"path must be the name of a folder or file, not {path!r}") from None
    if os.path.isfile(found / MANIFEST):
        raise InputError(
            f"path: {str(found)!r} is a compressed model; give the checkpoint that it was made "
            "from, or open it with lplr.models.load"
        )
    if os.path.isdir(found):
        return _in_our_terms(open_folder(found))
    if not os.path.exists(found):
        raise MissingFileError(
            f"path: there is no {str(found)!r}; name a folder in the form of Hugging Face, or a "
            ".gguf file",
            str(found),
        )
    if found.suffix == ".gguf":
        return _in_our_terms(open_gguf(found))
    if found.suffix == ".safetensors":
        return _in_our_terms(open_folder(found.parent, found.name))
    raise InputError(
        f"path must be a folder with config.json and .safetensors files, or a .gguf file, not "
        f"{str(found)!r}"
    )


def _in_our_terms(found: Checkpoint) -> Checkpoint:
    """The same with one name for each tensor, and how texts are pooled as part of the config."""
    family = class_of(found.config)
    if not family.causal:
        found.config |= sentence_settings(found.tokenizer_files())
    return found.renamed(family.canonical)
