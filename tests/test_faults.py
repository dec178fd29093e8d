"""Damaged files: cut at every byte, every bit flipped, pieces added and swapped."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from lplr.exceptions import CorruptFileError
from lplr.selftest.forge import small
from lplr.storage.container import inspect, load, save, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "x.h5", small())
    return tmp_path / "x.h5"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    save(tmp_path / "x.h5", {"a/b": small(), "": small(1)}, attrs={"n": 2})
    return tmp_path / "x.h5"


def test_truncation_at_every_byte(many: Path) -> None:
    data = many.read_bytes()
    for size in range(len(data) - 1, -1, -1):
        os.truncate(many, size)
        with pytest.raises(CorruptFileError):
            load(many)


def test_every_single_bit_flip(many: Path) -> None:
    data = many.read_bytes()
    with many.open("r+b", buffering=0) as file:
        for i, byte in enumerate(data):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), i)
                with pytest.raises(CorruptFileError):
                    load(many)
            os.pwrite(file.fileno(), bytes([byte]), i)
    verify(many)  # the loop put everything back: it was the flips that were refused


def test_appended_and_swapped_pieces(many: Path) -> None:
    data = many.read_bytes()
    blocks = [data[i : i + 16] for i in range(0, len(data), 16)]
    rng = random.Random(0)
    tried = 0
    for _ in range(200):
        i, j = rng.sample(range(len(blocks)), 2)
        swapped = list(blocks)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        if swapped == blocks:
            continue
        tried += 1
        many.write_bytes(b"".join(swapped))
        with pytest.raises(CorruptFileError):
            load(many)
    assert tried > 100
    for more in (b"\0", b"x" * 512, data):
        many.write_bytes(data + more)
        for read in (load, inspect, verify):
            with pytest.raises(CorruptFileError):
                read(many)
