"""The header of a GGUF file, without trust: its metadata, and where its tensors lie.

The format [1]_, little-endian: "GGUF", the version, the numbers of tensors and of metadata; each
metadata as key, type and value; of each tensor the name, the extents (the last one of the array
first), the type and the offset of its data; then, aligned, the data. A file is refused unless
every length stays within the file and no two tensors overlap. What a type means, and its values,
are left to the package ``gguf``, which knows them all.

References
----------
.. [1] https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.extras import optional
from lplr.inputs import check_readable
from lplr.inputs.maps import mapped
from lplr.memory import LOADING

__all__ = ["GGUFFile", "GGUFTensor"]

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4
# Bytes of memory for an entry of a list, a text beside its letters, and what a tensor is.
_ENTRY, _TEXT, _TENSOR = 40, 80, 2000
_MAX_ENTRIES = 1 << 56
_ENTRIES_AT_ONCE = 1 << 22  # of dequantization: 16 MB of float32


@dataclass(frozen=True)
class GGUFTensor:
    """Type, shape (as NumPy counts) and place of a tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class GGUFFile:
    """Metadata and tensors of a GGUF file.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    metadata : dict
    tensors : dict of str to GGUFTensor

    Raises
    ------
    CorruptFileError
        If the file is not exactly what the format allows.
    InputError
        If a tensor has a type that the package ``gguf`` does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gguf = optional("gguf", f"{path}: reading a GGUF file")
        check_readable(str(path))  # a pipe would wait
        try:
            with (
                open(path, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                self._parse(_Cursor(data), len(data))
        except (ValueError, struct.error) as error:  # also of an empty file, and of wrong UTF-8
            if isinstance(error, InputError):
                raise
            raise CorruptFileError(f"{path}: is no valid GGUF file: {error}") from None

    def _parse(self, cursor: _Cursor, size: int) -> None:
        if cursor.take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version = cursor.scalar("I")
        if version not in (2, 3):
            raise ValueError(f"its version is {version}, not 2 or 3, or it is big-endian")
        n_tensors, n_metadata = cursor.scalar("Q"), cursor.scalar("Q")
        self.metadata: dict[str, Any] = {}
        for _ in range(n_metadata):
            key = cursor.text()
            if key in self.metadata:
                raise ValueError(f"the key {key!r} is there twice")
            self.metadata[key] = cursor.value(cursor.scalar("I"))
        found = []
        names = set()
        for _ in range(n_tensors):
            name = cursor.text()
            if name in names:
                raise ValueError(f"the tensor {name!r} is there twice")
            names.add(name)
            cursor.spend(_TENSOR)
            n_dimensions = cursor.scalar("I")
            if n_dimensions > _MAX_DIMENSIONS:
                raise ValueError(f"the tensor {name!r} has {n_dimensions} dimensions")
            shape = tuple(cursor.scalar("Q") for _ in range(n_dimensions))[::-1]
            found.append((name, shape, cursor.scalar("I"), cursor.scalar("Q")))
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is {alignment!r}, no power of two")
        start = -(-cursor.position // alignment) * alignment
        tensors = [self._tensor(*entry, start) for entry in found]
        end = 0
        for tensor in sorted(tensors, key=lambda t: (t.offset, t.nbytes)):
            if tensor.offset < end:
                raise ValueError(f"the tensor {tensor.name!r} overlaps another")
            end = tensor.offset + tensor.nbytes
            if end > size:
                raise ValueError(f"it is truncated: {tensor.name!r} ends at byte {end} of {size}")
        self.tensors = {tensor.name: tensor for tensor in tensors}

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: int, offset: int, start: int
    ) -> GGUFTensor:
        try:
            dtype = self._gguf.GGMLQuantizationType(kind)
        except ValueError:
            raise InputError(
                f"{self.path}: the tensor {name!r} has the type {kind}, which the package gguf "
                "does not know; a newer one may"
            ) from None
        if math.prod(max(extent, 1) for extent in shape) >= _MAX_ENTRIES:
            raise ValueError(f"the tensor {name!r} has a shape that no array can have")
        entries, size = self._gguf.GGML_QUANT_SIZES[dtype]
        if (shape[-1] if shape else 1) % entries:
            raise ValueError(f"rows of {name!r} are not whole blocks of {entries}")
        nbytes = math.prod(shape) // entries * size
        return GGUFTensor(name, dtype.name, shape, start + offset, nbytes)

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32, mapped if it is stored so.

        InputError names tensor and type if the package ``gguf`` cannot convert it.
        """
        tensor = self.tensors[name]
        if 0 in tensor.shape:
            return np.empty(tensor.shape, np.float32)
        if tensor.dtype == "F32":
            return np.asarray(mapped(self.path, "<f4", tensor.offset, tensor.shape))
        rows, columns = math.prod(tensor.shape[:-1]), (tensor.shape or (1,))[-1]
        raw = mapped(self.path, "u1", tensor.offset, (rows, tensor.nbytes // rows))
        result = np.empty((rows, columns), np.float32)
        step = max(1, _ENTRIES_AT_ONCE // columns)
        dtype = self._gguf.GGMLQuantizationType[tensor.dtype]
        try:
            for i in range(0, rows, step):
                result[i : i + step] = self._gguf.dequantize(np.asarray(raw[i : i + step]), dtype)
        except NotImplementedError:
            raise InputError(
                f"{self.path}: the tensor {name!r} has the type {tensor.dtype}, which the package "
                "gguf does not convert; a newer one may"
            ) from None
        return result.reshape(tensor.shape)


class _Cursor:
    """Reads on from a place, never past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 0
        self.room = LOADING + len(data)

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.position:
            raise ValueError(f"it is truncated at byte {len(self.data)}")
        self.position += size
        return self.data[self.position - size : self.position]

    def scalar(self, kind: str) -> Any:
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def spend(self, nbytes: int) -> None:
        """Take memory, of which there is as much as the file has bytes, and a little more."""
        self.room -= nbytes
        if self.room < 0:
            raise ValueError("its metadata would take far more memory than the file has bytes")

    def text(self) -> str:
        length = self.scalar("Q")
        self.spend(_TEXT + 4 * min(length, len(self.data)))
        return self.take(length).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            kind, length = self.scalar("I"), self.scalar("Q")
            self.spend(_ENTRY * length)
            if kind == _STRING:
                return [self.text() for _ in range(length)]
            if kind in _SCALARS:
                item = struct.calcsize("<" + _SCALARS[kind])
                return np.frombuffer(self.take(item * length), "<" + _SCALARS[kind]).tolist()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        raise ValueError(f"a value of type {kind} is not known")
