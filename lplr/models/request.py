"""The checked arguments of a compression: what is to be done, and what it would take."""

from __future__ import annotations

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
from lplr.models.moments_file import OutputMoments, open_moments
from lplr.models.safetensors_folder import read_json
from lplr.models.store import is_embedding, other_tensors
from lplr.models.texts import PADDING, fingerprint, shortest_first, token_windows
from lplr.progress import counter
from lplr.provenance import versions
from lplr.validation.arguments import check_flag, warn_caller

__all__ = [
    "Request",
    "check_enough",
    "check_predicts",
    "check_tensors",
    "on_disk",
    "request_of",
]

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
    moments: OutputMoments | bool = False  # True: to be formed first

    def check(self) -> None:
        """Refuse a checkpoint that is not what its configuration says, tensor by tensor."""
        assert self.checkpoint is not None
        if isinstance(self.moments, OutputMoments):
            self.moments.check(_shapes(self.family), self.checkpoint.digest(), self.ids)
        check_tensors(self.checkpoint, self.family)

    def plan(self) -> Plan:
        """What it would take."""
        states = 8 * prod(self.tokens) * self.family.width
        others = other_tensors(self.family, self.checkpoint)
        kept = sum(self._kept_nbytes(name, shape) for name, shape in others.items())
        return plan_of(
            self.family,
            self.method,
            self.tokens,
            kept,
            on_disk(states),
            weighed=bool(self.moments),
            formed=self.moments is True,
        )

    def _kept_nbytes(self, name: str, shape: tuple[int, ...]) -> int:
        n = prod(shape)
        if self.embedding_bits and is_embedding(self.family, shape):
            return n * self.embedding_bits // 8 + 4 * shape[0] + 8  # scales of rows, and a seed
        stored = "" if self.checkpoint is None else self.checkpoint.info(name).dtype
        return 4 * n if stored in ("F32", "F64") else 2 * n

    def call(self) -> dict[str, Any]:
        """What every byte of the output depends on, in the words of `compress`."""
        assert self.checkpoint is not None
        bits = self.method.bits
        return {
            "checkpoint": self.checkpoint.digest(),
            "calibration": None if self.ids is None else fingerprint(self.ids),
            "method": self.method.name,
            "bits_per_weight": dict(bits) if isinstance(bits, Mapping) else bits,
            **self.method.options,
            **self._of_moments(),
            "prefix": self.prefix,
            "embedding_bits": self.embedding_bits,
            "rng": self.method.seed,
            "versions of packages": versions(),
        }

    def _of_moments(self) -> dict[str, Any]:
        """Which output moments are used, if any are."""
        if isinstance(self.moments, OutputMoments):
            kinds = {key: self.moments.facts[key] for key in ("estimators", "rng")}
            return {"output_moments": {**kinds, "sha256": self.moments.digest}}
        if self.moments:
            return {"output_moments": {"estimators": ["token"], "rng": self.method.seed}}
        return {}


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
    output_moments: Any,
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
    moments = _moments(output_moments, way, family, ids)
    request = Request(
        found, family, way, ids, tokens, check_flag(prefix, "prefix"), embedding_bits, moments
    )
    for name, (_, shape) in layers_of(family).items():
        way.nbytes(name, shape)  # refuses what is too little
    return request


def _shapes(family: Family) -> dict[str, tuple[int, int]]:
    return {name: shape for name, (_, shape) in layers_of(family).items()}


def _moments(
    given: Any, method: Method, family: Family, ids: np.ndarray | None
) -> OutputMoments | bool:
    if given is None or given is False:
        return False
    if not method.calibrated:
        raise InputError(f"output_moments: the method {method.name!r} takes none; leave them out")
    check_predicts(family)
    if given is True:
        return True
    found = given if isinstance(given, OutputMoments) else open_moments(given)
    found.check(_shapes(family), ids=ids)
    return found


def check_predicts(family: Family) -> None:
    """Refuse an encoder where output moments are asked for."""
    if not family.causal:
        raise InputError(
            "output_moments: the network is an encoder, which predicts no next token, so that no "
            "labels can be drawn from its predictions; leave them out"
        )


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


def check_enough(ids: np.ndarray, family: Family, outputs: bool = False) -> None:
    """Warn of second moments that have fewer tokens than columns, or than outputs."""
    count = int((ids != PADDING).sum())
    sizes = {name: shape[not outputs] for name, (_, shape) in layers_of(family).items()}
    short = [f"{name} with {size}" for name, size in sizes.items() if size > count]
    if short:
        warn_caller(
            f"{'tokens' if outputs else 'calibration'}: has {count} tokens, fewer than the "
            f"{'outputs' if outputs else 'columns'} of {len(short)} layers ({short[0]}); their "
            "second moments are singular, and 1 % of the mean diagonal is added to each; more "
            "tokens are better",
            DampingWarning,
        )


def on_disk(nbytes: int) -> bool:
    """Whether hidden states of so many bytes are mapped from a file."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not POSIX
        return False
    return nbytes > _IN_MEMORY * memory
