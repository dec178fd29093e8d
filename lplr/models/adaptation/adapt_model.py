"""One call from a compressed network to one that predicts more like the original."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

from lplr.exceptions import AdaptationWarning, DampingWarning
from lplr.models.adaptation.request import request_of
from lplr.models.adaptation.run import Run
from lplr.models.adaptation.settings import settings_of
from lplr.models.job import Job
from lplr.models.manifest import read_manifest
from lplr.parallel import at_most, reproducible
from lplr.progress import Progress, tracked
from lplr.storage.output import new_path
from lplr.validation.arguments import check_integer, warn_caller

__all__ = ["adapt"]


def adapt(
    model: str | os.PathLike[str],
    original: str | os.PathLike[str],
    tokens: Any,
    out: str | os.PathLike[str],
    *,
    rank: int | None = 16,
    bits: float = 4,
    preset: str = "default",
    steps: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    loss: str = "kl",
    trained: Sequence[str] = ("factors", "scales", "norms", "biases"),
    held_out: Any = None,
    output_moments: str | os.PathLike[str] | None = None,
    rng: int = 0,
    jobs: int | None = None,
    progress: Progress = False,
) -> dict[str, Any]:
    """Train a low-rank correction of every layer of a compressed network, and store it in few bits.

    A layer of the compressed weight W becomes ``y = s W x + L R x + b``. Trained are L, R and the
    scale s, and the norms and biases that the network has, so that it predicts what the original
    does. Then L and R are quantized, s goes into the scales that W has, and a folder like that of
    `compress` is written.

    Parameters
    ----------
    model : str or path
        A folder that `compress` made, or an earlier call.
    original : str or path
        The network that it was made from: a folder in the form of Hugging Face, or a ``.gguf``
        file.
    tokens : str, path or array_like of int, of shape (sequences, tokens)
        Token ids, or a file of them, see `lplr.models.texts.token_windows`; -1 is padding.
    out : str or path
        The folder to make. Where training is, is kept beside it in ``out.job``: the same call,
        after an interrupt or a kill, goes on from there and ends with the same bytes.
    rank : int or None
        Columns of L of every layer, beside the factors that it has; None trains those factors. With
        ``output_moments`` it is a mean: layers whose errors are felt more get up to four times as
        many, others as few as two, and together they take no more bits.
    bits : int
        Of each entry of L and R in the end.
    preset : {"default", "quick"}
        What ``steps``, ``batch`` and ``rate`` are by default.
    steps : int, optional
        Steps of AdamW, the learning rate rising for the first 5 % and falling as a cosine.
    batch : int, optional
        Sequences in a step.
    rate : float, optional
        The largest learning rate.
    loss : {"kl", "cross-entropy"}
        Divergence of the predictions from those of the original, computed anew in each step; or
        the loss of the next tokens, which adapts to a task: with ``trained=("factors",)`` and
        ``rank=None`` the low-rank adaptation of the CALDERA paper.
    trained : sequence of {"factors", "scales", "norms", "biases"}
    held_out : str, path or array_like of int, optional
        Sequences on which parameters are judged and chosen; by default one of eight of ``tokens``,
        but no more than two batches, or four; they then are not trained on.
    output_moments : str or path, optional
        What `output_moments` has found of the original: where corrections start, how rank is shared
        out among layers, and how L and R are quantized, errors then count as the predictions feel
        them.
    rng : int
        Seed of the order of sequences.
    jobs : int, optional
        Threads to use; by default one for each core, or what ``LPLR_NUM_THREADS`` says. The result
        does not depend on it.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    dict
        The summary, JSON-able, as that of `compress`; its ``settings["adaptations"][-1]`` has the
        loss on held-out sequences before, after training and as stored, what each takes in bits
        per weight, the history, and why training stopped.

    Raises
    ------
    InputError
        If an argument is outside what is offered, the networks do not belong together or predict
        no tokens, ``out`` exists, another process makes it, or ``out.job`` is of another call.
    StorageError
        If there is no space; what is finished stays.

    Warns
    -----
    AdaptationWarning
        If training stopped early, because the loss on held-out sequences rose or the loss
        diverged; or if nothing was better than the model as it was, which then is written.

    Notes
    -----
    Saha, Sagan, Srivastava, Goldsmith, Pilanci, NeurIPS 2024, train the factors of compressed
    layers on a task. Here they are trained, with the few other parameters, to undo what compression
    has changed; the original's distributions are never stored. A new correction starts at the
    error of its layer, under the second moment of its inputs (their Lemma 4.2). With G, the second
    moment of the gradients at the outputs, a component of ``G^(1/2) E H^(1/2)`` of singular value s
    is felt as ``s^2 / 2`` nats a token, in every layer; those with most for each bit are taken.

    Examples
    --------
    >>> import lplr
    >>> summary = lplr.models.adapt(
    ...     "small", "SmolLM2-135M", "tokens.npy", "adapted"
    ... )  # doctest: +SKIP
    """
    threads = None if jobs is None else check_integer(jobs, "jobs", 1)
    target = new_path(out)
    with tracked(progress, "reading"), reproducible(), at_most(threads):
        given = {"steps": steps, "batch": batch, "rate": rate}
        settings = settings_of(preset, rank, bits, loss, trained, rng, given)
        request = request_of(model, original, tokens, held_out, output_moments, settings)
        with Job(target, request.call()) as job, warnings.catch_warnings():
            warnings.simplefilter("ignore", DampingWarning)
            said = Run(request, job).run()
    if said:
        warn_caller(said, AdaptationWarning)
    return read_manifest(target)
