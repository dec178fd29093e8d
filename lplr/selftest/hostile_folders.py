"""Folders that lie: of parts, of compressed models, and checkpoints in the form of Hugging Face."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import (
    CorruptFileError,
    InputError,
    LplrError,
    MissingFileError,
    UnsafeFileError,
)
from lplr.matrices.row_parts import RowParts
from lplr.models.manifest import as_text
from lplr.models.packed import PackedModel
from lplr.selftest.forge import small
from lplr.selftest.hostile_file import Hostile, Maker
from lplr.selftest.specimens import networks
from lplr.storage.container import save
from lplr.storage.text import to_json

__all__ = ["FOLDERS", "network"]

_LONG = b"[" * 100_000
_SWOLLEN = b"[" + b"[]," * 5_000_000 + b"1]"


def _linked(folder: Path, name: str, to: Path | str) -> None:
    """A link in the place of a file."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(to)


def _moved_out(folder: Path, name: str) -> None:
    """A link to the file itself, which lies elsewhere now."""
    (folder / name).rename(folder.parent / "outside")
    (folder / name).symlink_to(folder.parent / "outside")


def _piped(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)


def _made_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


# --- matrices in parts -----------------------------------------------------------------------


def _parts(evil: Callable[[Path], object]) -> Maker:
    def make(folder: Path) -> Path:
        save(folder / "m", RowParts((small(0), small(1))), parts=True)
        evil(folder / "m")
        return folder / "m"

    return make


def _manifest(change: Callable[[dict[str, Any]], object]) -> Maker:
    """A manifest that says something else, under its right digest."""

    def evil(folder: Path) -> None:
        found = json.loads((folder / "manifest.json").read_text())
        del found["sha256"]
        change(found)
        digest = hashlib.sha256(to_json(found, "manifest")).hexdigest()
        (folder / "manifest.json").write_bytes(to_json({**found, "sha256": digest}, "manifest"))

    return _parts(evil)


def _named(name: str) -> Maker:
    return _manifest(lambda found: found["parts"][0].update(file=name))


def _text(text: bytes) -> Maker:
    return _parts(lambda folder: (folder / "manifest.json").write_bytes(text))


_P0 = "part-00000.h5"
_CORRUPT_PARTS = {
    "a part above the folder": _named("../part-00000.h5"),
    "an absolute part": _named("/dev/zero"),
    "a part with NUL in its name": _named("part-00000.h5\0"),
    "a part of another name": _named("other.h5"),
    "a part named twice": _named("part-00001.h5"),
    "a part that is missing": _parts(lambda folder: (folder / _P0).unlink()),
    "a part for another": _parts(
        lambda folder: shutil.copy(folder / "part-00001.h5", folder / _P0)
    ),
    "no parts": _manifest(lambda found: found.update(parts=[])),
    "rows that are none": _manifest(lambda found: found["parts"][0].update(rows=0)),
    "rows that are true": _manifest(lambda found: found["parts"][0].update(rows=True)),
    "rows that are not those of the part": _manifest(
        lambda found: found["parts"][0].update(rows=4)
    ),
    "a record of a part that is another one": _manifest(
        lambda found: found["parts"][0].update(meta={"x": 1})
    ),
    "rows beyond 64 bits": _manifest(lambda found: found["parts"][0].update(rows=2**63)),
    "columns beyond 64 bits": _manifest(lambda found: found.update(columns=2**64)),
    "entries beyond 64 bits": _manifest(
        lambda found: (found.update(columns=2**40), found["parts"][0].update(rows=2**40))
    ),
    "a version to come": _manifest(lambda found: found.update(version=2)),
    "another member": _manifest(lambda found: found.update(more=1)),
    "a manifest that is cut": _text(b'{"format": "lplr-parts", '),
    "a manifest that is deep": _text(_LONG),
    "a manifest with a name twice": _text(b'{"version": 1, "version": 1}'),
    "a manifest with 1e400": _text(b'{"format": "lplr-parts", "columns": 1e400}'),
    "a manifest with NaN": _text(b'{"format": "lplr-parts", "columns": NaN}'),
    "a manifest of empty lists": _text(b'{"meta": ' + _SWOLLEN + b"}"),
    "a manifest of zeros": _parts(lambda folder: os.truncate(folder / "manifest.json", 1 << 27)),
}
_UNSAFE_PARTS = {
    "a part that is a link": _parts(lambda folder: _moved_out(folder, _P0)),
    "a part that is a link to a device": _parts(lambda folder: _linked(folder, _P0, "/dev/zero")),
    "a part that is a pipe": _parts(lambda folder: _piped(folder, _P0)),
    "a part that is a folder": _parts(lambda folder: _made_folder(folder, _P0)),
    "a manifest that is a link": _parts(lambda folder: _moved_out(folder, "manifest.json")),
}

