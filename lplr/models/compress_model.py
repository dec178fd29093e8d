"""One call from a checkpoint to a smaller network that still predicts."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from typing import Any

from lplr.cluster import check_client
from lplr.exceptions import BudgetWarning, DampingWarning, StorageError
from lplr.models.costs import Plan
from lplr.models.job import Job
from lplr.models.manifest import read_manifest
from lplr.models.request import request_of
from lplr.models.run import Run
from lplr.parallel import at_most, reproducible
from lplr.progress import Progress, tracked, until
from lplr.storage.output import new_path
from lplr.validation.arguments import check_integer

__all__ = ["compress", "plan"]

_SURVEY = 0.02  # share of the time that is over after this step, about


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
    client: Any = None,
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
    client : dask.distributed.Client, optional
        Of a cluster whose workers code the layers, with the same result: those that have the same
        inputs side by side, with the method ``"quantize"`` all of them.
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
        says, ``out`` exists, another process makes it, ``out.job`` is of another call, or
        ``output_moments`` are of another checkpoint or other tokens.
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

    With output moments a layer is coded under both second moments, ``tr(G E H E^T)``: G of the
    gradients at its outputs, and H of the inputs, each token weighed by the square of its gradient;
    see `output_moments`. Those that are by sequence alone have H of the original network. Of each
    layer ``two_sided_error`` is then recorded, and ``predicted_kl``, which says where in the
    network the divergence of the predictions comes from.

    Examples
    --------
    >>> import lplr
    >>> summary = lplr.models.compress(
    ...     "SmolLM2-135M", "small", bits_per_weight=2, calibration="tokens.npy"
    ... )  # doctest: +SKIP
    """
    check_client(client)
    target = new_path(out)
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
        with until(_SURVEY, "checking the tensors"):
            request.check()
            planned, call = request.plan(), request.call()
        with Job(target, call) as job, warnings.catch_warnings():
            for said in (DampingWarning, BudgetWarning):  # one has been given, for all layers
                warnings.simplefilter("ignore", said)
            _check_disk(job, planned)
            Run(request, job, planned, client).run(call)
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
