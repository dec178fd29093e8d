"""Folders of unfinished work that lie: what they say counts as not there, and is made anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.selftest.hostile_file import Hostile, Maker
from lplr.selftest.unfinished import make_jobs
from lplr.storage.safetensors import safetensors
from lplr.storage.sealed import read_sealed, sealed, write_sealed

__all__ = ["JOBS"]


def _done(members: dict[str, Any]) -> Maker:
    """Moments that say something else of what is done, under its right digest."""

    def make(folder: Path) -> Path:
        found = make_jobs(folder)["moments job"]
        said = read_sealed(found / "done.json")
        assert said is not None
        write_sealed(found / "done.json", said | members)
        return found

    return make


def _trained(data: bytes) -> Maker:
    """A job with another training."""

    def make(folder: Path) -> Path:
        found = make_jobs(folder)["job"]
        (found / "training.safetensors").write_bytes(data)
        return found

    return make


def _training(said: Any) -> bytes:
    """A training of one number, of which this is said."""
    number = np.zeros((), np.float32)
    text = {"training": json.dumps(said)}
    return b"".join(safetensors({"": ("F32", ())}, lambda _: number, text))


_TRAININGS = {
    "of nothing": b"",
    "that declares 4 GB": b'\x50\0\0\0\0\0\0\0{"theta":{"dtype":"F32","shape":[1073741824],'
    b'"data_offsets":[0,4294967296]}}'.ljust(88),
    "of empty lists": _training([[]] * 3_000_000),
    "of no arrays": _training(sealed({"arrays": "", "step": 1})),
    "of nothing said": _training({}),
}
_DONE: dict[str, dict[str, Any]] = {
    "more sequences than there are": {"sequences": 10**12},
    "sequences before the first": {"sequences": -1},
    "batches before the first": {"batches": -1},
    "batches that are a text": {"batches": "1"},
    "more batches than fit": {"batches": 10**400},
}
JOBS = {
    **{f"a training {name}": Hostile(_trained(data), "job", CorruptFileError)
       for name, data in _TRAININGS.items()},
    **{name: Hostile(_done(members), "moments job", CorruptFileError)
       for name, members in _DONE.items()},
}  # fmt: skip