# --- compressed models -----------------------------------------------------------------------


def network(folder: Path, name: str) -> Path:
    """A copy of one of `networks`, which are made once for all folders beside this one."""
    made = folder.parent / "networks"
    if not made.exists():
        made.mkdir()
        list(networks(made))
    return Path(shutil.copytree(made / name, folder / name))


def _model(evil: Callable[[Path], object]) -> Maker:
    def make(folder: Path) -> Path:
        found = network(folder, "model")
        evil(found)
        return found

    return make


def _described(change: Callable[[dict[str, Any]], object]) -> Maker:
    """A model.json that says something else, under its right digest."""

    def evil(folder: Path) -> None:
        found = PackedModel(folder).manifest
        change(found)
        (folder / "model.json").write_bytes(as_text(found))

    return _model(evil)


def _filed(name: str) -> Maker:
    """A file of another name in the list of files."""

    def change(found: dict[str, Any]) -> None:
        found["files"][name] = found["files"].pop("config.json")

    return _described(change)


_UNSAFE_MODELS = {
    "a file above the model": _filed("../config.json"),
    "an absolute file of a model": _filed("/etc/passwd"),
    "a layer that is a link": _model(lambda folder: _moved_out(folder, "layers/00000.h5")),
    "a layer that is a device": _model(
        lambda folder: _linked(folder, "layers/00000.h5", "/dev/zero")
    ),
    "a layer that is a pipe": _model(lambda folder: _piped(folder, "layers/00000.h5")),
    "a config that is a link": _model(lambda folder: _moved_out(folder, "config.json")),
    "a model.json that is a link": _model(lambda folder: _moved_out(folder, "model.json")),
    "a link that leads nowhere": _model(lambda folder: _linked(folder, "more", "nowhere")),
}
_CORRUPT_MODELS = {
    "a file too many": _model(lambda folder: (folder / "more").write_bytes(b"")),
    "a file too few": _model(lambda folder: (folder / "layers/00000.h5").unlink()),
    "a layer for another": _model(
        lambda folder: shutil.copy(folder / "layers/00001.h5", folder / "layers/00002.h5")
    ),
    "a model.json that is deep": _model(lambda folder: (folder / "model.json").write_bytes(_LONG)),
    "a model.json of empty lists": _model(
        lambda folder: (folder / "model.json").write_bytes(b'{"model": ' + _SWOLLEN + b"}")
    ),
    "a tensor of another shape": _described(
        lambda found: found["kept"][0].update(shape=[2**40, 2**40])
    ),
    "a tensor without a name": _described(lambda found: found["layers"][0].update(name=None)),
    "a layer in no file": _described(lambda found: found["layers"][0].update(file="layers/x.h5")),
    "files that are a list": _described(lambda found: found.update(files=[])),
    "a file of length true": _described(
        lambda found: found["files"]["config.json"].update(nbytes=True)
    ),
    "a layer of length text": _described(lambda found: found["layers"][0].update(nbytes="x")),
    "a layer of negative length": _described(lambda found: found["layers"][0].update(nbytes=-1)),
    "a layer that is huge": _described(lambda found: found["layers"][0].update(shape=[2**60] * 9)),
    "an error that is text": _described(
        lambda found: found["layers"][0].update(relative_error="small")
    ),
    "a code that is a list": _described(lambda found: found["layers"][0].update(code=["x"])),
    "a layer twice": _described(lambda found: found["layers"].append(found["layers"][0])),
    "two layers in one file": _described(
        lambda found: found["layers"][0].update(file=found["layers"][1]["file"])
    ),
    "a tensor of another type": _described(lambda found: found["kept"][0].update(dtype="F64")),
    "no record of how it was made": _described(lambda found: found.pop("settings")),
    "a format that is true": _described(lambda found: found.update(format=True)),
    "another format": _described(lambda found: found.update(format=2)),
    "no layers": _described(lambda found: found.pop("layers")),
}

