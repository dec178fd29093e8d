"""A compressed model on disk: the writer.

A folder with ``config.json`` and the files of the tokenizer, as in the checkpoint;
``layers/NNNNN.h5``, one packed linear layer each, in order; ``kept.safetensors``, all other tensors
in the type that they had; for packed embeddings ``embedding/NNNNN.h5``; and, last, `model.json`,
see `lplr.models.manifest`. `lplr.models.packed` reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.inputs.safetensors import tensors
from lplr.models.base import Checkpoint
from lplr.models.embedding import quantize_rows
from lplr.models.families.base import Family
from lplr.models.manifest import write_manifest
from lplr.progress import unheard
from lplr.provenance import versions
from lplr.storage.atomic import write_atomic
from lplr.storage.container import save
from lplr.storage.safetensors import as_bytes, safetensors
from lplr.storage.stored import read_stored

__all__ = [
    "KEPT",
    "carried_tensors",
    "finish",
    "layer_file",
    "write_kept",
    "write_layer",
    "write_rest",
]

KEPT = "kept.safetensors"
_AS_IT_IS = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F32"}


def layer_file(folder: Path, number: int) -> Path:
    """Where the packed linear layer of a number lies."""
    return folder / "layers" / f"{number:05}.h5"


def write_layer(
    folder: Path, number: int, name: str, packed: Any, record: Mapping[str, Any] | None = None
) -> None:
    """Write one linear layer.

    Parameters
    ----------
    folder : Path
    number : int
        Counted over the whole network.
    name : str
        Of its module: ``model.layers.0.mlp.up_proj``.
    packed : packed matrix of shape (outputs, inputs)
    record : mapping, optional
        What is known of it beside what it shows itself, such as ``relative_error``: JSON that is
        the same whenever the same layer is made, so that the file is too.
    """
    _write(layer_file(folder, number), name, packed, record or {})


def _write(path: Path, name: str, packed: Any, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, packed, overwrite=True, attrs={"name": name, "record": dict(record)})


def write_rest(
    folder: Path, checkpoint: Checkpoint, family: Family, embedding_bits: int | None = None
) -> None:
    """Write everything but the linear layers of the blocks.

    Parameters
    ----------
    folder : Path
    checkpoint : Checkpoint
    family : Family
    embedding_bits : {None, 4, 8}
        Bits of the embedding and of the head, with a scale for each row; None keeps their type.

    Notes
    -----
    Tensors that the checkpoint has in float32, float16 or bfloat16 lose nothing. Those that it has
    in fewer bits become float16, which is exact to 1/2048 of each entry.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = {}
    packed = 0
    for name, shape in other_tensors(family, checkpoint).items():
        if embedding_bits is not None and is_embedding(family, shape):
            q = quantize_rows(checkpoint[name], embedding_bits)
            _write(folder / "embedding" / f"{packed:05}.h5", name, q, {})
            packed += 1
        else:
            kept[name] = (_code_of(checkpoint, name), shape)
    write_kept(folder, kept, checkpoint.__getitem__)
    config = json.dumps(checkpoint.config, indent=2).encode() + b"\n"
    for name, content in {**checkpoint.tokenizer_files(), "config.json": config}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, [content], overwrite=True)


def write_kept(
    folder: Path,
    kept: Mapping[str, tuple[str, tuple[int, ...]]],
    read: Callable[[str], np.ndarray],
) -> None:
    """Write the tensors that are not packed, each of a dtype and a shape."""
    pieces = safetensors(kept, lambda name: as_bytes(read(name), kept[name][0]))
    write_atomic(folder / KEPT, pieces, overwrite=True)


def other_tensors(family: Family, checkpoint: Checkpoint | None) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors but the weights of the linear layers in blocks, by name."""
    linear = {f"{name}.weight" for i in range(family.n_blocks) for name in family.linears(i)}
    shapes = family.tensors() | carried_tensors(family, checkpoint or {})
    return {name: shape for name, shape in shapes.items() if name not in linear}


def carried_tensors(family: Family, tensors: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of those that only other programs use."""
    return {name: tensors.info(name).shape for name in tensors if family.carried(name)}


def is_embedding(family: Family, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape has a row for each token: the embedding, or the head."""
    return len(shape) == 2 and shape[0] == family.vocabulary


def _code_of(checkpoint: Checkpoint, name: str) -> str:
    """The type in which a tensor is kept."""
    known = _AS_IT_IS.get(checkpoint.info(name).dtype)
    if known is not None:
        return known
    return "F16" if np.abs(checkpoint[name]).max(initial=0) < 6e4 else "F32"


def finish(
    folder: Path,
    settings: Mapping[str, Any],
    measured: Mapping[str, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the manifest, which makes the folder a model.

    Parameters
    ----------
    folder : Path
        Complete, and with nothing in it that does not belong to the model.
    settings : mapping
        How it was made, as JSON holds it.
    measured : mapping of str to mapping, optional
        What more there is to say of a layer, by the name of its module; may change from one run
        to the next, as ``seconds`` does.
    overwrite : bool
        Whether a manifest that is there is replaced.

    Raises
    ------
    InputError
        If there is no layer.
    """
    layers = list(_described(folder, "layers", measured or {}))
    embeddings = list(_described(folder, "embedding", {}))
    if not layers:
        raise InputError(f"folder: {folder} has no layers; write them first")
    kept = [
        {"name": name, "dtype": t.dtype, "shape": list(t.shape), "nbytes": t.nbytes}
        for name, t in tensors(folder / KEPT).items()
    ]
    description = {
        "settings": dict(settings),
        "versions": versions(),
        "totals": {
            "layers": _total(layers),
            "embedding": _total(embeddings),
            "kept": _total(kept),
            "whole": _total([*layers, *embeddings, *kept]),
        },
        "layers": layers,
        "embedding": embeddings,
        "kept": kept,
    }
    write_manifest(folder, description, overwrite)


def _described(
    folder: Path, place: str, measured: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What is to say of the packed matrices of a folder, in order."""
    for path in sorted((folder / place).glob("*.h5")):
        with unheard():
            stored = read_stored(path)
        packed, name = stored.decode(), stored.attrs["name"]
        yield {
            "name": name,
            "file": f"{place}/{path.name}",
            "shape": list(packed.shape),
            "nbytes": packed.nbytes,
            "bits_per_entry": packed.bits_per_entry,
            "rank": packed.rank,
            "code": packed.code,
            **stored.attrs["record"],
            **measured.get(name, {}),
        }


def _total(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Weights and bytes of tensors together."""
    weights = sum(math.prod(entry["shape"]) for entry in entries)
    nbytes = sum(entry["nbytes"] for entry in entries)
    bits = 8 * nbytes / weights if weights else 0.0
    return {"weights": weights, "nbytes": nbytes, "bits_per_weight": bits}
