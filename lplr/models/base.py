"""What every checkpoint is: tensors by name, each of them read when it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError

__all__ = ["Checkpoint", "StoredTensor", "TensorInfo", "Tensors"]


@dataclass(frozen=True)
class TensorInfo:
    """How a tensor lies on disk.

    Parameters
    ----------
    dtype : str
        As the format names it: "BF16", "F8_E4M3", "Q4_1".
    shape : tuple of int
        Of the array that reading gives.
    nbytes : int
        Bytes in the file, scales included.

    Examples
    --------
    >>> from lplr.models.base import TensorInfo
    >>> TensorInfo("BF16", (4, 3), 24).nbytes
    24
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint: what is known of it, and how to read it as float32."""

    info: TensorInfo
    read: Callable[[], np.ndarray]


class Tensors(Mapping[str, Any]):
    """Tensors by name, each read when it is asked for; what is known of it is known before.

    Parameters
    ----------
    path : Path
        The folder or file.
    infos : mapping of str to TensorInfo
    """

    def __init__(self, path: Path, infos: Mapping[str, TensorInfo]) -> None:
        self.path = path
        self._infos = dict(infos)

    def __contains__(self, name: object) -> bool:
        return name in self._infos  # the one of Mapping would read it

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def info(self, name: str) -> TensorInfo:
        """Dtype or code, shape and bytes of a tensor, which is not read.

        Raises
        ------
        InputError
            If there is no such tensor.
        """
        if name not in self._infos:
            raise InputError(f"name: {self.path} has no tensor {name!r}")
        return self._infos[name]


class Checkpoint(Tensors):
    """Tensors by their Hugging Face names; `open_checkpoint` makes one.

    ``checkpoint[name]`` reads this one tensor as float32: mapped where the file holds float32,
    else converted. Nothing is kept.

    Parameters
    ----------
    path : Path
        The folder or file.
    config : dict
        As in config.json; made from the metadata of a GGUF file.
    tensors : mapping of str to StoredTensor
    files : sequence of Path
        What `digest` covers: the config and all files with tensors, in a fixed order.
    tokenizer_files : callable
        Returns the files that go beside the tensors when the model is exported, by name.
    """

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        tensors: Mapping[str, StoredTensor],
        files: Sequence[Path],
        tokenizer_files: Callable[[], dict[str, bytes]],
    ) -> None:
        super().__init__(path, {name: tensor.info for name, tensor in tensors.items()})
        self.config = config
        self.tokenizer_files = tokenizer_files
        self._tensors = dict(tensors)
        self._files = tuple(files)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].read()

    def __repr__(self) -> str:
        return (
            f"Checkpoint({str(self.path)!r}: {self.config.get('model_type')}, "
            f"{len(self)} tensors, {self.nbytes} bytes)"
        )

    def renamed(self, name_of: Callable[[str], str]) -> Checkpoint:
        """The same with other names, which must differ."""
        tensors: dict[str, StoredTensor] = {}
        for name, tensor in self._tensors.items():
            if tensors.setdefault(name_of(name), tensor) is not tensor:
                raise CorruptFileError(f"{self.path}: the tensor {name_of(name)!r} is there twice")
        return Checkpoint(self.path, self.config, tensors, self._files, self.tokenizer_files)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors on disk."""
        return sum(tensor.info.nbytes for tensor in self._tensors.values())

    def digest(self) -> str:
        """SHA-256 over the config and all files with tensors, in hexadecimal digits."""
        digest = hashlib.sha256()
        for path in self._files:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()
