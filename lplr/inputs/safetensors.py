"""Tensors of a .safetensors file, without the package of that name and without trust.

The format [1]_: 8 bytes, the length N of the header, little-endian; N bytes of JSON, an object that
gives for each tensor its ``dtype``, ``shape`` and ``data_offsets`` (begin, end), counted from the
end of the header, and may give texts under ``__metadata__``; then the data, little-endian in C
order. A file is refused unless its tensors lie one after another without gap or overlap, each is as
long as dtype and shape say, and the last one ends where the file does. The length of a tensor of a
dtype that is not known here cannot be checked, and only reading that tensor is refused.

References
----------
.. [1] https://github.com/huggingface/safetensors, section "Format"
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.inputs.base import Input, check_fits, check_readable, choose
from lplr.inputs.maps import mapped
from lplr.memory import parse_json

__all__ = ["Tensor", "metadata", "names", "read", "read_tensor", "tensors"]

_MAX_HEADER = 100_000_000  # bytes, the limit of the format
_MAX_DIMENSIONS = 32
_MAX_ENTRIES = 1 << 56  # NumPy wants fewer, also of an array that is empty in another dimension
_CONVERTED = 12  # bytes that conversion to float32 takes for an entry, at most
# dtypes of the format: bits per entry, and the NumPy dtype of the stored bytes where it is read.
_DTYPES = {
    "F4": (4, ""), "F6_E2M3": (6, ""), "F6_E3M2": (6, ""), "F8_E8M0": (8, ""),
    "F8_E4M3FNUZ": (8, ""), "F8_E5M2FNUZ": (8, ""), "F8_E5M2": (8, "u1"), "F8_E4M3": (8, "u1"),
    "BOOL": (8, "?"), "U8": (8, "u1"), "I8": (8, "i1"),
    "U16": (16, "<u2"), "I16": (16, "<i2"), "F16": (16, "<f2"), "BF16": (16, "<u2"),
    "U32": (32, "<u4"), "I32": (32, "<i4"), "F32": (32, "<f4"),
    "U64": (64, "<u8"), "I64": (64, "<i8"), "F64": (64, "<f8"), "C64": (64, "<c8"),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: its dtype as the format names it ("BF16"), shape, first byte, bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file by name, in the order of their data.

    CorruptFileError says that the file is not exactly what the format allows.
    """
    with _opened(path) as file:
        return _entries(file, os.fspath(path))


def metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts of a file beside its tensors; CorruptFileError as by `tensors`."""
    with _opened(path) as file:
        return _header(file, os.fspath(path))[1]


def names(path: str) -> list[str]:
    """The tensors of a file."""
    return list(tensors(path))


def read(path: str, member: str) -> Input:
    """Read one tensor: mapped, but for BF16 and the floats of 8 bits, which become float32."""
    with _opened(path) as file:
        found = _entries(file, path)
    member = choose(path, member, list(found))
    return read_tensor(path, member, found[member])


def read_tensor(path: str, member: str, tensor: Tensor) -> Input:
    """As `read`, of a tensor that `tensors` has found: the header is not read once more.

    Who reads all tensors of a file would take the square of their number else.
    """
    with open(path, "rb") as file:
        bits, dtype = _DTYPES.get(tensor.dtype, (0, ""))
        if not dtype:
            raise InputError(
                f"{path}:{member}: has the dtype {tensor.dtype}, which is not read; convert it to "
                "BF16 or F32"
            )
        if tensor.offset + tensor.nbytes > os.fstat(file.fileno()).st_size:
            raise CorruptFileError(f"{path}: is truncated since its header was read")
        if 0 in tensor.shape:  # nothing to map
            raw = np.empty(tensor.shape, dtype)
        else:
            raw = mapped(file, dtype, tensor.offset, tensor.shape)
    if tensor.dtype in _TO_FLOAT32:
        check_fits(_CONVERTED * raw.size, path)
        scales = ", without scales in other tensors" if tensor.dtype.startswith("F8") else ""
        note = f"{tensor.dtype} converted to float32{scales}"
        return Input(_TO_FLOAT32[tensor.dtype](raw), path, member, note, bits)
    return Input(raw if raw.flags.aligned else np.array(raw), path, member)


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    """The open file; a pipe would wait, and is refused."""
    check_readable(os.fspath(path))
    return open(path, "rb")


def _from_e4m3(codes: np.ndarray) -> np.ndarray:
    """Sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, all ones are NaN."""
    code = np.arange(128)
    exponent, mantissa = code >> 3, (code & 7) / 8
    positive = np.ldexp(np.where(exponent > 0, 1 + mantissa, mantissa), np.maximum(exponent, 1) - 7)
    positive[127] = np.nan
    return np.concatenate([positive, -positive]).astype(np.float32)[codes]


_TO_FLOAT32 = {
    # The upper halves of float32 and of float16.
    "BF16": lambda codes: (codes.astype(np.uint32) << 16).view(np.float32),
    "F8_E5M2": lambda codes: (codes.astype(np.uint16) << 8).view(np.float16).astype(np.float32),
    "F8_E4M3": _from_e4m3,
}


def _header(file: IO[bytes], path: str) -> tuple[list[tuple[str, Tensor]], dict[str, str], int]:
    """Tensors, their offsets still counted from the end of the header; texts; and this end."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > min(size - 8, _MAX_HEADER):
        raise CorruptFileError(f"{path}: is truncated or no .safetensors file")
    text = file.read(length)
    try:
        header = parse_json(text, size, object_pairs_hook=_once)
        if not isinstance(header, dict):
            raise ValueError("it is no object")
        texts = header.pop("__metadata__", {})
        if not isinstance(texts, dict) or not all(isinstance(v, str) for v in texts.values()):
            raise ValueError("__metadata__ is not made of texts")
        found = [_entry(name, entry) for name, entry in header.items()]
    except ValueError as error:
        raise CorruptFileError(f"{path}: its header is not valid: {error}") from None
    return found, texts, 8 + length


def _entries(file: IO[bytes], path: str) -> dict[str, Tensor]:
    found, _, start = _header(file, path)
    size = os.fstat(file.fileno()).st_size
    end = 0
    result = {}
    for name, tensor in sorted(found, key=lambda item: (item[1].offset, item[1].nbytes)):
        if tensor.offset != end:
            what = "overlaps another" if tensor.offset < end else "has unused bytes before it"
            raise CorruptFileError(f"{path}: the tensor {name!r} {what}")
        end += tensor.nbytes
        result[name] = replace(tensor, offset=start + tensor.offset)
    if start + end != size:
        what = "is truncated" if start + end > size else "has bytes after its data"
        raise CorruptFileError(
            f"{path}: {what}: {size} bytes where its header declares {start + end}"
        )
    return result


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name is there twice")
    return result


def _entry(name: str, entry: Any) -> tuple[str, Tensor]:
    """A tensor, its offset still counted from the end of the header."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} is not described by dtype, shape and data_offsets")
    name.encode()  # refuses what no other program takes for a text: half a surrogate pair
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise ValueError(f"{name!r} has the dtype {dtype!r}, which is no name")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has a shape or offsets that are no sizes")
    if math.prod(max(extent, 1) for extent in shape) >= _MAX_ENTRIES:
        raise ValueError(f"{name!r} has a shape that no array can have")
    size = offsets[1] - offsets[0]
    if size < 0:
        raise ValueError(f"{name!r} has {size} bytes")
    if dtype in _DTYPES and size * 8 != math.prod(shape) * _DTYPES[dtype][0]:
        raise ValueError(f"{name!r} has {size} bytes, which {dtype} of shape {shape} has not")
    return name, Tensor(dtype, tuple(shape), offsets[0], size)


def _are_sizes(values: Any) -> bool:
    if not isinstance(values, list) or len(values) > _MAX_DIMENSIONS:
        return False
    return all(type(v) is int and 0 <= v < 2**63 for v in values)
