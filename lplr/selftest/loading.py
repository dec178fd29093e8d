"""Large files that are as they should be: loading takes their size, and 64 MB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lplr.inputs import ArrayFile
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.progress import counter
from lplr.selftest.forge import write_version1
from lplr.selftest.guarded import Attempt, attempts, outcome_of
from lplr.selftest.trials import Scale, Trial, described
from lplr.storage.container import load, save

__all__ = ["campaign"]

_ROWS, _COLUMNS = 5 << 14, 1 << 10  # 80 MB of codes, so that a second copy exceeds the limit
_KINDS = ("matrix", "many, one by its name", "matrix, version 1", "array", "parts", ".safetensors")


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Write large files, and load each with as much memory as is promised."""
    count = scale.count(len(_KINDS), 2)
    tell = counter(count)
    for what, failure in attempts("lplr.selftest.loading:attempt", folder, count, scale):
        tell(1)
        yield Trial("G5", what, failure)


def _matrix() -> Quantized:
    codes = np.zeros(_ROWS * _COLUMNS, np.uint8)
    return Quantized((_ROWS, _COLUMNS), "uniform", 8, codes, np.ones((_ROWS, 1), np.float32))


def _written(kind: str, path: Path) -> Path:
    """A file or folder of a kind."""
    if kind == "array":
        save(path, {"a": np.ones((_ROWS, _COLUMNS // 4), np.float32)})
    elif kind == ".safetensors":
        path = path.with_suffix(".safetensors")
        header = b'{"a":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}'
        text = header % (_ROWS * _COLUMNS // 4, _ROWS * _COLUMNS)
        text = text.ljust(-(-len(text) // 8) * 8)  # as all writers do, so that it can be mapped
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + _ROWS * _COLUMNS)
    elif kind == "matrix, version 1":
        write_version1(path, _matrix())
    elif kind == "parts":
        path = path.with_suffix("")
        save(path, RowParts((_matrix(),)), parts=True)
    else:
        save(path, {"a": _matrix()} if kind.startswith("many") else _matrix())
    return path


def _loaded(kind: str, path: Path) -> Any:
    if kind == ".safetensors":
        return ArrayFile(str(path))["a"].array.max()
    if kind == "parts":
        return [part.shape for _, part in load(path).opened()]
    return load(path, name="a" if kind.startswith("many") else None)


def attempt(folder: str) -> Attempt:
    """Write one, and load it."""
    save(Path(folder) / "small.h5", Quantized(  # what loading imports is no part of it
        (1, 8), "uniform", 8, np.zeros(8, np.uint8), np.ones((1, 1), np.float32)
    ), overwrite=True)  # fmt: skip
    load(Path(folder) / "small.h5")

    def tried(i: int) -> tuple[str, str]:
        kind, what = _KINDS[i], "loading a file of 80 MB"
        path = _written(kind, Path(folder) / f"{i}.h5")
        files = [path] if path.is_file() else list(path.iterdir())
        outcome, found = outcome_of(lambda: _loaded(kind, path), sum(map(os.path.getsize, files)))
        for file in files:
            file.unlink()
        return what, "" if outcome == "read" else f"{kind}: {described(found)}"

    return tried
