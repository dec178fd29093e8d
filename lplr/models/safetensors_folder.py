"""A folder in the form of Hugging Face: config.json and tensors in one or many .safetensors files.

Nothing outside the folder is opened, whatever an index or a link says. One exception is the cache
of Hugging Face, whose folders ``snapshots/<commit>/`` are made of links to ``blobs/`` beside them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, MissingFileError, UnsafeFileError
from lplr.inputs import safetensors
from lplr.memory import parse_json
from lplr.models.base import Checkpoint, StoredTensor, TensorInfo
from lplr.models.float8 import apply_scale, block_of, scales_of

__all__ = ["open_folder", "read_json"]

_INDEX = "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth")
# Bytes; the largest published ones are 100 times smaller.
_MAX_JSON = 1 << 26
_MAX_TOKENIZER_FILE = 1 << 28
# What goes beside the tensors of an exported model, where it is there.
_BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
    "generation_config.json", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "1_Pooling/config.json",
)  # fmt: skip


def open_folder(folder: Path, only: str = "") -> Checkpoint:
    """Open a folder, or one of its files; see `lplr.models.checkpoint.open_checkpoint`."""
    if not os.path.lexists(folder / "config.json"):
        message = f"path: there is no file 'config.json' in {folder}{_advice(folder)}"
        raise MissingFileError(message, str(folder))
    config_path = inside(folder, "config.json")
    config = read_json(config_path)
    shards = [only] if only else None
    index = None if only else _index(folder)
    if index is not None:
        shards = sorted(set(index.values()))
    elif shards is None:
        shards = [_single(folder)]
    paths = {shard: inside(folder, shard) for shard in shards}
    where: dict[str, str] = {}
    found: dict[str, safetensors.Tensor] = {}
    for shard, path in paths.items():
        for name, tensor in safetensors.tensors(path).items():
            if name in where:
                raise CorruptFileError(
                    f"{folder}: the tensor {name!r} is in {where[name]} and in {shard}"
                )
            where[name], found[name] = shard, tensor
    if index is not None and index != where:
        _explain(folder, index, where)
    infos = {name: TensorInfo(t.dtype, t.shape, t.nbytes) for name, t in found.items()}
    scales, helpers = scales_of(str(folder), config, infos)
    block = block_of(str(folder), config)
    reads = {name: partial(_read, paths[where[name]], name, t) for name, t in found.items()}
    tensors = {}
    for name, info in infos.items():
        read: Callable[[], np.ndarray] = reads[name]
        if name in scales:
            info = replace(info, nbytes=info.nbytes + infos[scales[name]].nbytes)
            read = partial(_read_scaled, read, reads[scales[name]], block)
        if name not in helpers:
            tensors[name] = StoredTensor(info, read)
    files = [config_path, *paths.values()]
    return Checkpoint(folder, config, tensors, files, partial(_beside, folder))


def inside(folder: Path, name: str) -> Path:
    """The file of a folder; MissingFileError and UnsafeFileError refuse all else."""
    path = folder / name
    try:
        real, home = path.resolve(), folder.resolve()
    except (ValueError, RuntimeError) as error:  # a character that no name has; a loop of links
        raise UnsafeFileError(f"{folder}: {name!r} leads to no file: {error}") from None
    homes = [home]
    if home.parent.name == "snapshots":  # of the cache of Hugging Face
        homes.append(home.parent.parent / "blobs")
    if not any(real.is_relative_to(home) for home in homes) or Path(name).is_absolute():
        raise UnsafeFileError(f"{folder}: {name!r} leads out of the folder, which is not followed")
    if not real.is_file():
        raise MissingFileError(f"{folder}: there is no file {name!r}", str(path))
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; CorruptFileError refuses all else."""
    size = path.stat().st_size
    if size > _MAX_JSON:
        raise CorruptFileError(f"{path}: has {size} bytes, more than any such file needs")
    try:
        found = parse_json(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"it is a {type(found).__name__}, not an object")
    except ValueError as error:
        raise CorruptFileError(f"{path}: is not valid JSON: {error}") from None
    return found


def _index(folder: Path) -> dict[str, str] | None:
    """The file of each tensor, where there is an index and not all are in one file."""
    if os.path.lexists(folder / "model.safetensors") or not os.path.lexists(folder / _INDEX):
        return None
    path = inside(folder, _INDEX)
    index = read_json(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CorruptFileError(f"{path}: has no weight_map from tensors to files")
    for name, shard in index.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise CorruptFileError(f"{path}: {name!r} is in {shard!r}, no .safetensors file")
    return index


def _single(folder: Path) -> str:
    """The one file with tensors."""
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if "model.safetensors" in found:
        return "model.safetensors"
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"path: {folder} has {len(found)} .safetensors files and no {_INDEX}; name one: "
            f"{', '.join(found[:5])}"
        )
    message = f"path: {folder} has no .safetensors file{_advice(folder)}"
    raise MissingFileError(message, str(folder))


def _advice(folder: Path) -> str:
    """What else may be meant by a folder that is no checkpoint."""
    gguf = sorted(path.name for path in folder.glob("*.gguf"))
    if gguf:
        return f"; name the .gguf file itself: {', '.join(gguf[:5])}"
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    if pickled:
        return f"; {pickled[0]} may hold pickled code, which is never run: convert it"
    return ""


def _explain(folder: Path, index: dict[str, str], where: dict[str, str]) -> None:
    name = min(name for name in index.keys() | where.keys() if index.get(name) != where.get(name))
    raise CorruptFileError(
        f"{folder}: {_INDEX} says that the tensor {name!r} is in {index.get(name, 'no file')}, "
        f"and it is in {where.get(name, 'no file')}"
    )


def _read(path: Path, name: str, tensor: safetensors.Tensor) -> np.ndarray:
    found = safetensors.read_tensor(str(path), name, tensor).array
    if found.dtype.kind == "c":
        raise InputError(f"{path}: the tensor {name!r} is complex, which no network here is")
    with np.errstate(over="ignore"):  # an infinity is found and named by `check_finite`
        return np.asarray(found, np.float32)


def _read_scaled(
    read: Callable[[], np.ndarray], scale: Callable[[], np.ndarray], block: tuple[int, int]
) -> np.ndarray:
    return apply_scale(read(), scale(), block)


def _beside(folder: Path) -> dict[str, bytes]:
    found = {}
    for name in _BESIDE:
        if os.path.lexists(folder / name):
            path = inside(folder, name)
            if path.stat().st_size > _MAX_TOKENIZER_FILE:
                raise CorruptFileError(f"{path}: has more bytes than any such file needs")
            found[name] = path.read_bytes()
    return found
