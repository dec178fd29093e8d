"""The folder of an adapted model: what changed, beside copies of what did not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lplr.models.manifest import check_file
from lplr.models.packed import PackedModel
from lplr.models.store import KEPT, write_kept
from lplr.storage.atomic import write_atomic

__all__ = ["copy_model", "copy_rest"]

_LAYERS = "layers/"


def copy_rest(model: PackedModel, folder: Path, changed: Mapping[str, np.ndarray]) -> None:
    """Write all but the linear layers; ``changed`` tensors keep the dtype that they had."""
    for name in model.manifest["files"]:
        if name != KEPT and not name.startswith(_LAYERS):
            _copy(model, name, folder)
    kept = {e["name"]: (e["dtype"], tuple(e["shape"])) for e in model.manifest["kept"]}

    def read(name: str) -> np.ndarray:
        return changed[name] if name in changed else np.asarray(model[name], np.float32)

    write_kept(folder, kept, read)


def copy_model(model: PackedModel, folder: Path) -> None:
    """Write every file as it is, but for the manifest."""
    for name in model.manifest["files"]:
        _copy(model, name, folder)


def _copy(model: PackedModel, name: str, folder: Path) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    content = check_file(model.path, name, model.manifest).read_bytes()
    write_atomic(target, [content], overwrite=True)
