"""The checked arguments of an adaptation: networks, sequences and settings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.adaptation.settings import Settings
from lplr.models.base import Checkpoint
from lplr.models.checks import check_checkpoint
from lplr.models.families import Family, family_of
from lplr.models.manifest import MANIFEST
from lplr.models.moments_file import OutputMoments, open_moments
from lplr.models.opening import open_tensors
from lplr.models.packed import PackedModel
from lplr.models.texts import token_windows
from lplr.provenance import versions
from lplr.storage.digest import file_digest

__all__ = ["Request", "request_of"]

_ONE_OF = 8  # of so many sequences one is held out, up to two batches: they take half of a step
_FEWEST = 4  # up to so many, where batches are small


@dataclass
class Request:
    """Checked arguments."""

    model: PackedModel
    original: PackedModel | Checkpoint
    family: Family
    settings: Settings
    sequences: np.ndarray
    held_out: np.ndarray
    moments: OutputMoments | None

    def ranks(self) -> dict[str, int]:
        """Columns of L of every linear layer, by the name of its module."""
        found = {}
        for i in range(self.family.n_blocks):
            for name, shape in self.family.linears(i).items():
                rank = self.settings.rank
                found[name] = self.model[f"{name}.weight"].rank if rank is None else rank
                found[name] = min(found[name], *shape)
        return found

    def call(self) -> dict[str, Any]:
        """What every byte of the output depends on, in the words of `lplr.models.adapt`."""
        return {
            "model": _digest(self.model),
            "original": _digest(self.original),
            "tokens": _described(self.sequences),
            "held_out": _described(self.held_out),
            "output_moments": None if self.moments is None else self.moments.digest,
            **self.settings.describe(),
            "versions of packages": versions(),
        }


def request_of(
    model: Any,
    original: Any,
    tokens: Any,
    held_out: Any,
    output_moments: Any,
    settings: Settings,
) -> Request:
    """What arguments of `lplr.models.adapt` ask for."""
    student, teacher = open_tensors(model), open_tensors(original)
    if not isinstance(student, PackedModel):
        raise InputError(
            f"model: {str(model)!r} is not compressed, so there is nothing to adapt; give a folder "
            "that lplr.models.compress made"
        )
    families = []
    for tensors in (student, teacher):
        family = family_of(tensors.config)
        check_checkpoint(
            tensors, family.tensors(), ignored=family.ignored, tied=family.tied_tensors
        )
        families.append(family)
    if families[0].tensors() != families[1].tensors():
        raise InputError(
            f"original: {str(original)!r} is another network than {str(model)!r}: its tensors "
            "differ in name or shape; give the one that the model was made from"
        )
    family = families[0]
    if not family.causal:
        raise InputError(
            f"model: {str(model)!r} is an encoder, which predicts no tokens; only networks that do "
            "can be adapted"
        )
    ids = token_windows(tokens, vocabulary=family.vocabulary, name="tokens")
    if held_out is None:
        ids, test = _divided(ids, max(2 * settings.batch, _FEWEST))
    else:
        test = token_windows(held_out, vocabulary=family.vocabulary, name="held_out")
    longest = max(ids.shape[1], test.shape[1])
    if family.max_tokens is not None and longest > family.max_tokens:
        raise InputError(
            f"tokens: has sequences of {longest}, and this network has learned "
            f"{family.max_tokens} positions; use shorter ones"
        )
    moments = None
    if output_moments is not None:
        moments = open_moments(output_moments)
        layers = [family.linears(i) for i in range(family.n_blocks)]
        shapes = {name: shape for block in layers for name, shape in block.items()}
        moments.check(shapes, _digest(teacher))
    request = Request(student, teacher, family, settings, ids, test, moments)
    if "factors" in settings.trained and not any(request.ranks().values()):
        raise InputError(
            f"rank: no layer of {str(model)!r} has low-rank factors to train; give a rank, 16 for "
            "instance"
        )
    return request


def _divided(ids: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences to train on, and those that are held out, from everywhere."""
    n = len(ids)
    if n < 2:
        raise InputError(
            "tokens: has one sequence, and some must be held out to judge by; give more, or "
            "others as held_out"
        )
    count = max(1, min(n // _ONE_OF, most))
    rows = (np.arange(count) * n + n // 2) // count
    return np.delete(ids, rows, axis=0), ids[rows]


def _digest(tensors: PackedModel | Checkpoint) -> str:
    if isinstance(tensors, PackedModel):
        return file_digest(Path(tensors.path) / MANIFEST)
    return tensors.digest()


def _described(ids: np.ndarray) -> dict[str, Any]:
    return {"shape": list(ids.shape), "sha256": hashlib.sha256(ids.tobytes()).hexdigest()}
