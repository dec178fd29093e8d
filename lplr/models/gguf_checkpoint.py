"""A GGUF file as a checkpoint: names, rows and metadata in the terms of Hugging Face."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.models.base import Checkpoint, StoredTensor, TensorInfo
from lplr.models.gguf_config import config_from_gguf
from lplr.models.gguf_file import GGUFFile
from lplr.models.gguf_names import (
    ROPE_FACTORS,
    from_gguf,
    is_transposed,
    permuted_heads,
    rows_from_gguf,
)
from lplr.models.gguf_tokenizer import tokenizer_files

__all__ = ["open_gguf"]


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file; see `lplr.models.checkpoint.open_checkpoint`."""
    file = GGUFFile(path)
    config = config_from_gguf(file)
    architecture = file.metadata["general.architecture"]
    tensors = {}
    for name, tensor in file.tensors.items():
        if name == ROPE_FACTORS:
            continue
        n_heads = permuted_heads(architecture, config, name)
        if n_heads and (not tensor.shape or n_heads < 1 or tensor.shape[0] % (2 * n_heads)):
            raise CorruptFileError(
                f"{path}: the tensor {name!r} of shape {tensor.shape} is not made of {n_heads} "
                "heads of even width"
            )
        shape = tensor.shape[::-1] if is_transposed(architecture, name) else tensor.shape
        tensors[from_gguf(architecture, name)] = StoredTensor(
            TensorInfo(tensor.dtype, shape, tensor.nbytes),
            partial(_read, file, architecture, config, name),
        )
    files = partial(tokenizer_files, str(path), file.metadata)
    return Checkpoint(path, config, tensors, [path], files)


def _read(file: GGUFFile, architecture: str, config: dict[str, Any], name: str) -> np.ndarray:
    return rows_from_gguf(architecture, config, name, file.read(name))
