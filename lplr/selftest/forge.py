"""Forged files: any content under checksums and a digest that are right, and what comes of it."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lplr.exceptions import LplrError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.quantized import Quantized
from lplr.quantizers.packing import pack
from lplr.selftest.guarded import outcome_of
from lplr.selftest.trials import described
from lplr.storage.encoding import Group, encode
from lplr.storage.header import MAGIC


def small(seed: int = 0, n: int = 3, d: int = 4) -> Quantized:
    """A matrix of random 2-bit codes."""
    codes = np.random.default_rng(seed).integers(0, 4, (n, d))
    return Quantized((n, d), "uniform", 2, pack(codes, 2), np.full((1, 1), 0.5, np.float32))


def forge(
    folder: Path,
    evil: Callable[[h5py.File], object],
    change: Callable[[bytes], bytes] | None = None,
    libver: str = "v108",
) -> Path:
    """A file of version 1 that would load but for ``evil``, which edits it, and ``change``.

    The second edits the bytes.
    """
    path = folder / "forged.h5"
    with h5py.File(path, "w", userblock_size=512, libver=(libver, "v110")) as file:
        _write_group(file, encode(small(), "small"))
        evil(file)
    payload = path.read_bytes()[512:]
    if change is not None:
        payload = with_checksums(change(payload), list(checked_blocks(payload)))
    path.write_bytes(header(1, payload) + payload)
    return path


def write_version1(path: Path, packed: PackedMatrix) -> None:
    """What the first release wrote of a packed matrix."""
    with h5py.File(path, "w", userblock_size=512, libver=("v108", "v110")) as file:
        _write_group(file, encode(packed, "packed"))
    payload = path.read_bytes()[512:]
    path.write_bytes(header(1, payload) + payload)


def _write_group(node: h5py.Group, group: Group) -> None:
    values: dict[str, Any] = {"encoding-type": group.encoding, "encoding-version": group.version}
    values |= {"meta": json.dumps(group.meta)} if group.meta else {}
    for key, value in (group.values | values).items():
        if isinstance(value, str):
            node.attrs[key] = np.bytes_(value.encode())
        else:
            node.attrs.create(key, value, dtype="<i8" if type(value) is int else None)
    for key, array in group.arrays.items():
        node[key] = array
    for key, child in group.groups.items():
        _write_group(node.create_group(key), child)


def header(version: int, payload: bytes) -> bytes:
    """The right one for a payload."""
    digest = hashlib.sha256(payload).digest()
    return struct.pack("<8sIQ32s", MAGIC, version, len(payload), digest).ljust(512, b"\0")


def forge_contents(
    folder: Path,
    contents: Any,
    data: bytes,
    evil: Callable[[h5py.File], object] = bool,
) -> Path:
    """A file of version 2 with these contents, compressed if they are no bytes, and edited."""
    path = folder / "forged.h5"
    if not isinstance(contents, bytes):
        contents = zlib.compress(json.dumps(contents).encode())
    with h5py.File(path, "w", userblock_size=512, libver=("v108", "v108")) as file:
        file.attrs["encoding-type"] = np.bytes_("json+zlib")
        file.attrs.create("encoding-version", 1, dtype="<i8")
        file["contents"] = np.frombuffer(contents, np.uint8)
        file["data"] = np.frombuffer(data, np.uint8)
        evil(file)
    payload = path.read_bytes()[512:]
    path.write_bytes(header(2, payload) + payload)
    return path


def checked_blocks(payload: bytes) -> Iterator[tuple[int, int]]:
    """Where the superblock and the object headers of HDF5 1.8 lie, their checksums included."""
    if payload[8] != 2:
        return  # older structures have no checksums
    yield 0, 48
    start = payload.find(b"OHDR")
    while start >= 0:
        flags = payload[start + 5]
        at = start + 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
        body = at + (1 << (flags & 3))
        chunks = [(start, body, body + int.from_bytes(payload[at:body], "little") + 4)]
        for first, at, stop in chunks:
            yield first, stop
            prefix = 4 + 2 * (flags >> 2 & 1)
            while at + prefix <= stop - 4:  # a shorter rest is a gap
                kind, size = struct.unpack_from("<BH", payload, at)
                if kind == 16:  # a continuation: address and length of another chunk
                    address, length = struct.unpack_from("<QQ", payload, at + prefix)
                    chunks.append((address, address + 4, address + length))
                at += prefix + size
        start = payload.find(b"OHDR", start + 4)


def with_checksums(payload: bytes, blocks: list[tuple[int, int]]) -> bytes:
    """The payload with the last four bytes of each block made to fit the rest of it."""
    data = bytearray(payload)
    for start, stop in blocks:
        data[stop - 4 : stop] = struct.pack("<I", checksum(bytes(data[start : stop - 4])))
    return bytes(data)


def checksum(data: bytes) -> int:
    """The checksum of HDF5 metadata: Jenkins' lookup3 ``hashlittle``, started at 0."""
    mask = 0xFFFFFFFF

    def rotate(x: int, k: int) -> int:
        return (x << k | x >> (32 - k)) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    blocks = -(-len(data) // 12)
    words = struct.unpack(f"<{3 * blocks}I", data.ljust(12 * blocks, b"\0"))
    for i in range(blocks):
        a, b, c = a + words[3 * i] & mask, b + words[3 * i + 1] & mask, c + words[3 * i + 2] & mask
        if i < blocks - 1:
            for k in (4, 6, 8, 16, 19, 4):
                a, b, c = b, c + b & mask, (a - c & mask) ^ rotate(c, k)
    for k in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, (c ^ b) - rotate(b, k) & mask, a
    return b


def judged(
    what: str,
    i: int,
    read: Callable[[], Any],
    nbytes: int,
    original: Any,
    valid: Callable[[Any], bool],
) -> tuple[str, str]:
    """What was tried and how it failed: read a forgery of so many bytes.

    It may be refused, say what the original does, or be another file that is ``valid``.
    """
    outcome, found = outcome_of(read, nbytes)
    if outcome == "refused":
        return what, ""
    if outcome == "broken":
        return what, f"forgery {i}: {described(found)}"
    try:
        if found == original:
            return f"{what}: in what does not matter", ""
        if valid(found):
            return f"{what}: another valid one", ""
        return what, f"forgery {i}: accepted, and is not what it says"
    except LplrError as error:
        if "its parameter" in str(error):  # of an estimator: not loading but fitting judges them
            return f"{what}: a model with a parameter that fitting refuses", ""
        return what, f"forgery {i}: accepted, and cannot be written again: {error}"
    except Exception as error:  # the rule does not find what it looks for
        return what, f"forgery {i}: accepted, and is none: {described(error)}"