# --- checkpoints -----------------------------------------------------------------------------


def _checkpoint(evil: Callable[[Path], object]) -> Maker:
    def make(folder: Path) -> Path:
        from lplr.models.writers import export_folder

        w = np.ones((2, 3), np.float32)
        tensors = {"a": w, "b": w}
        shapes = {name: w.shape for name in tensors}
        out = folder / "c"
        export_folder(out, {"model_type": "llama"}, shapes, tensors.__getitem__, {}, shard_bytes=20)
        evil(out)
        return out

    return make


def _indexed(shard: Any) -> Maker:
    where = {"weight_map": {"a": shard, "b": "model-00002-of-00002.safetensors"}}
    return _checkpoint(
        lambda folder: (folder / "model.safetensors.index.json").write_text(json.dumps(where))
    )


def _configured(text: bytes) -> Maker:
    return _checkpoint(lambda folder: (folder / "config.json").write_bytes(text))


_SHARD = "model-00001-of-00002.safetensors"
_UNSAFE_CHECKPOINTS = {
    "a shard above the folder": _indexed("../a.safetensors"),
    "an absolute shard": _indexed("/tmp/a.safetensors"),
    "a shard with NUL in its name": _indexed("a\0.safetensors"),
    "a shard that is a link out": _checkpoint(lambda folder: _moved_out(folder, _SHARD)),
    "a shard that is a device": _checkpoint(lambda folder: _linked(folder, _SHARD, "/dev/zero")),
    "a config that is a link out": _checkpoint(lambda folder: _moved_out(folder, "config.json")),
    "a config that is a loop": _checkpoint(
        lambda folder: _linked(folder, "config.json", "config.json")
    ),
}
_CORRUPT_CHECKPOINTS = {
    "a shard that is a number": _indexed(3),
    "a shard that is no .safetensors": _indexed("a.bin"),
    "a tensor in another shard": _indexed("model-00002-of-00002.safetensors"),
    "a config that is a list": _configured(b"[]"),
    "a config that is deep": _configured(_LONG),
    "a config of empty lists": _configured(b'{"x": ' + _SWOLLEN + b"}"),
    "a config that is no text": _configured(b"\xff\xfe{}"),
    "a config that is huge": _checkpoint(
        lambda folder: os.truncate(folder / "config.json", 1 << 30)
    ),
}
_MISSING = {
    "a shard that is a pipe": _checkpoint(lambda folder: _piped(folder, _SHARD)),
    "a config that is a pipe": _checkpoint(lambda folder: _piped(folder, "config.json")),
    "a shard that is missing": _checkpoint(lambda folder: (folder / _SHARD).unlink()),
    "a pickle in place of tensors": _checkpoint(
        lambda folder: [path.rename(folder / f"{path.name}.bin") for path in folder.glob("m*")]
    ),
}


def _all(makers: dict[str, Maker], reader: str, error: type[LplrError]) -> dict[str, Hostile]:
    return {name: Hostile(make, reader, error) for name, make in makers.items()}


FOLDERS = {
    **_all(_CORRUPT_PARTS, "folder", CorruptFileError),
    **_all(_UNSAFE_PARTS, "folder", UnsafeFileError),
    **_all(_CORRUPT_MODELS, "model", CorruptFileError),
    **_all(_UNSAFE_MODELS, "model", UnsafeFileError),
    **_all(_CORRUPT_CHECKPOINTS, "checkpoint", CorruptFileError),
    **_all(_UNSAFE_CHECKPOINTS, "checkpoint", UnsafeFileError),
    **_all(_MISSING, "checkpoint", MissingFileError),
    "a model of no known family": Hostile(
        _configured(b'{"model_type": "os.system"}'), "checkpoint", InputError
    ),
}
