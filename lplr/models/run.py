"""One run of a compression: from where the last one ended, layer by layer, to the manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lplr.algorithms.many import each
from lplr.exceptions import InputError, LplrError
from lplr.matrices.base import PackedMatrix
from lplr.models.calibration import States, compress_block, first_states
from lplr.models.costs import LayerPlan, Plan
from lplr.models.job import Job
from lplr.models.methods import Method
from lplr.models.moments import felt, kept_moments
from lplr.models.moments_file import OutputMoments
from lplr.models.network import Network
from lplr.models.request import Request, on_disk
from lplr.models.store import finish, write_rest
from lplr.models.texts import PADDING
from lplr.progress import counter, parts, unheard, until

__all__ = ["Run"]

_CODED = 0.98  # share of the time that is over after the layers, about


class Run:
    """One run of a job, from where the last one ended."""

    def __init__(self, request: Request, job: Job, planned: Plan, client: Any = None) -> None:
        assert request.checkpoint is not None
        self.request, self.job, self.checkpoint = request, job, request.checkpoint
        self.client = client  # whose workers code the layers
        self.layers = {layer.name: (k, layer) for k, layer in enumerate(planned.layers)}
        self.network = Network(request.family, request.checkpoint)
        self.moments = request.moments if isinstance(request.moments, OutputMoments) else None
        self.share = planned.share("output moments")
        self.errors: dict[str, float] = {}  # of the last layer, and of the hidden states

    def run(self, call: dict[str, Any]) -> None:
        """Do it."""
        if self.request.moments is True:
            with until(self.share * _CODED, "output moments"):
                self._form_moments()
        with until(_CODED, "going through the blocks"):
            if self.request.method.calibrated:
                self._blocks()
            else:
                self._rounded()
        with until(0.99, "writing the other tensors"):
            write_rest(
                self.job.model, self.checkpoint, self.request.family, self.request.embedding_bits
            )
        log = list(self.job.logged())
        seconds = {r["layer"]: {"seconds": r["seconds"]} for r in log if "layer" in r}
        blocks = {r["block"]: r["error"] for r in log if "block" in r}
        settings = {**call, "error_after_blocks": [blocks[i] for i in sorted(blocks)]}
        if self.moments is not None:
            settings["output_moments"] = {
                **call["output_moments"],
                "sha256": self.moments.digest,
            }
        with until(1.0, "writing the manifest"):
            finish(self.job.model, settings, seconds, overwrite=True)
            self.job.finish()

    def _form_moments(self) -> None:
        ids, seed = self.request.ids, self.request.method.seed
        assert ids is not None
        self.moments = kept_moments(
            self.checkpoint, self.request.family, ids, self.job.moments, seed
        )

    def _rounded(self) -> None:
        """Every linear layer by itself."""
        layers = [layer for k, layer in self.layers.values() if self.job.packed(k) is None]
        linears = (
            (self.network.block(layer.block).linears[self._short(layer)].weight, None)
            for layer in layers
        )
        names = [layer.name for layer in layers]
        coded = self._coded(names, linears, dict.fromkeys(names, 1.0))
        for layer in parts(layers, [layer.seconds for layer in layers]):
            self._keep(layer.name, next(coded), {})

    def _blocks(self) -> None:
        """Blocks in order, each behind the ones before it."""
        ids = self.request.ids
        assert ids is not None
        shape = (*ids.shape, self.request.family.width)
        states = self.job.room(shape, on_disk(8 * int(np.prod(shape))))
        with until(0.01, "embedding"):
            start, found = self.job.states(shape)
            before = [k for k, layer in self.layers.values() if layer.block < start]
            told = {record["block"] for record in self.job.logged() if "block" in record}
            # Damaged, or lost in a power cut: layers are made anew, and errors on the way there.
            if any(self.job.packed(k) is None for k in before) or not told.issuperset(range(start)):
                start, found = 0, None
            mask = ids != PADDING
            if found is None:  # by another network, since one keeps its embedding in memory
                network = Network(self.request.family, self.checkpoint)
                found = first_states(network, np.where(mask, ids, 0))
                del network
            states.original[:], states.compressed[:] = found.original, found.compressed
            states.mask = None if mask.all() else mask
            del found
        n = self.request.family.n_blocks
        for i in parts(range(start, n)):
            self._block(i, states)
            if i + 1 < n:
                self.job.keep_states(i + 1, states)

    def _block(self, i: int, states: States) -> None:
        layers = [(k, layer) for k, layer in self.layers.values() if layer.block == i]
        found = {layer.name: self.job.packed(k) for k, layer in layers}
        done = {name: packed for name, packed in found.items() if packed is not None}
        place = {  # of a stage, half is over when its inputs have been seen
            name: 0.5 + 0.5 * (k + 1) / len(names)
            for names in self.request.family.stages(i)
            for k, name in enumerate(names)
        }

        moments = self.moments
        weights = None
        if moments is not None and "token" in moments.estimators:
            weights = moments.token_weights

        def moment(name: str, H: np.ndarray) -> np.ndarray:
            if not np.isfinite(H).all():
                raise InputError(
                    f"calibration: the second moment of the inputs of {name} (block {i}) is not "
                    "finite; the network overflows on these tokens"
                )
            if moments is not None and weights is None:
                H = moments.input_moment(name).astype(np.float64)
            return H

        def code(linears: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Iterator[PackedMatrix]:
            names = [name for name, _, _ in linears]
            return self._coded(names, ((W, moment(name, H)) for name, W, H in linears), place)

        with until(1.0, self._words(i)):
            prefix = self.request.prefix
            compress_block(
                self.network,
                i,
                states,
                code,
                done,
                self._keep,
                prefix=prefix,
                weights=weights,
            )
        error = self.errors[f"after block {i + 1}"] = states.relative_error()
        self.errors.pop(f"after block {i}", None)
        self.job.log(block=i, error=error)

    def _coded(
        self,
        names: Sequence[str],
        linears: Iterable[tuple[np.ndarray, np.ndarray | None]],
        places: Mapping[str, float],
    ) -> Iterator[PackedMatrix]:
        """Layers, each with its error and its time in the log; then its place is reached."""

        def arguments(name: str, linear: tuple[np.ndarray, np.ndarray | None]) -> tuple[Any, ...]:
            G = None if self.moments is None else self.moments.output_moment(name)
            return self.request.method, name, self.layers[name][1].block, *linear, G

        done = each(_code, map(arguments, names, linears), self.client)
        for name in names:
            _, layer = self.layers[name]
            with until(places[name], self._words(layer.block, self._short(layer))):
                packed, self.record, seconds = next(done)
            self.errors["last layer"] = self.record["relative_error"]
            self.job.log(layer=name, seconds=seconds)
            yield packed

    def _keep(self, name: str, packed: PackedMatrix, record: dict[str, Any]) -> None:
        with unheard():  # it takes no time to speak of
            self.job.keep(self.layers[name][0], name, packed, self.record | record)

    def _words(self, i: int, layer: str = "") -> str:
        errors = ", ".join(f"{where} {100 * e:.3g} %" for where, e in self.errors.items())
        of = f"block {i + 1} of {self.request.family.n_blocks}"
        return of + (f", {layer}" if layer else "") + (f" (errors: {errors})" if errors else "")

    def _short(self, layer: LayerPlan) -> str:
        return layer.name.removeprefix(self.request.family.prefix(layer.block))


def _code(
    method: Method,
    name: str,
    block: int,
    W: np.ndarray,
    H: np.ndarray | None,
    G: np.ndarray | None,
) -> tuple[PackedMatrix, dict[str, Any], float]:
    """A packed layer, what is recorded of its errors, and the seconds."""
    start = time.perf_counter()
    try:
        packed = method.code(name, W, H, G, _shares_alone())
    except LplrError as error:
        raise type(error)(f"{name} (block {block}): {error}") from error
    record = {"relative_error": packed.relative_error(W, H)}
    if G is not None and H is not None:
        record |= felt(G, W, packed.to_dense(), H)
    return packed, record, time.perf_counter() - start


def _shares_alone() -> Callable[[float, str], None]:
    """A listener that counts for the present part, whose words stay."""
    count, before = counter(1.0), 0.0

    def hear(share: float, _: str) -> None:
        nonlocal before
        count(share - before)
        before = share

    return hear
