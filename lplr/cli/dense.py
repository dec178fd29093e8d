"""Files of dense matrices piece by piece, so that one matrix is in memory at a time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.storage.safetensors import safetensors as pieces

__all__ = ["npy", "npy_rows", "npz", "safetensors"]

Decode = Callable[[str], np.ndarray]  # a name to an array in C order, little-endian

_LONGEST = 65_000  # bytes of a name in a zip file
_KINDS = {"f": "F", "i": "I", "u": "U"}  # of NumPy and of safetensors


def npy(array: np.ndarray) -> Iterator[bytes | memoryview]:
    """The pieces of a ``.npy`` file."""
    header = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(header, described)
    yield header.getvalue()
    yield array.reshape(-1).view(np.uint8).data


def npy_rows(shape: tuple[int, int], blocks: Iterable[np.ndarray]) -> Iterator[Any]:
    """The same of a float32 matrix whose rows come in blocks."""
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    yield header.getvalue()
    for rows in blocks:
        yield np.ascontiguousarray(rows, "<f4").reshape(-1).view(np.uint8).data


def npz(names: Sequence[str], decode: Decode) -> Iterator[bytes | memoryview]:
    """The pieces of a ``.npz`` file: a zip file of ``.npy`` files, uncompressed, without times."""
    for name in names:
        _check_zip_name(name)
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in names:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                for piece in npy(decode(name)):
                    member.write(piece)
            yield from sink.taken()
    yield from sink.taken()


def _check_zip_name(name: str) -> None:
    """Refuse names that a zip file alters, or that lead out of the folder it is unpacked in."""
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or "\\" in name or ".." in parts or parts[0] == "" or len(name) > _LONGEST:
        raise InputError(
            f"name: {name[:80]!r} cannot be the name of a member of a .npz file; write a "
            ".safetensors file"
        )


class _Sink(io.RawIOBase):
    """A stream that keeps what was written until it is taken."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def taken(self) -> list[bytes]:
        pieces, self.pieces = self.pieces, []
        return pieces


def safetensors(
    kinds: Mapping[str, tuple[np.dtype, tuple[int, ...]]], decode: Decode
) -> Iterator[bytes | memoryview]:
    """The pieces of a ``.safetensors`` file of arrays of these dtypes and shapes."""
    return pieces({name: (_code(dtype), shape) for name, (dtype, shape) in kinds.items()}, decode)


def _code(dtype: np.dtype) -> str:
    """What the format calls a dtype."""
    return "BOOL" if dtype.kind == "b" else f"{_KINDS[dtype.kind]}{8 * dtype.itemsize}"
