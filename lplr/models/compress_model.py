"""One call from a checkpoint to a smaller network that still predicts."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lplr.exceptions import (
    BudgetWarning,
    DampingWarning,
    InputError,
    LplrError,
    StorageError,
)
from lplr.matrices.base import PackedMatrix
from lplr.models.calibration import States, compress_block, first_states
from lplr.models.costs import LayerPlan, Plan
from lplr.models.job import Job
from lplr.models.manifest import read_manifest
from lplr.models.moments import felt, form_moments
from lplr.models.moments_file import OutputMoments, open_moments
from lplr.models.network import Network
from lplr.models.output import new_path
from lplr.models.request import Request, on_disk, request_of
from lplr.models.store import finish, write_rest
from lplr.models.texts import PADDING
from lplr.parallel import at_most, reproducible
from lplr.progress import Progress, counter, parts, tracked, until
from lplr.validation import check_integer

__all__ = ["compress", "plan"]

_SURVEY, _CODED = 0.02, 0.98  # shares of the time that are over after these steps, about


def compress(
    checkpoint: Any,
    out: str | os.PathLike[str],
    *,
    bits_per_weight: float | Mapping[str, float] | None = None,
    calibration: Any = None,
    method: str = "compress",
    prefix: bool = True,
    output_moments: Any = None,
    embedding_bits: int | None = None,
    rng: int = 0,
    jobs: int | None = None,
    progress: Progress = False,
    **options: Any,
) -> dict[str, Any]:
    """Compress the linear layers of a network, and write it as a folder.

    Blocks are compressed in order, each layer for the inputs that it will get behind the layers
    that are compressed already, and towards weights that make up for what these have lost; see
    `lplr.models.calibration`.

    Parameters
    ----------
    checkpoint : str, path or Checkpoint
        A folder in the form of Hugging Face, or a ``.gguf`` file; see `open_checkpoint`.
    out : str or path
        The folder to make. What is finished is kept beside it in ``out.job``: the same call, after
        an interrupt or a kill, goes on from there and ends with the same layers, byte for byte.
    bits_per_weight : float or mapping of str to float
        Stored bits over the weights of the linear layers, at most: of every layer, or of each by
        its name. The method ``"caldera"`` does without.
    calibration : str, path or array_like of int, of shape (sequences, tokens)
        Token ids, or a file of them, see `lplr.models.texts.token_windows`; -1 is padding. The
        method ``"quantize"`` takes none.
    method : {"compress", "caldera", "quantize"}
        `lplr.compress`; `lplr.caldera`; or plain rounding, with a scale for each row, to the
        largest width that fits: the baseline.
    prefix : bool
        Whether a layer is coded for the inputs that it will get behind the compressed layers, and
        corrected for what these have lost; else for those that it has in the original network.
    output_moments : str, path, OutputMoments or bool, optional
        Of these tokens, from `output_moments`: errors are weighed by what is felt of them in the
        predictions, not by the outputs of the layer alone. True forms them first, by token, from
        the same seed.
    embedding_bits : {None, 4, 8}
        Bits of embedding and head, with a scale for each row; None keeps their type.
    rng : int
        Seed of every layer.
    jobs : int, optional
        Threads to use; by default one for each core, or what ``LPLR_NUM_THREADS`` says. The result
        does not depend on it.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.
    **options
        Of ``"compress"``: ``effort``. Of ``"caldera"``: ``rank`` (of a smaller layer, as far as it
        goes), ``q_bits``, ``factor_bits``, ``mode`` and ``quantizer``.

    Returns
    -------
    dict
        The summary, JSON-able: ``layers`` (of each its bytes, bits, error and seconds), ``blocks``
        (of each the relative error of the hidden states after it), and the totals.

    Raises
    ------
    InputError
        If an argument is outside what is offered, the checkpoint is not what its configuration
        says, ``out`` exists, another process makes it, or ``out.job`` is of another call.
    BudgetError
        If a layer cannot be stored in its budget.
    StorageError
        If there is no space; what is finished stays.

    Warns
    -----
    DampingWarning
        If there are fewer calibration tokens than columns of a layer.

    Notes
    -----
    Saha, Sagan, Srivastava, Goldsmith, Pilanci, NeurIPS 2024, compress the layers of a network by
    second moments of the original one. Here they are those of the compressed prefix.

    Examples
    --------
    >>> import lplr
    >>> summary = lplr.models.compress(
    ...     "SmolLM2-135M", "small", bits_per_weight=2, calibration="tokens.npy"
    ... )  # doctest: +SKIP
    """
    with tracked(progress, "reading"), reproducible(), at_most(_threads(jobs)):
        request = request_of(
            checkpoint,
            calibration,
            method,
            bits_per_weight,
            rng,
            prefix,
            embedding_bits,
            output_moments,
            options,
        )
        target = new_path(out)
        with until(_SURVEY, "checking the tensors"):
            request.check()
            planned, call = request.plan(), request.call()
        with Job(target, call) as job, warnings.catch_warnings():
            for said in (DampingWarning, BudgetWarning):  # one has been given, for all layers
                warnings.simplefilter("ignore", said)
            _check_disk(job, planned)
            _Run(request, job, planned).run(call)
    return read_manifest(target)


def plan(
    checkpoint: Any,
    *,
    bits_per_weight: float | Mapping[str, float] | None = None,
    calibration: Any = None,
    method: str = "compress",
    prefix: bool = True,
    output_moments: Any = None,
    embedding_bits: int | None = None,
    rng: int = 0,
    jobs: int | None = None,
    **options: Any,
) -> Plan:
    """What `compress` would take, from the configuration of a network alone.

    Parameters
    ----------
    checkpoint : str, path, Checkpoint or mapping
        As in `compress`; a folder with ``config.json`` alone, or its content, is enough.
    bits_per_weight : float or mapping of str to float
        As in `compress`.
    calibration : str, path, array_like of int, or pair of int, optional
        As in `compress`, or the numbers of sequences and of tokens in each; by default (320, 512).
    method, prefix, output_moments, embedding_bits, rng, jobs, **options
        As in `compress`.

    Returns
    -------
    Plan
        Time is for this machine, whose speed is measured for 0.2 s.

    Raises
    ------
    InputError, BudgetError
        As `compress`.

    Examples
    --------
    >>> import lplr
    >>> config = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096,
    ...           "intermediate_size": 11008, "num_attention_heads": 32, "vocab_size": 32000}
    >>> planned = lplr.models.plan(config, bits_per_weight=2, calibration=(128, 2048))
    >>> len(planned.layers), round(planned.nbytes / 1e9, 2)
    (224, 1.62)
    """
    with reproducible(), at_most(_threads(jobs)):
        return request_of(
            checkpoint,
            calibration,
            method,
            bits_per_weight,
            rng,
            prefix,
            embedding_bits,
            output_moments,
            options,
            True,
        ).plan()


def _threads(jobs: Any) -> int | None:
    return None if jobs is None else check_integer(jobs, "jobs", 1)


def _check_disk(job: Job, planned: Plan) -> None:
    there = sum(path.stat().st_size for path in job.folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(job.folder).free
    if free + there < planned.disk:
        raise StorageError(
            f"{job.out}: about {planned.disk / 1e9:.2g} GB of disk are needed at the peak, and "
            f"{(free + there) / 1e9:.2g} GB are free; free space, or use fewer calibration tokens"
        )


class _Run:
    """One run of a job, from where the last one ended."""

    def __init__(self, request: Request, job: Job, planned: Plan) -> None:
        assert request.checkpoint is not None
        self.request, self.job, self.checkpoint = request, job, request.checkpoint
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
        if self.job.moments.exists():
            self.moments = open_moments(self.job.moments)
            return
        ids, seed = self.request.ids, self.request.method.seed
        assert ids is not None
        self.moments = form_moments(
            self.checkpoint, self.request.family, ids, self.job.moments, ("token",), seed
        )

    def _rounded(self) -> None:
        """Every linear layer by itself."""
        for number, layer in parts(
            list(self.layers.values()), [layer.seconds for _, layer in self.layers.values()]
        ):
            if self.job.packed(number) is None:
                weight = self.network.block(layer.block).linears[self._short(layer)].weight
                self._keep(layer.name, self._coded(layer.name, weight, None, 1.0), {})

    def _blocks(self) -> None:
        """Blocks in order, each behind the ones before it."""
        ids = self.request.ids
        assert ids is not None
        shape = (*ids.shape, self.request.family.width)
        states = self.job.room(shape, on_disk(8 * int(np.prod(shape))))
        with until(0.01, "embedding"):
            start, found = self.job.states(shape)
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

        def code(name: str, W: np.ndarray, H: np.ndarray) -> PackedMatrix:
            if not np.isfinite(H).all():
                raise InputError(
                    f"calibration: the second moment of the inputs of {name} (block {i}) is not "
                    "finite; the network overflows on these tokens"
                )
            if moments is not None and weights is None:
                H = moments.input_moment(name).astype(np.float64)
            return self._coded(name, W, H, place[name])

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

    def _coded(self, name: str, W: np.ndarray, H: np.ndarray | None, place: float) -> PackedMatrix:
        """A layer, with its error and its time in the log; this share of the block is then over."""
        start = time.perf_counter()
        _, layer = self.layers[name]
        G = None if self.moments is None else self.moments.output_moment(name)
        with until(place, self._words(layer.block, self._short(layer))):
            try:
                packed = self.request.method.code(name, W, H, G, _shares_alone())
            except LplrError as error:
                raise type(error)(f"{name} (block {layer.block}): {error}") from error
        self.record = {"relative_error": packed.relative_error(W, H)}
        if G is not None and H is not None:
            self.record |= felt(G, W, packed.to_dense(), H)
        self.errors["last layer"] = self.record["relative_error"]
        self.job.log(layer=name, seconds=time.perf_counter() - start)
        return packed

    def _keep(self, name: str, packed: PackedMatrix, record: dict[str, Any]) -> None:
        with tracked(lambda share, what: None):  # it takes no time to speak of
            self.job.keep(self.layers[name][0], name, packed, self.record | record)

    def _words(self, i: int, layer: str = "") -> str:
        errors = ", ".join(f"{where} {100 * e:.3g} %" for where, e in self.errors.items())
        of = f"block {i + 1} of {self.request.family.n_blocks}"
        return of + (f", {layer}" if layer else "") + (f" (errors: {errors})" if errors else "")

    def _short(self, layer: LayerPlan) -> str:
        return layer.name.removeprefix(self.request.family.prefix(layer.block))


def _shares_alone() -> Callable[[float, str], None]:
    """A listener that counts for the present part, whose words stay."""
    count, before = counter(1.0), 0.0

    def hear(share: float, _: str) -> None:
        nonlocal before
        count(share - before)
        before = share

    return hear
