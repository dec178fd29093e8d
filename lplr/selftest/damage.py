"""Ways to damage bytes that a disk, a network or a person has, and to edit what JSON says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["DAMAGES", "damaged", "edited"]

_JUNK: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**62, 2**64, 0.5, -0.0, 1e300, "", "u1", "..", "\0", [],
    [[]], {}, {"meta": {}}, [2**62, 2**62], "uniform", "quantized", "ü" * 70,
)  # fmt: skip


def _flip(data: bytearray, other: bytes, rng: np.random.Generator) -> None:
    """One bit, mostly; at times several."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 8]))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def _cut(data: bytearray, other: bytes, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data))) :]


def _splice(data: bytearray, other: bytes, rng: np.random.Generator) -> None:
    """A piece of another file in the place of one, shorter or longer."""
    at, start = int(rng.integers(len(data))), int(rng.integers(len(other)))
    gone, new = (int(rng.integers(1, 64)) for _ in range(2))
    data[at : at + gone] = other[start : start + (gone if rng.random() < 0.5 else new)]


def _swap(data: bytearray, other: bytes, rng: np.random.Generator) -> None:
    """Two pieces, aligned as blocks of a disk are or not at all."""
    unit = int(rng.choice([1, 16, 512]))
    blocks = len(data) // unit
    if blocks < 2:
        return
    size = unit * int(rng.integers(1, max(2, blocks // 4)))
    i, j = (unit * int(k) for k in rng.integers(blocks, size=2))
    size = min(size, abs(i - j), len(data) - max(i, j))
    data[i : i + size], data[j : j + size] = data[j : j + size], data[i : i + size]


def _fill(data: bytearray, other: bytes, rng: np.random.Generator) -> None:
    """A run of one byte: zeros, as a file system leaves them behind, or another."""
    at, size = int(rng.integers(len(data))), int(rng.choice([1, 8, 512]))
    size = min(size, len(data) - at)
    data[at : at + size] = bytes([int(rng.choice([0, 0, 255, 32]))]) * size


def _number(data: bytearray, other: bytes, rng: np.random.Generator) -> None:
    """An integer that a length or an offset would not be: huge, negative, off by one."""
    at = int(rng.integers(len(data)))
    size = int(rng.choice([4, 8]))
    data[at : at + size] = (
        int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1])) % 256**size
    ).to_bytes(size, "little")


def _lengthen(data: bytearray, other: bytes, rng: np.random.Generator) -> None:
    data.extend(other[: int(rng.integers(1, 600))])


DAMAGES: dict[str, Callable[[bytearray, bytes, np.random.Generator], None]] = {
    "bits flipped": _flip,
    "cut short": _cut,
    "spliced": _splice,
    "pieces swapped": _swap,
    "overwritten": _fill,
    "a number replaced": _number,
    "lengthened": _lengthen,
}
_OFTEN = ("bits flipped", "bits flipped", "bits flipped", *DAMAGES)


def damaged(whole: bytes, other: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """How it was damaged, and other bytes than the whole ones."""
    while True:
        how = _OFTEN[int(rng.integers(len(_OFTEN)))]
        data = bytearray(whole)
        DAMAGES[how](data, other, rng)
        if data != whole:
            return how, bytes(data)


def edited(table: Any, rng: np.random.Generator) -> bytes:
    """A JSON text that is nearly the one of a table."""
    found = json.loads(json.dumps(table))
    if rng.random() < 0.4:
        text = bytearray(json.dumps(found, sort_keys=True, separators=(",", ":")).encode())
        for _ in range(int(rng.integers(1, 3))):
            text[int(rng.integers(len(text)))] = int(rng.choice(list(b'0123456789"[]{},:-.eau ')))
        return bytes(text)
    for _ in range(int(rng.integers(1, 3))):
        _edit(found, rng)
    return json.dumps(found, sort_keys=True).encode()


def _edit(found: Any, rng: np.random.Generator) -> None:
    """Change one member somewhere in it."""
    while True:
        keys = list(found) if isinstance(found, dict) else list(range(len(found)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(found[key], (dict, list)) or rng.random() < 0.3:
            break
        found = found[key]
    junk = copy.deepcopy(_JUNK[int(rng.integers(len(_JUNK)))])
    how = int(rng.integers(5))
    if how == 0:
        del found[key]
    elif how == 1 and isinstance(found, dict):
        found[str(junk)] = found.pop(key)
    elif how == 2 and type(found[key]) is int:
        found[key] += int(rng.choice([-1, 1, 2**32]))
    elif how == 3:
        other = keys[int(rng.integers(len(keys)))]
        found[key], found[other] = found[other], found[key]
    else:
        found[key] = junk
