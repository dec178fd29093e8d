"""What was measured of a network, as JSON holds it: to print, to draw and to compare with later."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.memory import parse_json
from lplr.models.evaluation.choices import Answers
from lplr.models.evaluation.encoders import EncoderScores
from lplr.models.evaluation.estimate import Estimate, mean_of
from lplr.models.evaluation.scores import Scores
from lplr.models.evaluation.sensitivity import Sensitivity
from lplr.models.network import Network
from lplr.models.texts import fingerprint, read_text

__all__ = ["as_parts", "as_result", "describe", "read_document"]

_KINDS = {Scores: "predictions", Answers: "choices", EncoderScores: "embeddings"}
_FORMAT = "lplr model evaluate 1"


def as_result(
    source: str,
    found: Scores | Answers | EncoderScores,
    original: Answers | None = None,
    *,
    ids: np.ndarray | None = None,
) -> dict[str, Any]:
    """One measurement: its numbers by name, and how they were measured.

    Parameters
    ----------
    source : str
        What it was measured on.
    found : Scores, Answers or EncoderScores
    original : Answers, optional
        Those of the original network to the same questions.
    ids : ndarray of shape (windows, tokens), int32, optional
        The tokens, where it was measured on some.

    Returns
    -------
    dict
        ``kind``, ``source``, ``protocol``; ``tokens``, by which equal ones are known, where there
        are any; and ``numbers``, by name ``value`` and ``standard_error``.

    Examples
    --------
    >>> from lplr.models.evaluation.document import as_result
    >>> from lplr.models.evaluation.estimate import Estimate
    >>> from lplr.models.evaluation.scores import Scores
    >>> as_result("a.txt", Scores(Estimate(20.0, 1.0), 3, 10, 27))["numbers"]
    {'perplexity': {'value': 20.0, 'standard_error': 1.0}}
    """
    numbers = found.numbers
    if isinstance(found, Answers) and original is not None:
        for i, name in enumerate(("by_sum", "by_length")):
            numbers[f"original_{name}"] = getattr(original, name)
            numbers[f"change_{name}"] = mean_of(found.right[i].astype(float) - original.right[i])
    said = {name: _said(number) for name, number in numbers.items()}
    tokens = {} if ids is None else {"tokens": fingerprint(ids)}
    about = {"kind": _KINDS[type(found)], "source": source, **tokens}
    return {**about, "numbers": said, "protocol": found.protocol}


def as_parts(source: str, found: Sensitivity) -> dict[str, Any]:
    """What each part of a network does alone.

    Parameters
    ----------
    source : str
        What it was measured on.
    found : Sensitivity

    Returns
    -------
    dict
        ``source``, ``protocol``, ``errors``; and with ``value`` and ``standard_error`` each
        ``whole``, ``outside``, ``blocks`` in a list, and ``kinds`` by name.

    Examples
    --------
    >>> from lplr.models.evaluation.document import as_parts
    >>> from lplr.models.evaluation.estimate import Estimate
    >>> from lplr.models.evaluation.sensitivity import Sensitivity
    >>> some = Estimate(0.2, 0.01)
    >>> as_parts("a.txt", Sensitivity(some, some, (some,), {}, (0.1,), 2, 9, 16))["blocks"]
    [{'value': 0.2, 'standard_error': 0.01}]
    """
    return {
        "source": source,
        "protocol": found.protocol,
        "errors": list(found.errors),
        "whole": _said(found.whole),
        "outside": _said(found.outside),
        "blocks": [_said(each) for each in found.blocks],
        "kinds": {name: _said(each) for name, each in found.kinds.items()},
    }


def _said(number: Estimate) -> dict[str, float]:
    return {"value": number.value, "standard_error": number.standard_error}


def describe(
    model: str | os.PathLike[str],
    network: Network,
    original: str | os.PathLike[str] | None,
    results: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A network with what was measured of it.

    Parameters
    ----------
    model : str or path-like
        Where the network was opened.
    network : Network
        From `lplr.models.open_network`.
    original : str or path-like, optional
        Where the one was that it was compared with.
    results : sequence of mapping
        From `as_result`.
    parts : mapping, optional
        From `as_parts`.

    Returns
    -------
    dict
        ``model``, ``original``, ``network``, ``method`` (None of what is not compressed),
        ``totals`` (weights, bytes and bits per weight of the linear layers and of the whole),
        ``settings``, ``layers``, ``results``, and ``sensitivity`` where it was measured.
    """
    tensors: Any = network.tensors
    manifest = getattr(tensors, "manifest", {})
    settings = manifest.get("settings", {})
    return {
        "format": _FORMAT,
        "model": os.fspath(model),
        "original": None if original is None else os.fspath(original),
        "network": {
            "model_type": tensors.config.get("model_type"),
            "blocks": network.family.n_blocks,
            "width": network.family.width,
            "vocabulary": network.family.vocabulary,
        },
        "method": settings.get("method"),
        "totals": manifest.get("totals") or _totals(network),
        "settings": settings,
        "layers": manifest.get("layers", []),
        "results": list(results),
        **({} if parts is None else {"sensitivity": parts}),
    }


def _totals(network: Network) -> dict[str, Any]:
    """What a checkpoint takes."""
    tensors: Any = network.tensors
    infos = {name: tensors.info(name) for name in network.family.tensors()}
    blocks = range(network.family.n_blocks)
    layers = {f"{name}.weight" for i in blocks for name in network.family.linears(i)}
    return {
        "layers": _total([info for name, info in infos.items() if name in layers]),
        "whole": _total(list(infos.values())),
    }


def _total(infos: Sequence[Any]) -> dict[str, Any]:
    weights = sum(math.prod(info.shape) for info in infos)
    nbytes = sum(info.nbytes for info in infos)
    return {"weights": weights, "nbytes": nbytes, "bits_per_weight": 8 * nbytes / weights}


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `describe` gave, from a file of its JSON.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.

    Examples
    --------
    >>> from lplr.models.evaluation.document import read_document
    >>> read_document("/no/such/file")
    Traceback (most recent call last):
        ...
    lplr.exceptions.MissingFileError: /no/such/file: no such file; check the name
    """
    try:
        found = parse_json(read_text(path).encode())
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{os.fspath(path)}: is no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise InputError(
            f"{os.fspath(path)}: is nothing that lplr model evaluate --json prints; name what is"
        )
    try:
        for result in found["results"]:
            for number in result["numbers"].values():
                float(number["value"]), number["standard_error"], result["kind"], result["source"]
        if "sensitivity" in found:
            sum(map(float, found["sensitivity"]["errors"])), found["sensitivity"]["source"]
        float(found["totals"]["layers"]["bits_per_weight"]), found["model"], found["method"]
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{os.fspath(path)}: is not complete ({error!r}); print it again"
        ) from None
    return found
