"""A compressed model on disk: the reader, which decodes no layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.inputs import safetensors
from lplr.inputs.maps import mapped
from lplr.matrices.base import PackedMatrix
from lplr.models.base import TensorInfo, Tensors
from lplr.models.families import family_of
from lplr.models.manifest import MANIFEST, check_file, read_manifest
from lplr.models.safetensors_folder import read_json
from lplr.models.store import KEPT
from lplr.parallel import matmul
from lplr.progress import parts, unheard, until
from lplr.storage.container import load

__all__ = ["PackedModel", "Rows"]

_LARGE = 1 << 20  # entries from which on a matrix stays on disk until rows are asked for


class PackedModel(Tensors):
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
        self.manifest = read_manifest(path)
        self._found: dict[str, Any] = {}
        try:
            self.config = read_json(check_file(path, "config.json", self.manifest))
            # Linear layers are packed as (outputs, inputs), in whatever way they lay.
            self._turned = family_of(self.config).transposed
        except KeyError as error:
            raise CorruptFileError(f"{path / MANIFEST}: does not list {error}") from error
        described = list(self._described())
        super().__init__(path, {name: info for name, _, info in described})
        self._files = {name: file for name, file, _ in described}
        self._layers = {f"{layer['name']}.weight" for layer in self.manifest["layers"]}
        packed = [file for file in self._files.values() if file != KEPT]
        if len(self) < len(described) or len(set(packed)) < len(packed):
            raise CorruptFileError(f"{path / MANIFEST}: describes a tensor or a file twice")
        if not set(self._files.values()) <= self.manifest["files"].keys():
            raise CorruptFileError(f"{path / MANIFEST}: has a tensor that is in no file")

    def _described(self) -> Iterator[tuple[str, str, TensorInfo]]:
        """Name, file and form of each tensor."""
        for place, code in (("layers", "code"), ("embedding", "code"), ("kept", "dtype")):
            for entry in self.manifest[place]:
                name, shape = entry["name"], tuple(entry["shape"])
                if place == "layers":
                    name, shape = f"{name}.weight", shape[::-1] if self._turned else shape
                file = KEPT if place == "kept" else entry["file"]
                yield name, file, TensorInfo(entry[code], shape, entry["nbytes"])

    @cached_property
    def _kept(self) -> dict[str, safetensors.Tensor]:
        return safetensors.tensors(check_file(self.path, KEPT, self.manifest))

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            file = self._files[name]
            try:
                found = self._read(name, file)
            except FileNotFoundError as error:  # since the folder was opened
                raise CorruptFileError(f"{self.path / file}: is missing") from error
            if found is None:
                said = f"{self.path / file}: does not hold {name} as {MANIFEST} says"
                raise CorruptFileError(said)
            self._found[name] = found
        return self._found[name]

    def _read(self, name: str, file: str) -> Any:
        """A tensor from its file; None if it is another one there."""
        info = self._infos[name]
        if file == KEPT:
            kept = self._kept.get(name)
            if kept is None or info != TensorInfo(kept.dtype, kept.shape, kept.nbytes):
                return None
            return _kept_tensor(self.path / KEPT, name, kept)
        with unheard():
            found = load(check_file(self.path, file, self.manifest))
        flipped = self._turned and name in self._layers
        shape = info.shape[::-1] if flipped else info.shape
        right = isinstance(found, PackedMatrix) and found.shape == shape
        return found if right and found.nbytes == info.nbytes else None

    def dense(self, name: str) -> np.ndarray:
        """A tensor as checkpoints of its family have it, float32."""
        found = np.asarray(self[name], np.float32)
        return found.T if self._turned and name in self._layers else found

    def __repr__(self) -> str:
        infos = [self.info(name) for name in self._layers]
        weights = sum(math.prod(info.shape) for info in infos)
        bits = 8 * sum(info.nbytes for info in infos) / max(1, weights)
        return (
            f"PackedModel({str(self.path)!r}: {self.config.get('model_type')}, "
            f"{len(infos)} layers at {bits:.4g} bits per weight)"
        )

    def tokenizer_files(self) -> dict[str, bytes]:
        """The files that go beside the tensors, by name; as `Checkpoint.tokenizer_files`."""
        own = {"config.json", *self._files.values()}
        return {
            name: check_file(self.path, name, self.manifest).read_bytes()
            for name in self.manifest["files"]
            if name not in own
        }

    def verify(self) -> None:
        """Check every byte of every file, and that all tensors can be read and are finite.

        Raises
        ------
        CorruptFileError
            If anything is damaged; the message names the files.
        """
        damaged = []
        with until(0.2):
            for name in parts(list(self.manifest["files"]), what="reading"):
                try:
                    check_file(self.path, name, self.manifest)
                except CorruptFileError:
                    damaged.append(name)
        if damaged:
            few = ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
            raise CorruptFileError(
                f"{self.path}: {len(damaged)} file{'s are' if len(damaged) > 1 else ' is'} "
                f"damaged, or cannot be read, by the SHA-256 that {MANIFEST} has: {few}"
            )
        for name in parts(list(self), what=lambda name: f"decoding {name}"):
            if not np.isfinite(self.dense(name)).all():
                raise CorruptFileError(f"{self.path}: {name} has entries that are not finite")


def _kept_tensor(path: Path, name: str, tensor: safetensors.Tensor) -> Any:
    """A float32 array, mapped where the file holds one; a large matrix of half floats as `Rows`."""
    if len(tensor.shape) == 2 and math.prod(tensor.shape) > _LARGE and tensor.dtype != "F32":
        return Rows(path, tensor)
    return np.asarray(safetensors.read_tensor(str(path), name, tensor).array, np.float32)


class Rows:
    """A matrix of half floats on disk, whose rows are read when they are asked for.

    Products need it in float32, once, which is kept from then on.
    """

    def __init__(self, path: Path, tensor: safetensors.Tensor) -> None:
        dtype = "<f2" if tensor.dtype == "F16" else "<u2"
        self._stored = mapped(path, dtype, tensor.offset, tensor.shape)
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
        return matmul(self._dense, x) if x.shape[1] == 1 else self._dense @ x

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32, copy=False)
