"""Ways to damage bytes that a disk, a network or a person has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["DAMAGES", "damaged"]


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
