"""Bits per weight of each layer, moved only where predictions get better by it on other texts."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import BudgetWarning, CorruptFileError, DampingWarning, InputError
from lplr.models.candidates import Allocation, Candidate
from lplr.models.comparison import Comparison, Work
from lplr.models.families import Family
from lplr.models.request import Request, request_of
from lplr.models.texts import fingerprint, token_windows
from lplr.parallel import at_most, reproducible
from lplr.progress import Progress, tracked, until
from lplr.storage.atomic import write_atomic
from lplr.storage.output import new_path
from lplr.storage.text import from_json
from lplr.validation.arguments import check_flag, check_integer, check_real

__all__ = ["allocate", "allocation_seconds"]

_TOKENS = 1 << 14  # with which layers are coded for a comparison
_WINDOWS = 24  # sequences on which networks are compared
_FEWEST = 8  # sequences of a calibration set that can be divided


def allocate(
    checkpoint: Any,
    out: str | os.PathLike[str],
    *,
    bits_per_weight: float,
    calibration: Any,
    held_out: Any = None,
    prefix: bool = True,
    output_moments: bool = False,
    effort: str = "fast",
    rng: int = 0,
    jobs: int | None = None,
    progress: Progress = False,
) -> Allocation:
    """Find how bits should be divided among the layers of a network, and verify it.

    Parameters
    ----------
    checkpoint : str, path or Checkpoint
        As in `lplr.models.compress`, for which this finds ``bits_per_weight``.
    out : str or path
        A file to make, JSON. If it is there, made by the same call, it is only read. What is
        finished is kept beside it in ``out.job``, and the same call goes on from there.
    bits_per_weight : float
        Of all linear layers together.
    calibration : str, path or array_like of int, of shape (sequences, tokens)
        As in `lplr.models.compress`. Some 16,000 tokens of it are enough here.
    held_out : str, path or array_like of int, of shape (sequences, tokens), optional
        What candidates are compared on: best another kind of text. By default up to 24 sequences
        of the calibration set, which are not coded for.
    prefix : bool
        As in `lplr.models.compress`, for the candidates.
    output_moments : bool
        Whether errors are weighed by output moments, which are formed of the tokens that
        candidates are coded for.
    effort : {"fast", "default", "best"}
        As in `lplr.models.compress`, for the candidates.
    rng : int
        Seed of every layer, and of the choice of sequences.
    jobs, progress
        As in `lplr.models.compress`.

    Returns
    -------
    Allocation
        Its ``bits_per_weight`` is for `lplr.models.compress`: the number that was given, unless a
        candidate has a smaller divergence by more than twice the standard error of the difference.

    Raises
    ------
    InputError
        As `lplr.models.compress`; if there are too few sequences; if the network is an encoder,
        which predicts no tokens; or if ``out`` is of another call.

    Notes
    -----
    The standard error is over sequences, on which candidates are compared in pairs. That a network
    coded with another seed differs a little as well is not in it. It takes about as long as to
    compress the network: three times, or with output moments four times, it is coded quickly for a
    tenth of the tokens.

    Examples
    --------
    >>> import lplr
    >>> found = lplr.models.allocate(
    ...     "SmolLM2-135M", "bits.json", bits_per_weight=2, calibration="tokens.npy"
    ... )  # doctest: +SKIP
    >>> summary = lplr.models.compress(
    ...     "SmolLM2-135M", "small", bits_per_weight=found.bits_per_weight,
    ...     calibration="tokens.npy"
    ... )  # doctest: +SKIP
    """
    with tracked(progress, "reading"), reproducible(), at_most(_threads(jobs)):
        comparison = _comparison(
            checkpoint, bits_per_weight, calibration, held_out, prefix, output_moments, effort, rng
        )
        request = comparison.request
        call = {**request.call(), "held_out": fingerprint(comparison.judged)}
        if os.path.isfile(out):
            return _read(Path(out), call)
        path = new_path(out)
        with until(0.02, "checking the tensors"):
            request.check()
        with Work(path, call) as work, warnings.catch_warnings():
            for said in (DampingWarning, BudgetWarning):  # few tokens are enough here
                warnings.simplefilter("ignore", said)
            found = comparison.run(work)
            text = json.dumps({"call": call, "allocation": found.describe()}, indent=1)
            write_atomic(path, [text.encode()])
            work.discard()
    return found


def allocation_seconds(
    checkpoint: Any,
    *,
    bits_per_weight: float,
    calibration: Any = None,
    held_out: Any = None,
    prefix: bool = True,
    output_moments: bool = False,
    effort: str = "fast",
    jobs: int | None = None,
) -> float:
    """About how long `allocate` takes on this machine.

    Parameters
    ----------
    checkpoint : str, path, Checkpoint or mapping
        As in `lplr.models.plan`; a configuration alone is enough.
    bits_per_weight : float
        As in `allocate`.
    calibration : str, path, array_like of int, or pair of int, optional
        As in `lplr.models.plan`.
    held_out, prefix, output_moments, effort, jobs
        As in `allocate`.

    Returns
    -------
    float

    Raises
    ------
    InputError
        As `allocate`.

    Examples
    --------
    >>> from lplr.models.allocation import allocation_seconds
    >>> config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2,
    ...           "n_positions": 512, "vocab_size": 50}
    >>> allocation_seconds(config, bits_per_weight=2) > 0
    True
    """
    with reproducible(), at_most(_threads(jobs)):
        asked = bits_per_weight, calibration, held_out, prefix, output_moments, effort, 0
        return sum(_comparison(checkpoint, *asked, dry=True).seconds())


def _threads(jobs: Any) -> int | None:
    return None if jobs is None else check_integer(jobs, "jobs", 1)


def _comparison(
    checkpoint: Any,
    bits: Any,
    calibration: Any,
    held_out: Any,
    prefix: Any,
    moments: Any,
    effort: Any,
    seed: Any,
    dry: bool = False,
) -> Comparison:
    """What is asked for, with few of the tokens."""
    bits, moments = check_real(bits, "bits_per_weight"), check_flag(moments, "output_moments")

    def request(calibration: Any) -> Request:
        given = bits, seed, prefix, None, moments, {"effort": effort}, dry
        return request_of(checkpoint, calibration, "compress", *given)

    whole = request(calibration)
    _check_predicts(whole.family)
    ids = np.zeros(whole.tokens, np.int32) if whole.ids is None else whole.ids
    if held_out is not None:
        judged = token_windows(held_out, vocabulary=whole.family.vocabulary)
        if len(judged) < 2:
            raise InputError("held_out: is one sequence; differences need at least 2")
    elif len(ids) < _FEWEST:
        raise InputError(
            f"calibration: has {len(ids)} sequences, and at least {_FEWEST} are needed to code for "
            "some and compare on others; give more, or held_out"
        )
    # The whole range of lengths and of places, without an order that a file may have.
    mixed = ids[np.random.default_rng(whole.method.seed).permutation(len(ids))]
    few = min(-(-_TOKENS // ids.shape[1]), len(ids) if held_out is not None else len(ids) // 2)
    if held_out is None:
        judged = mixed[few : few + _WINDOWS]
    return Comparison(request((few, ids.shape[1]) if whole.ids is None else mixed[:few]), judged)


def _check_predicts(family: Family) -> None:
    if not family.causal:
        raise InputError(
            "checkpoint: is an encoder, which predicts no tokens, so that allocations cannot be "
            "compared; use equal bits"
        )


def _read(path: Path, call: dict[str, Any]) -> Allocation:
    """What the same call has found."""
    found = from_json(path.read_bytes(), str(path))
    if found.get("call") != json.loads(json.dumps(call)):
        raise InputError(f"out: {path} exists, and is not of this call; name another, or delete it")
    try:
        said = found["allocation"]
        candidates = tuple(
            Candidate(each["name"], each["bits_per_weight"], tuple(each["kl_of_sequences"]))
            for each in said["candidates"]
        )
        return Allocation(candidates, said["kinds"], tuple(said["blocks"]), tuple(said["tokens"]))
    except (KeyError, TypeError) as error:
        raise CorruptFileError(f"{path}: does not hold an allocation; delete it") from error
