"""A compressed model on disk: the reader, which decodes no layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.inputs import safetensors
from lplr.models.manifest import check_file, read_manifest
from lplr.models.safetensors_folder import read_json
from lplr.models.store import KEPT
from lplr.storage.container import load

__all__ = ["PackedModel", "Rows"]

_LARGE = 1 << 20  # entries from which on a matrix stays on disk until rows are asked for


class PackedModel(Mapping[str, Any]):
    """Tensors of a compressed model by their Hugging Face names; packed ones stay packed.

    Each file is verified, whole, when the first tensor in it is asked for. Packed matrices are
    then kept, so that in the end the memory is that of their codes.

    Parameters
    ----------
    path : Path
        The folder.

    Raises
    ------
    MissingFileError
        If there is no such folder, or its model is not finished.
    CorruptFileError, UnsafeFileError
        If the folder is not what was written; a damaged tensor is found when it is asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self.config = read_json(check_file(path, "config.json", self.manifest))
        packed = self.manifest["layers"], self.manifest["embedding"]
        self._files = {f"{entry['name']}.weight": entry["file"] for entry in packed[0]}
        self._files |= {entry["name"]: entry["file"] for entry in packed[1]}
        self._found: dict[str, Any] = {}

    @cached_property
    def _kept(self) -> dict[str, safetensors.Tensor]:
        return safetensors.tensors(check_file(self.path, KEPT, self.manifest))

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            file = self._files.get(name)
            if file is None:
                self._found[name] = _kept_tensor(self.path / KEPT, name, self._kept[name])
            else:
                self._found[name] = load(check_file(self.path, file, self.manifest))
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._files or name in self._kept

    def __iter__(self) -> Iterator[str]:
        yield from self._files
        yield from self._kept

    def __len__(self) -> int:
        return len(self._files) + len(self._kept)

    def __repr__(self) -> str:
        bits = self.manifest["totals"]["layers"]["bits_per_weight"]
        return (
            f"PackedModel({str(self.path)!r}: {self.config.get('model_type')}, "
            f"{len(self.manifest['layers'])} layers at {bits:.4g} bits per weight)"
        )

    def verify(self) -> None:
        """Check every byte of every file, and that all tensors can be read.

        Raises
        ------
        CorruptFileError
            If one is damaged; the message names the file.
        """
        for name in self.manifest["files"]:
            check_file(self.path, name, self.manifest)
        for name in self:
            tensor = self[name]
            if isinstance(tensor, np.ndarray) and not np.isfinite(tensor).all():
                raise CorruptFileError(f"{self.path}: {name} has entries that are not finite")


def _kept_tensor(path: Path, name: str, tensor: safetensors.Tensor) -> Any:
    """A float32 array, mapped where the file holds one; a large matrix of half floats as `Rows`."""
    if len(tensor.shape) == 2 and math.prod(tensor.shape) > _LARGE and tensor.dtype != "F32":
        return Rows(path, tensor)
    return np.asarray(safetensors.read(str(path), name).array, np.float32)


class Rows:
    """A matrix of half floats on disk, whose rows are read when they are asked for.

    Products need it in float32, once, which is kept from then on.
    """

    def __init__(self, path: Path, tensor: safetensors.Tensor) -> None:
        dtype = "<f2" if tensor.dtype == "F16" else "<u2"
        self._stored = np.memmap(path, dtype, "r", tensor.offset, tensor.shape)
        self.shape = tensor.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        found = self._stored[index]
        if found.dtype == np.float16:
            return found.astype(np.float32)
        return (found.astype(np.uint32) << 16).view(np.float32)  # the upper half of float32

    @cached_property
    def _dense(self) -> np.ndarray:
        return self[:]

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        return self._dense @ x

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32, copy=False)
