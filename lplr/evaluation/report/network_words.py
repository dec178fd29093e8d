"""The words of a network's page: what its numbers are called, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

from lplr.evaluation.metrics import number
from lplr.evaluation.report.page import escape, typeset

__all__ = ["HEADS", "in_words", "terms"]

# Of each kind of measurement, its numbers in the order in which they are shown.
HEADS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "predictions": {
            "kl": "KL, nats",
            "perplexity": "perplexity",
            "original_perplexity": "perplexity of original",
            "agreement": "same likeliest token",
        },
        "choices": {
            "by_sum": "accuracy by sum",
            "original_by_sum": "original",
            "change_by_sum": "change",
            "by_length": "by length",
            "original_by_length": "original",
            "change_by_length": "change",
        },
        "embeddings": {
            "cosine": "cosine to original",
            "recall": "neighbours kept",
            "accuracy": "kNN accuracy",
            "original_accuracy": "original",
            "change": "change",
        },
    }
)
_SHARES = ("agreement", "by_sum", "by_length", "recall", "accuracy")
# What is explained of each kind of measurement, and on every page.
_MEASURED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "predictions": {
            "KL": "The mean Kullback-Leibler divergence, sum_v p(v) log(p(v) / q(v)) in nats, p "
            "the original's distribution of the next token and q this network's. 0 says that they "
            "are equal.",
            "perplexity": "exp of the mean of -log p(token), over tokens of a text: as uncertain "
            "as a choice among so many tokens that are equally likely. Less is better.",
            "same likeliest token": "How often both networks find the same next token likeliest.",
        },
        "choices": {
            "accuracy by sum, by length": "Multiple choice: the network chooses the continuation "
            "with the greatest log-likelihood, as it is or divided by its number of characters.",
        },
        "embeddings": {
            "cosine to original": "The mean cosine of the two embeddings of a text, the "
            "original's and this network's. 1 says that they point the same way.",
            "neighbours kept": "Of the 10 texts nearest to a query by the original's embeddings, "
            "the share that is among the 10 nearest by this network's.",
            "kNN accuracy": "How often the label of a query is that of most of its 11 nearest "
            "texts; original: by the original's embeddings.",
        },
    }
)
_OF_LAYERS = {
    "two_sided_error": (
        "two-sided error",
        "As the error, and weighed by what the predictions feel of it: sqrt(tr(G E H E^T) / "
        "tr(G W H W^T)), E = W - V, and G the mean of g g^T over gradients g of the loss at the "
        "outputs of the layer, for labels drawn from the original's own predictions.",
    ),
    "predicted_kl": (
        "predicted KL",
        "What the layer adds to the KL while errors are small: 1/2 tr(G E H E^T), in nats.",
    ),
}
_ALWAYS = {
    "bits per weight": "Everything that decoding needs, codes, scales, codebooks and seeds, in "
    "bits, over the number of weights: of the linear layers, or of the whole network.",
    "error": "Of a layer's outputs: sqrt(tr((W - V) H (W - V)^T) / tr(W H W^T)), V what is stored "
    "of W, and H the mean of x x^T over the inputs x of the layer; without calibration, the "
    "identity.",
    "standard error": "How far a measured mean is likely to be from the true one: within twice "
    "this in 95 % of cases.",
}


def in_words(name: str, found: Mapping[str, Any] | None) -> str:
    """A number with its standard error; shares in per cent.

    Parameters
    ----------
    name : str
        One of `HEADS`.
    found : mapping, optional
        ``value`` and ``standard_error``, either of which may be None.

    Examples
    --------
    >>> from lplr.evaluation.report.network_words import in_words
    >>> in_words("kl", {"value": 0.6213, "standard_error": 0.0104})
    '0.6213 ± 0.0104'
    >>> in_words("agreement", {"value": 0.6213, "standard_error": None})
    '62.1 %'
    """
    if found is None or found["value"] is None:
        return "–"
    value, error = found["value"], found["standard_error"]
    if error is None or not math.isfinite(error):
        error = 0.0
    share = name.removeprefix("original_").removeprefix("change_")
    if share in _SHARES or name == "change":
        sign = "+" if name.startswith("change") else ""
        told = f" ± {100 * error:.1f}" if error else ""
        return f"{100 * value:{sign}.1f}{told} %".replace("-", "−")
    return number(value, error)


def terms(kinds: Container[str], known: Container[str] = ()) -> str:
    """What the words mean, on a page of these kinds of measurements, with these columns."""
    found = {
        name: text for kind in HEADS if kind in kinds for name, text in _MEASURED[kind].items()
    }
    found |= {name: text for key, (name, text) in _OF_LAYERS.items() if key in known}
    said = "".join(
        f"<dt>{escape(name)}</dt><dd>{typeset(text)}</dd>"
        for name, text in {**found, **_ALWAYS}.items()
    )
    return f'<dl class="terms">{said}</dl>'
