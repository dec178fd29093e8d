"""Forged files: digests and checksums are right, and what they cover is not.

Whoever forges a file can give it any contents that the format has, and then it is another valid
file. That it is one is checked, by a rule that knows nothing of the reader: what was loaded,
written again, says the same as the forgery. What is loaded and is none is a failure.
"""

from __future__ import annotations

import json
import shutil
import zlib
from bisect import bisect
from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from lplr.progress import counter
from lplr.selftest.damage import edited
from lplr.selftest.forge import (
    checked_blocks,
    forge_contents,
    header,
    judged,
    with_checksums,
    write_version1,
)
from lplr.selftest.forged_texts import texts
from lplr.selftest.guarded import Attempt, attempts
from lplr.selftest.specimens import packed_objects, state
from lplr.selftest.trials import Scale, Trial
from lplr.storage.container import inspect, load, save
from lplr.storage.hdf5 import Node, from_file

__all__ = ["campaign"]

_OPTIONAL = ("attrs", "meta", "values", "arrays", "groups")  # of a group, where they are empty


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Forge texts of folders, tables of contents, and the structures that libhdf5 reads."""
    counts = [scale.count(5_000, 200), scale.count(5_000, 200), scale.count(20_000, 600)]
    tell = counter(sum(counts))
    maker, given = "lplr.selftest.forgeries:attempt", {"seed": scale.seed, "counts": counts}
    for what, failure in attempts(maker, folder, sum(counts), scale, **given):
        tell(1)
        yield Trial("G2 G4 G5 G6", what, failure and f"{failure} (seed {scale.seed})")


def attempt(folder: str, seed: int, counts: list[int]) -> Attempt:
    """Forge texts, contents and structures, so many of each; what a kind needs is made once."""
    kinds = texts, contents, structures

    @cache
    def ready(k: int) -> Attempt:
        home = Path(folder) / str(k)
        shutil.rmtree(home, ignore_errors=True)  # of a process that broke off
        home.mkdir()
        return kinds[k](str(home), seed)

    def tried(i: int) -> tuple[str, str]:
        k = bisect(list(accumulate(counts)), i)
        return ready(k)(i - sum(counts[:k]))

    return tried


def _reading(path: Path) -> tuple[Callable[[], Any], int]:
    """How a file is read, and its bytes."""
    return lambda: state(load(path)), path.stat().st_size


# --- tables of contents ----------------------------------------------------------------------


def contents(folder: str, seed: int) -> Attempt:
    """Forge the JSON of a file of version 2."""
    path, again = Path(folder) / "forged.h5", Path(folder) / "again.h5"
    whole = []
    for name, obj in packed_objects().items():
        save(path, obj, attrs={"note": name}, overwrite=True)
        whole.append((*_tables(path), state(load(path))))

    def tried(i: int) -> tuple[str, str]:
        rng = np.random.default_rng([seed, i])
        table, data, says = whole[int(rng.integers(len(whole)))]
        text, size = edited(table, rng), len(data)
        if rng.random() < 0.1:
            data = data[: int(rng.integers(size))] if rng.random() < 0.5 else data + data[:8]
        forge_contents(Path(folder), zlib.compress(text, 9), data)

        def same(found: Any) -> bool:
            save(again, load(path), attrs=inspect(path)["attrs"], overwrite=True)
            return bool(_tables(again) == _tables(path))

        return judged("forged: table of contents", i, *_reading(path), says, same)

    return tried


def _tables(path: Path) -> tuple[Any, bytes]:
    """The contents and the data of a file of version 2, as anyone reads them."""
    arrays = from_file(path.read_bytes(), 512).arrays
    found = json.loads(zlib.decompress(arrays["contents"].tobytes()))
    return _without_nothing(found), arrays["data"].tobytes()


def _without_nothing(found: Any) -> Any:
    """A table without the members that say nothing, such as empty metadata."""
    if isinstance(found, dict):
        return {k: _without_nothing(v) for k, v in found.items() if v != {} or k not in _OPTIONAL}
    return list(map(_without_nothing, found)) if isinstance(found, list) else found


# --- structures of HDF5 ----------------------------------------------------------------------


def structures(folder: str, seed: int) -> Attempt:
    """Forge what libhdf5 reads of a file, of either version, under right checksums."""
    path, again = Path(folder) / "forged.h5", Path(folder) / "again.h5"
    objects = packed_objects()
    old = ("uniform", "low-rank", "q-plus-low-rank")
    whole = []
    for name in (*old, "many", "caldera"):
        if name in old:
            write_version1(path, objects[name])
            whole.append((1, path.read_bytes()[512:]))
        save(path, objects[name], overwrite=True)
        whole.append((2, path.read_bytes()[512:]))
    blocks = [list(checked_blocks(payload)) for _, payload in whole]
    says = []
    for version, payload in whole:
        path.write_bytes(header(version, payload) + payload)
        says.append(state(load(path)))

    def tried(i: int) -> tuple[str, str]:
        rng = np.random.default_rng([seed, i])
        k = int(rng.integers(len(whole)))
        version, payload = whole[k]
        while (changed := _altered(payload, blocks[k], rng)) == payload:
            pass
        path.write_bytes(header(version, changed) + changed)

        def same(found: Any) -> bool:
            loaded = load(path)
            if version == 1:
                write_version1(again, loaded)
            else:
                save(again, loaded, attrs=inspect(path)["attrs"], overwrite=True)
            return _says(again) == _says(path)

        what = f"forged: structure of HDF5, version {version}"
        return judged(what, i, *_reading(path), says[k], same)

    return tried


def _altered(payload: bytes, blocks: list[tuple[int, int]], rng: np.random.Generator) -> bytes:
    """One to three numbers in the superblock and the object headers, and their checksums."""
    changed = bytearray(payload)
    touched = [blocks[int(rng.integers(len(blocks)))] for _ in range(int(rng.integers(1, 4)))]
    for start, stop in touched:
        at = int(rng.integers(start, stop - 8))
        kind = rng.random()
        if kind < 0.3:
            number = int(rng.choice([0, 1, 2**40, 2**63, int(rng.integers(len(payload)))]))
            changed[at : at + 8] = (number if kind < 0.25 else 2**64 - 1).to_bytes(8, "little")
        elif kind < 0.6:
            changed[at] ^= 1 << int(rng.integers(8))
        else:
            changed[at] = int(rng.integers(256))
    return with_checksums(bytes(changed), touched)


def _says(path: Path) -> Any:
    """All that the HDF5 of a file says: attributes, shapes, bytes."""

    def node(found: Node) -> Any:
        arrays = {name: state(array) for name, array in found.arrays.items()}
        groups = {name: node(child) for name, child in found.groups.items()}
        said = {name: repr(value) for name, value in found.attributes.items()}
        if "meta" in said:  # in version 1 a JSON text, which can be written in many ways
            said["meta"] = repr(json.loads(found.attributes["meta"]))  # type: ignore[arg-type]
        return said, arrays, groups

    return node(from_file(path.read_bytes(), 512))
