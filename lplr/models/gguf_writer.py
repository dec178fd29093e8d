"""The pieces of a GGUF file: the header, as the package ``gguf`` writes it, and then each tensor.

Matrices are float16; what is added or multiplied entry by entry is float32, as the readers ask.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lplr.extras import optional
from lplr.models.gguf_config import architecture_of, config_to_gguf, rope_factors
from lplr.models.gguf_names import ROPE_FACTORS, is_transposed, rows_to_gguf, to_gguf
from lplr.models.gguf_vocabulary import tokenizer_to_gguf
from lplr.storage.temporary import temporary_folder

__all__ = ["gguf_pieces"]

_ADDED = ("position_embd.weight", "token_types.weight")


def gguf_pieces(
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str, str], np.ndarray],
    files: Mapping[str, bytes],
) -> Iterator[bytes | memoryview]:
    """The pieces of a file.

    Parameters
    ----------
    config, shapes
        As of `lplr.models.writers.export_gguf`.
    read : callable
        ``read(code, name)`` returns a tensor as "F16" or "F32".
    files
        As of `lplr.models.writers.export_gguf`.
    """
    gguf = optional("gguf", "writing a GGUF file")
    architecture = architecture_of(config)
    tied = config.get("tie_word_embeddings", architecture == "gpt2")
    names = {}
    for name in shapes:
        theirs = to_gguf(architecture, name)
        if theirs and not (tied and theirs == "output.weight"):
            names[theirs] = name
    metadata = config_to_gguf(config) | tokenizer_to_gguf(config, files)
    with temporary_folder() as folder:
        path = os.path.join(folder, "header.gguf")
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_type("model")
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        for key, value in metadata.items():
            _add(writer, key, value)
        codes = {}
        factors = rope_factors(config) if architecture not in ("bert", "gpt2") else None
        if factors is not None:
            writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for theirs, name in names.items():
            shape = shapes[name][::-1] if is_transposed(architecture, theirs) else shapes[name]
            codes[theirs] = "F32" if len(shape) == 1 or theirs in _ADDED else "F16"
            dtype = np.dtype("<f4" if codes[theirs] == "F32" else "<f2")
            writer.add_tensor_info(theirs, shape, dtype, math.prod(shape) * dtype.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with open(path, "rb") as file:
            header = file.read()
    alignment = writer.data_alignment
    yield header + bytes(-len(header) % alignment)
    if factors is not None:
        yield from _padded(factors, alignment)
    for theirs, name in names.items():
        tensor = rows_to_gguf(architecture, config, theirs, read(codes[theirs], name))
        yield from _padded(tensor, alignment)


def _add(writer: Any, key: str, value: Any) -> None:
    """One entry, of the type that readers expect."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _padded(tensor: np.ndarray, alignment: int) -> Iterator[bytes | memoryview]:
    yield np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    yield bytes(-tensor.nbytes % alignment)
