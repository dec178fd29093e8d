"""Forged files: digests and checksums are right, and what they cover is not.

Whoever forges a file can give it any contents that the format has, and then it is another valid
file. That it is one is checked, by a rule that knows nothing of the reader: what was loaded,
written again, says the same as the forgery. What is loaded and is none is a failure.
"""

from __future__ import annotations

import copy
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import LplrError
from lplr.progress import counter, parts
from lplr.selftest.forge import (
    checked_blocks,
    forge_contents,
    header,
    with_checksums,
    write_version1,
)
from lplr.selftest.guarded import Attempt, attempts, outcome_of
from lplr.selftest.specimens import packed_objects, state
from lplr.selftest.trials import Scale, Trial, described
from lplr.storage.container import inspect, load, save
from lplr.storage.hdf5 import Node, from_file

__all__ = ["campaign", "contents", "structures"]

_GUARANTEES = "G2 G4 G5 G6"
_OPTIONAL = ("attrs", "meta", "values", "arrays", "groups")  # of a group, where they are empty
_JUNK: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**62, 2**64, 0.5, -0.0, 1e300, "", "u1", "..", "\0", [],
    [[]], {}, {"meta": {}}, [2**62, 2**62], "uniform", "quantized", "ü" * 70,
)  # fmt: skip


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Forge tables of contents, and the structures that libhdf5 reads."""
    counts = {"contents": scale.count(5_000, 250), "structures": scale.count(20_000, 800)}
    for name in parts(counts, list(counts.values())):
        tell = counter(counts[name])
        maker = f"lplr.selftest.forgeries:{name}"
        for what, failure in attempts(maker, folder / name, counts[name], seed=scale.seed):
            tell(1)
            yield Trial(_GUARANTEES, what, failure and f"{failure} (seed {scale.seed})")


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
        text, size = _edited(table, rng), len(data)
        if rng.random() < 0.1:
            data = data[: int(rng.integers(size))] if rng.random() < 0.5 else data + data[:8]
        forge_contents(Path(folder), zlib.compress(text, 9), data)

        def same() -> bool:
            save(again, load(path), attrs=inspect(path)["attrs"], overwrite=True)
            return bool(_tables(again) == _tables(path))

        return _judged("forged: table of contents", i, path, says, same)

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


def _edited(table: Any, rng: np.random.Generator) -> bytes:
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

        def same() -> bool:
            loaded = load(path)
            if version == 1:
                write_version1(again, loaded)
            else:
                save(again, loaded, attrs=inspect(path)["attrs"], overwrite=True)
            return _says(again) == _says(path)

        what = f"forged: structure of HDF5, version {version}"
        return _judged(what, i, path, says[k], same)

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


# --- the judgement ---------------------------------------------------------------------------


def _judged(what: str, i: int, path: Path, original: Any, same: Any) -> tuple[str, str]:
    outcome, found = outcome_of(lambda: load(path), os.path.getsize(path))
    if outcome == "refused":
        return what, ""
    if outcome == "broken":
        return what, f"forgery {i}: {described(found)}"
    try:
        if state(found) == original:
            return f"{what}: in what does not matter", ""
        if same():
            return f"{what}: another valid file", ""
        return what, f"forgery {i}: loaded, and says something else when written again"
    except LplrError as error:
        if "its parameter" in str(error):  # of an estimator: not loading but fitting judges them
            return f"{what}: a model with a parameter that fitting refuses", ""
        return what, f"forgery {i}: loaded, and cannot be written again: {error}"
