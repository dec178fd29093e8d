"""Models for other programs: a folder in the form of Hugging Face, or a GGUF file.

Tensors are asked for one at a time, and rounded to the nearest value of the stored type, ties to
even. The config is written last: without it a folder is not a model, so that what an interrupt
leaves behind is never taken for one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import ExistingFileError, InputError, StorageError
from lplr.models.gguf_writer import gguf_pieces
from lplr.storage.atomic import write_atomic
from lplr.storage.safetensors import as_bytes, safetensors

__all__ = ["export_folder", "export_gguf"]

_CODES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
# What is said anew or not true any more, and what other files say (of a sentence encoder).
_NOT_WRITTEN = (
    "torch_dtype", "dtype", "quantization_config", "pooling", "normalize", "max_seq_length",
)  # fmt: skip
_SHARD_BYTES = 5_000_000_000  # as large as a file of a published model usually is


def export_folder(
    out: str | os.PathLike[str],
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    files: Mapping[str, bytes],
    *,
    dtype: str = "float16",
    shard_bytes: int = _SHARD_BYTES,
) -> None:
    """Write config.json, the tensors as .safetensors files, and the files of the tokenizer.

    Parameters
    ----------
    out : str or path
        A folder that is not there yet.
    config : mapping
        As in config.json. What it says of the stored type and of quantization is replaced.
    shapes : mapping of str to tuple of int
        Of every tensor, by its Hugging Face name.
    read : callable
        Returns a tensor, float32, by its name; asked for one after the other.
    files : mapping of str to bytes
        What `Checkpoint.tokenizer_files` returns.
    dtype : {"float16", "bfloat16", "float32"}
        Of all tensors.
    shard_bytes : int
        Bytes of tensors in a file, at most; a larger tensor has a file of its own.

    Raises
    ------
    InputError
        If ``dtype`` is not known, or a tensor has another shape, or an entry that is not finite
        or is too large for ``dtype``; the message names the tensor.
    ExistingFileError
        If there is something of this name.
    StorageError
        If a file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.models import open_checkpoint
    >>> from lplr.models.writers import export_folder
    >>> w, out = np.float32([[0.5, 3]]), os.path.join(tempfile.mkdtemp(), "model")
    >>> export_folder(out, {"model_type": "llama"}, {"w": w.shape}, {"w": w}.get, {})
    >>> open_checkpoint(out)["w"]
    array([[0.5, 3. ]], dtype=float32)
    """
    if dtype not in _CODES:
        raise InputError(f"dtype must be one of {', '.join(_CODES)}, not {dtype!r}")
    folder = _new_folder(out)
    shards = _shards(shapes, _CODES[dtype], shard_bytes)
    for name, shard in shards.items():
        tensors = {tensor: (_CODES[dtype], tuple(shapes[tensor])) for tensor in shard}
        stored = partial(_stored, shapes, read, _CODES[dtype])
        pieces = safetensors(tensors, stored, metadata={"format": "pt"})  # transformers asks
        write_atomic(folder / name, pieces)
    if len(shards) > 1:
        total = sum(map(math.prod, shapes.values())) * _bytes_of(_CODES[dtype])
        where = {tensor: name for name, shard in shards.items() for tensor in shard}
        index = {"metadata": {"total_size": total}, "weight_map": where}
        write_atomic(folder / "model.safetensors.index.json", [_json(index)])
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, [content])
    plain = {key: value for key, value in config.items() if key not in _NOT_WRITTEN}
    plain["torch_dtype"] = dtype
    write_atomic(folder / "config.json", [_json(plain)])


def export_gguf(
    out: str | os.PathLike[str],
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    files: Mapping[str, bytes],
) -> None:
    """Write one GGUF file: matrices as float16, all else as float32, and the tokenizer.

    Parameters
    ----------
    out : str or path
        A file that ends in ``.gguf``: complete under this name, or not there at all.
    config, shapes, read, files
        As of `export_folder`.

    Raises
    ------
    InputError
        If GGUF has no place for the architecture, the tokenizer or a tensor, or as
        `export_folder`.
    ExistingFileError
        If there is something of this name.
    StorageError
        If it cannot be written.
    MissingPackageError
        If the package ``gguf`` is not installed.

    Examples
    --------
    >>> from lplr.models.writers import export_gguf
    >>> export_gguf("m.gguf", {"model_type": "resnet"}, {}, {}.get, {})
    Traceback (most recent call last):
    ...
    lplr.exceptions.InputError: config.json: model_type 'resnet' cannot be written as GGUF; these \
can: llama, mistral, qwen2, qwen3, bert, gpt2
    """
    if Path(out).suffix != ".gguf":
        raise InputError(f"out must be a file that ends in .gguf, not {os.fspath(out)!r}")
    pieces = gguf_pieces(config, shapes, partial(_stored, shapes, read), files)
    write_atomic(out, pieces)


def _new_folder(out: str | os.PathLike[str]) -> Path:
    folder = Path(out)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        message = f"out: {str(folder)!r} exists; name another folder"
        raise ExistingFileError(message, str(folder)) from None
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {str(folder)!r}: {error.strerror or error}; name another"
        ) from error
    return folder


def _shards(
    shapes: Mapping[str, tuple[int, ...]], code: str, shard_bytes: int
) -> dict[str, list[str]]:
    """The tensors of each file, by its name."""
    if shard_bytes < 1:
        raise InputError(f"shard_bytes must be positive, not {shard_bytes}")
    shards: list[list[str]] = [[]]
    room = shard_bytes
    for name, shape in shapes.items():
        nbytes = _bytes_of(code) * math.prod(shape)
        if nbytes > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= nbytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{i:05}-of-{len(shards):05}.safetensors": shard for i, shard in enumerate(shards, 1)
    }


def _stored(
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    code: str,
    name: str,
) -> np.ndarray:
    """A tensor as it is stored; InputError names one that cannot be."""
    tensor = read(name)
    if tensor.shape != tuple(shapes[name]):
        raise InputError(
            f"the tensor {name!r} has the shape {tensor.shape}, not {tuple(shapes[name])}"
        )
    try:
        return as_bytes(tensor, code)
    except InputError as error:
        raise InputError(f"the tensor {name!r}: {error}") from None


def _bytes_of(code: str) -> int:
    return 4 if code == "F32" else 2


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
