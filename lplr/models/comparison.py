"""A network with bits divided in several ways, each really coded, compared on held-out sequences.

What an error of a layer does to the predictions is guessed in two ways, and each guess says how
bits should be moved, see `lplr.models.moves`. *Measured*: the divergence that the layers of one
kind in one part of the network make when they alone are coded. *Predicted*, with output moments:
``1/2 tr(G E H E^T)`` of each layer. Neither is believed: such models are good close to the original
network, and compressed ones are far from it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from lplr.models.candidates import Allocation, Candidate
from lplr.models.compress_model import compress
from lplr.models.costs import layers_of
from lplr.models.evaluation.divergence import Reference
from lplr.models.moves import groups_of, moved
from lplr.models.network import Network
from lplr.models.opening import load
from lplr.models.request import Request
from lplr.models.workplace import Workplace
from lplr.planning.sizes import least_nbytes
from lplr.progress import parts, until
from lplr.storage.atomic import write_atomic

__all__ = ["Comparison", "Work"]

_MOST = 0.25  # bits per weight that a layer may move
_SHARE = 3  # of the sequences, one in so many serves to measure groups
_ALONE, _EQUAL, _MEASURED, _PREDICTED = "alone", "equal", "measured", "predicted"
_KNOWN = "known.json"


class Work(Workplace):
    """Networks that are being coded, each in a folder, and what is known of them."""

    ours = re.compile(rf"{re.escape(_KNOWN)}|({_ALONE}|{_EQUAL}|{_MEASURED}|{_PREDICTED})(\.job)?")

    def known(self, about: str) -> dict[str, Any]:
        """What has been found out about something."""
        return dict(self._all().get(about, {}))

    def learn(self, about: str, what: Mapping[str, Any]) -> None:
        """Keep what has been found out."""
        text = json.dumps({**self._all(), about: {**self.known(about), **what}}, indent=1)
        write_atomic(self.folder / _KNOWN, [text.encode()], overwrite=True)

    def _all(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / _KNOWN).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}


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
        family = self.family = request.family
        layers = layers_of(family)
        kinds = {name: name.removeprefix(family.prefix(i)) for name, (i, _) in layers.items()}
        self.groups = groups_of(layers, kinds)
        self.weights = {name: prod(shape) for name, (_, shape) in layers.items()}
        # What may be taken from a layer is what it has above the least that can be stored.
        self.least = {
            name: min(self.bits, 1.001 * 8 * least_nbytes(shape) / prod(shape))
            for name, (_, shape) in layers.items()
        }
        self.names = [_EQUAL, _MEASURED, *([_PREDICTED] if request.moments else [])]

    def seconds(self) -> tuple[float, float]:
        """About: for the divergences of groups, and for the candidates."""
        planned = self.request.plan()
        family, tokens, weights = self.family, self.judged.size, sum(self.weights.values())
        coding = sum(planned.seconds.values())
        head = 2 * family.vocabulary * family.width / weights  # of both networks
        each = planned.seconds["forward passes"] / 2 / prod(planned.tokens) * (1 + head) * tokens
        groups = coding + each * (1 + len(self.groups)) / _SHARE
        return groups, len(self.names) * (coding + each) + each

    def run(self, work: Work) -> Allocation:
        """Find out what ``work`` does not know."""
        self.work, checkpoint = work, self.request.checkpoint
        assert checkpoint is not None
        self.original = Network(self.family, checkpoint)
        first, rest = self.seconds()
        with until(first / (first + rest), "one kind of layers alone"):
            groups = self._measured()
        reference = Reference(self.original, self.judged)
        candidates = [
            Candidate(name, bits, self._divergence(name, bits, reference))
            for name, bits in parts([(name, self._divided(name)) for name in self.names])
        ]
        return Allocation(tuple(candidates), groups, tuple(reference.tokens.tolist()))

    def _measured(self) -> dict[str, float]:
        """The divergence that each group makes alone, coded for the original network."""
        if self.work.known("groups").keys() == self.groups.keys():
            return self.work.known("groups")
        name = _ALONE if self.request.prefix else _EQUAL  # that without the prefix is a candidate
        with until(0.5, "coding"):
            coded = self._coded(name, self.bits, prefix=False)
        if self.request.moments:
            layers = coded.tensors.manifest["layers"]  # type: ignore[attr-defined]
            self.work.learn("losses", {each["name"]: each["predicted_kl"] for each in layers})
        few = Reference(self.original, self.judged[::_SHARE])
        for group, members in parts(list(self.groups.items()), what=lambda item: f"only {item[0]}"):
            if group not in self.work.known("groups"):
                mixed = Network(self.family, _Mixed(self.original.tensors, coded.tensors, members))
                kl = float(few.kl(mixed) @ few.tokens / few.tokens.sum())
                self.work.learn("groups", {group: kl})
        if name == _ALONE:
            self._forget(name)
        return self.work.known("groups")

    def _divided(self, name: str) -> float | dict[str, float]:
        """Bits per weight by a candidate."""
        if name == _EQUAL:
            return self.bits
        losses = self.work.known("losses")
        if name == _MEASURED:
            for group, kl in self.work.known("groups").items():
                size = sum(self.weights[layer] for layer in self.groups[group])
                for layer in self.groups[group]:
                    losses[layer] = kl * self.weights[layer] / size
        return moved(
            {n: losses[n] for n in self.weights}, self.weights, self.bits, _MOST, self.least
        )

    def _divergence(self, name: str, bits: Any, reference: Reference) -> tuple[float, ...]:
        """Of each sequence, if the network is coded with these bits."""
        if name not in self.work.known("divergences"):
            with until(0.9, f"{name} bits" if name == _EQUAL else f"bits as {name}"):
                coded = self._coded(name, bits, self.request.prefix)
            self.work.learn("divergences", {name: reference.kl(coded).tolist()})
        self._forget(name)
        return tuple(self.work.known("divergences")[name])

    def _coded(self, name: str, bits: Any, prefix: bool) -> Network:
        path, method = self.work.folder / name, self.request.method
        if not path.exists():
            compress(
                self.request.checkpoint,
                path,
                bits_per_weight=bits,
                calibration=self.request.ids,
                prefix=prefix,
                output_moments=self.request.moments,
                rng=method.seed,
                **method.options,
            )
        return load(path)

    def _forget(self, name: str) -> None:
        shutil.rmtree(self.work.folder / name, ignore_errors=True)


class _Mixed(Mapping[str, Any]):
    """Tensors of a network, of which the weights of some linear layers are those of another."""

    def __init__(
        self, tensors: Mapping[str, Any], others: Mapping[str, Any], layers: Iterable[str]
    ) -> None:
        self.tensors, self.others = tensors, others
        self.names = {f"{layer}.weight" for layer in layers}

    def __getitem__(self, name: str) -> Any:
        return (self.others if name in self.names else self.tensors)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
