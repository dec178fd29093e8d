"""The pieces of a .safetensors file, so that one tensor is in memory at a time.

`lplr.inputs.safetensors` reads the format and describes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from lplr.exceptions import InputError

__all__ = ["as_bytes", "safetensors"]


def safetensors(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    read: Callable[[str], np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> Iterator[bytes | memoryview]:
    """The pieces of a file.

    Parameters
    ----------
    tensors : mapping of str to (str, tuple of int)
        The dtype, as the format names it ("BF16"), and the shape of each tensor.
    read : callable
        ``read(name)`` is asked for one tensor after the other: an array of any type whose bytes,
        little-endian in C order, are those of the tensor.
    metadata : mapping of str to str, optional

    Raises
    ------
    InputError
        If a tensor has a name that the format reserves.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.storage.safetensors import safetensors
    >>> pieces = safetensors({"w": ("F32", (2,))}, lambda name: np.zeros(2, "<f4"))
    >>> [len(piece) for piece in pieces]
    [64, 8]
    """
    if "__metadata__" in tensors:
        raise InputError("name: '__metadata__' cannot be the name of a tensor; write a .npz file")
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, (code, shape) in tensors.items():
        stop = start + math.prod(shape) * _itemsize(code)
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data are aligned
    yield len(text).to_bytes(8, "little") + text
    for name in tensors:
        yield np.ascontiguousarray(read(name)).reshape(-1).view(np.uint8).data


def _itemsize(code: str) -> int:
    return 1 if code == "BOOL" else int(code.lstrip("BFIU")) // 8


def as_bytes(array: np.ndarray, code: str) -> np.ndarray:
    """Numbers as "F32", "F16" or "BF16", rounded to nearest, ties to even.

    Raises
    ------
    InputError
        If one is not finite, or too large for the type.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.storage.safetensors import as_bytes
    >>> as_bytes(np.array([1.0, -2.0]), "BF16")
    array([16256, 49152], dtype=uint16)
    """
    array = np.asarray(array, "<f4")
    if not np.isfinite(array).all():
        raise InputError("a tensor has entries that are not finite")
    if code == "F32":
        return array
    if code == "F16":
        with np.errstate(over="ignore", under="ignore"):
            half = array.astype("<f2")
        lost = np.isinf(half)
    else:
        bits = array.view(np.uint32)
        # Adding may carry into the exponent, as it should.
        half = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        lost = (half & 0x7FFF) == 0x7F80
    if lost.any():
        raise InputError(
            f"dtype: {code} holds no number as large as {np.abs(array).max():.3g}; use float32"
        )
    return half
