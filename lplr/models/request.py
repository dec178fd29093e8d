"""The checked arguments of a compression: what is to be done, and what it would take."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import DampingWarning, InputError, MissingFileError
from lplr.models.checkpoint import Checkpoint, open_checkpoint
from lplr.models.checks import check_checkpoint, check_finite
from lplr.models.costs import Plan, layers_of, plan_of
from lplr.models.embedding import EMBEDDING_BITS
from lplr.models.families import Family, family_of
from lplr.models.methods import Method, method_of
from lplr.models.safetensors_folder import read_json
from lplr.models.store import is_embedding, other_tensors
from lplr.models.texts import PADDING, shortest_first, token_windows
from lplr.progress import counter
from lplr.provenance import versions
from lplr.validation import check_flag, warn_caller

__all__ = ["Request", "check_enough", "check_tensors", "on_disk", "request_of"]

_ASSUMED = (320, 512)  # sequences and tokens of a plan without calibration
_IN_MEMORY = 0.25  # of the machine's memory: what hidden states may take of it


@dataclass
class Request:
    """Checked arguments."""

    checkpoint: Checkpoint | None  # None where there is a configuration alone
    family: Family
    method: Method
    ids: np.ndarray | None
    tokens: tuple[int, int]
    prefix: bool
    embedding_bits: int | None

    def check(self) -> None:
        """Refuse a checkpoint that is not what its configuration says, tensor by tensor."""
        assert self.checkpoint is not None
        check_tensors(self.checkpoint, self.family)

    def plan(self) -> Plan:
        """What it would take."""
        states = 8 * prod(self.tokens) * self.family.width
        others = other_tensors(self.family, self.checkpoint)
        kept = sum(self._kept_nbytes(name, shape) for name, shape in others.items())
        return plan_of(self.family, self.method, self.tokens, kept, on_disk(states))

    def _kept_nbytes(self, name: str, shape: tuple[int, ...]) -> int:
        n = prod(shape)
        if self.embedding_bits and is_embedding(self.family, shape):
            return n * self.embedding_bits // 8 + 4 * shape[0] + 8  # scales of rows, and a seed
        stored = "" if self.checkpoint is None else self.checkpoint.info(name).dtype
        return 4 * n if stored in ("F32", "F64") else 2 * n

    def call(self) -> dict[str, Any]:
        """What every byte of the output depends on, in the words of `compress`."""
        assert self.checkpoint is not None
        ids = self.ids
        digest = None if ids is None else hashlib.sha256(ids.tobytes()).hexdigest()
        bits = self.method.bits
        return {
            "checkpoint": self.checkpoint.digest(),
            "calibration": None if ids is None else {"shape": list(ids.shape), "sha256": digest},
            "method": self.method.name,
            "bits_per_weight": dict(bits) if isinstance(bits, Mapping) else bits,
            **self.method.options,
            "prefix": self.prefix,
            "embedding_bits": self.embedding_bits,
            "rng": self.method.seed,
            "versions of packages": versions(),
        }


def check_tensors(checkpoint: Checkpoint, family: Family) -> None:
    """Refuse a checkpoint whose tensors are not those of its network, or not finite."""
    tied = family.tied_tensors
    check_checkpoint(checkpoint, family.tensors(), ignored=family.ignored, tied=tied)
    count = counter(len(checkpoint))
    check_finite(checkpoint, progress=lambda name: count(1))


def request_of(
    checkpoint: Any,
    calibration: Any,
    method: str,
    bits: Any,
    seed: Any,
    prefix: Any,
    embedding_bits: Any,
    options: Mapping[str, Any],
    dry: bool = False,
) -> Request:
    """What arguments of `lplr.models.compress` ask for; where ``dry``, a config is enough."""
    found, config = _opened(checkpoint, dry)
    family = family_of(config)
    way = method_of(method, bits, seed, layers_of(family), options)
    if embedding_bits not in (None, *EMBEDDING_BITS):
        raise InputError(f"embedding_bits: must be 4, 8 or None, found {embedding_bits!r}")
    ids, tokens = None, _ASSUMED
    if not way.calibrated:
        if calibration is not None:
            raise InputError(f"calibration: the method {method!r} takes none; leave it out")
        tokens = (0, 0)
    elif dry and isinstance(calibration, tuple) and len(calibration) == 2:
        tokens = calibration
    elif calibration is not None:
        ids = shortest_first(token_windows(calibration, vocabulary=family.vocabulary))
        tokens = ids.shape
        check_enough(ids, family)
    elif not dry:
        raise InputError(
            f"calibration: is missing; the method {method!r} needs token ids, some 100,000 of them"
        )
    request = Request(found, family, way, ids, tokens, check_flag(prefix, "prefix"), embedding_bits)
    for name, (_, shape) in layers_of(family).items():
        way.nbytes(name, shape)  # refuses what is too little
    return request


def _opened(checkpoint: Any, dry: bool) -> tuple[Checkpoint | None, Mapping[str, Any]]:
    if isinstance(checkpoint, Checkpoint):
        return checkpoint, checkpoint.config
    if dry and isinstance(checkpoint, Mapping):
        return None, checkpoint
    try:
        found = open_checkpoint(checkpoint)
    except MissingFileError:
        if not dry or not os.path.isfile(os.path.join(checkpoint, "config.json")):
            raise
        return None, read_json(Path(checkpoint) / "config.json")
    return found, found.config


def check_enough(ids: np.ndarray, family: Family) -> None:
    """Warn of second moments that have fewer tokens than columns."""
    count = int((ids != PADDING).sum())
    short = [f"{name} with {d}" for name, (_, (_, d)) in layers_of(family).items() if d > count]
    if short:
        warn_caller(
            f"calibration: has {count} tokens, fewer than the columns of {len(short)} layers "
            f"({short[0]}); their second moments are singular, and 1 % of the mean diagonal is "
            "added to each; more tokens are better",
            DampingWarning,
        )


def on_disk(nbytes: int) -> bool:
    """Whether hidden states of so many bytes are mapped from a file."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not POSIX
        return False
    return nbytes > _IN_MEMORY * memory
