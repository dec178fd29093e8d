"""A network with bits divided in several ways, each really coded, compared on held-out sequences.

What an error of a layer does to the predictions is guessed in two ways, and each guess says how
bits should be moved, see `lplr.models.moves`. *Measured*: the divergences that one kind of layers,
or one block, makes when it alone is coded. *Predicted*, with output moments:
``1/2 tr(G E H E^T)`` of each layer. Neither is believed: such models are good close to the original
network, and compressed ones are far from it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, MissingFileError
from lplr.models.candidates import Allocation, Candidate
from lplr.models.compress_model import compress
from lplr.models.costs import layers_of
from lplr.models.evaluation.losses import token_losses
from lplr.models.evaluation.sensitivity import sensitivity
from lplr.models.moments import kept_moments
from lplr.models.moments_file import OutputMoments
from lplr.models.moves import from_margins, moved
from lplr.models.network import Network
from lplr.models.opening import load
from lplr.models.packed import PackedModel
from lplr.models.request import Request
from lplr.models.texts import PADDING
from lplr.planning.sizes import least_nbytes
from lplr.progress import parts, unheard, until
from lplr.storage.sealed import read_sealed, write_sealed
from lplr.storage.workplace import Workplace

__all__ = ["Comparison", "Work"]

_MOST = 0.25  # bits per weight that a layer may move
_WINDOWS = 8  # sequences on which parts are measured, which order them well enough
_ALONE, _EQUAL, _MEASURED, _PREDICTED = "alone", "equal", "measured", "predicted"
_KNOWN, _MOMENTS = "known.json", "moments.safetensors"


class Work(Workplace):
    """Networks that are being coded, each in a folder, and what is known of them."""

    ours = re.compile(
        rf"{re.escape(_KNOWN)}|"
        rf"({_ALONE}|{_EQUAL}|{_MEASURED}|{_PREDICTED}|{re.escape(_MOMENTS)})(\.job)?"
    )

    def known(self, about: str) -> dict[str, Any]:
        """What has been found out about something."""
        return dict(self._all().get(about, {}))

    def learn(self, about: str, what: Mapping[str, Any]) -> None:
        """Keep what has been found out."""
        known = {**self._all(), about: {**self.known(about), **what}}
        write_sealed(self.folder / _KNOWN, known)

    def _all(self) -> dict[str, Any]:
        return read_sealed(self.folder / _KNOWN) or {}


class Comparison:
    """Candidates for one network, coded and compared.

    Parameters
    ----------
    request : Request
        For a network with equal bits.
    judged : ndarray of shape (sequences, tokens), int
        On which candidates are compared.
    """

    def __init__(self, request: Request, judged: np.ndarray) -> None:
        assert isinstance(request.method.bits, float)
        self.request, self.judged, self.bits = request, judged, request.method.bits
        self.family, self.layers = request.family, layers_of(request.family)
        self.names = [_EQUAL, _MEASURED, *([_PREDICTED] if request.moments else [])]

    def seconds(self) -> tuple[float, float, float]:
        """About: for output moments, for the divergences of parts, and for the candidates."""
        planned, family = self.request.plan(), self.family
        weights = sum(layer.weights for layer in planned.layers)
        head = 2 * family.vocabulary * family.width / weights  # of both networks
        token = planned.seconds["forward passes"] / prod(planned.tokens) * (1 + head)
        moments = planned.seconds.get("output moments", 0.0)
        coding = sum(planned.seconds.values()) - moments
        measured = min(_WINDOWS, planned.tokens[0]) * planned.tokens[1]
        passes = (family.n_blocks / 2 + len(family.linears(0))) / 2  # of both networks
        alone = coding + token * measured * passes
        return moments, alone, len(self.names) * (coding + token * self.judged.size)

    def run(self, work: Work) -> Allocation:
        """Find out what ``work`` does not know."""
        self.work, checkpoint = work, self.request.checkpoint
        assert checkpoint is not None
        self.original = Network(self.family, checkpoint)
        first, second, rest = self.seconds()
        with until(first / (first + second + rest)):
            self.moments = self._form_moments()
        with until((first + second) / (first + second + rest), "coding", "each part alone: "):
            kinds, blocks = self._alone()
        asked = self.judged[:, 1:] != PADDING
        divided = {name: self._divided(name) for name in self.names}
        candidates = []
        for k, (name, bits) in enumerate(parts(divided.items()), 1):
            with until(1.0, "coding", f"candidate {k} of {len(divided)}, {name} bits: "):
                candidates.append(Candidate(name, bits, self._divergence(name, bits, asked)))
        return Allocation(tuple(candidates), kinds, blocks, tuple(asked.sum(axis=1).tolist()))

    def _form_moments(self) -> OutputMoments | None:
        """Those that all candidates are coded under."""
        if not self.request.moments:
            return None
        path, ids = self.work.folder / _MOMENTS, self.request.ids
        assert self.request.checkpoint is not None
        assert ids is not None
        seed = self.request.method.seed
        return kept_moments(self.request.checkpoint, self.family, ids, path, seed)

    def _alone(self) -> tuple[dict[str, float], tuple[float, ...]]:
        """The divergence that each kind of layers, and each block, makes alone."""
        if not self.work.known("alone"):
            # Layers that are coded behind others would make up for what these have lost.
            name = _EQUAL if not self.request.prefix else _ALONE
            with until(0.5, "coding for the original inputs"):
                coded = self._coded(name, self.bits, prefix=False)
            if self.request.moments:
                layers = coded.tensors.manifest["layers"]  # type: ignore[attr-defined]
                self.work.learn("losses", {each["name"]: each["predicted_kl"] for each in layers})
            ids = self.request.ids
            assert ids is not None
            with until(1.0, "one part of the network alone"):
                found = sensitivity(self.original, coded, ids[:: -(-len(ids) // _WINDOWS)])
            kinds = {kind: each.value for kind, each in found.kinds.items()}
            blocks = [each.value for each in found.blocks]
            self.work.learn("alone", {"kinds": kinds, "blocks": blocks})
        self._forget(_ALONE)
        known = self.work.known("alone")
        return known["kinds"], tuple(known["blocks"])

    def _divided(self, name: str) -> float | dict[str, float]:
        """Bits per weight by a candidate."""
        if name == _EQUAL:
            return self.bits
        if name == _PREDICTED:
            losses = self.work.known("losses")
        else:
            table = from_margins(*self._alone())
            losses = {
                layer: table[layer.removeprefix(self.family.prefix(i)), i]
                for layer, (i, _) in self.layers.items()
            }
        weights = {layer: prod(shape) for layer, (_, shape) in self.layers.items()}
        # What may be taken from a layer is what it has above the least that can be stored.
        least = {
            layer: min(self.bits, 1.001 * 8 * least_nbytes(shape) / prod(shape))
            for layer, (_, shape) in self.layers.items()
        }
        return moved({n: losses[n] for n in self.layers}, weights, self.bits, _MOST, least)

    def _divergence(self, name: str, bits: Any, asked: np.ndarray) -> tuple[float, ...]:
        """Of each sequence, if the network is coded with these bits."""
        if name not in self.work.known("divergences"):
            with until(0.9):
                coded = self._coded(name, bits, self.request.prefix)
            with until(1.0, "its predictions"):
                *_, losses, _ = token_losses([self.original, coded], self.judged, asked)
            sums = np.bincount(np.nonzero(asked)[0], losses, minlength=len(asked))
            self.work.learn("divergences", {name: (sums / asked.sum(axis=1)).tolist()})
        self._forget(name)
        return tuple(self.work.known("divergences")[name])

    def _coded(self, name: str, bits: Any, prefix: bool) -> Network:
        path, method = self.work.folder / name, self.request.method
        try:
            with unheard():
                PackedModel(path).verify()
        except (MissingFileError, CorruptFileError):  # what is damaged is made anew
            self._forget(name)
            compress(
                self.request.checkpoint,
                path,
                bits_per_weight=bits,
                calibration=self.request.ids,
                prefix=prefix,
                output_moments=self.moments,
                rng=method.seed,
                **method.options,
            )
        return load(path)

    def _forget(self, name: str) -> None:
        shutil.rmtree(self.work.folder / name, ignore_errors=True)
