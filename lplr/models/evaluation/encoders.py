"""What compression did to an encoder: its embeddings, and the neighbours among them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.evaluation.estimate import Estimate, Measured, mean_of
from lplr.models.evaluation.forward import batches, hidden_states
from lplr.models.evaluation.lines import lines_of, of_json
from lplr.models.network import Network, check_network
from lplr.models.opening import open_network
from lplr.models.texts import PADDING, Tokenizer, padded_texts
from lplr.models.tokenizer import open_tokenizer
from lplr.neighbours.search import Neighbours, search
from lplr.neighbours.vote import class_shares
from lplr.progress import Progress, counter, tracked, until

__all__ = ["EncoderScores", "compare_encoders", "embed_texts", "read_labelled", "score_encoder"]

_TRAIN = 0.8  # of the texts are the database, the others ask
_RECALL, _VOTERS = 10, 11


@dataclass(frozen=True)
class EncoderScores(Measured):
    """What embeddings of texts are worth; the first 80 % of them are the database, the rest ask.

    Parameters
    ----------
    texts, queries, cut : int
        All texts, those that ask, and those that were cut to what the network takes.
    accuracy : Estimate, optional
        Share of the queries whose label is that of most of their 11 nearest texts by the cosine,
        both embedded by this network; where there are labels.
    original_accuracy : Estimate, optional
        The same by the original network.
    change : Estimate, optional
        ``accuracy - original_accuracy``; both answered the same queries, and so its standard error
        is that of the paired differences.
    cosine : Estimate, optional
        Mean cosine of the two embeddings of a text.
    recall : Estimate, optional
        Of the 10 texts nearest to a query by the original's embeddings, the share that is among
        the 10 nearest by this network's.

    Examples
    --------
    >>> from lplr.models.evaluation.encoders import EncoderScores
    >>> EncoderScores(100, 20).protocol[:40]
    'texts 81 to 100 look for their neighbour'
    """

    texts: int
    queries: int
    cut: int = 0
    accuracy: Estimate | None = None
    original_accuracy: Estimate | None = None
    change: Estimate | None = None
    cosine: Estimate | None = None
    recall: Estimate | None = None

    @property
    def protocol(self) -> str:
        """How the numbers were measured, in a line."""
        first = self.texts - self.queries
        cut = f", {self.cut} of which were cut to what the network takes" if self.cut else ""
        return (
            f"texts {first + 1} to {self.texts} look for their neighbours by the cosine among "
            f"texts 1 to {first}{cut}; queries and neighbours are embedded by the same network; "
            "± is the standard error over queries, of the cosine over all texts"
        )


def read_labelled(path: str | os.PathLike[str]) -> tuple[list[str], list[str] | None]:
    """Texts, and their labels where a file has them.

    Parameters
    ----------
    path : str or path-like
        A ``.jsonl`` file with an object ``{"text": ..., "label": ...}`` in each line, or any other
        with one text in each line and, after a tab, its label. Either all texts have labels or
        none has. Empty lines are skipped.

    Returns
    -------
    texts : list of str
    labels : list of str or None

    Raises
    ------
    InputError
        If the file cannot be read or a line is none of these; the message has its number.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.models.evaluation.encoders import read_labelled
    >>> path = os.path.join(tempfile.mkdtemp(), "a.tsv")
    >>> with open(path, "w") as file:
    ...     _ = file.write("a cat\\tanimals\\na rose\\tplants\\n")
    >>> read_labelled(path)
    (['a cat', 'a rose'], ['animals', 'plants'])
    """
    parse = _of_json if Path(path).suffix.lower() == ".jsonl" else _of_line
    found = [(where, *parse(where, line)) for where, line in lines_of(path)]
    without = [where for where, _, label in found if label is None]
    if not without:
        return [text for _, text, _ in found], [str(label) for _, _, label in found]
    if len(without) < len(found):
        raise InputError(f"{without[0]} has no label, and others have; label all or none")
    return [text for _, text, _ in found], None


def _of_line(where: str, line: str) -> tuple[str, str | None]:
    text, tab, label = line.partition("\t")
    if not text.strip() or (tab and (not label.strip() or "\t" in label)):
        raise InputError(f"{where}: must be a text, or a text, one tab and its label")
    return text, label.strip() or None


def _of_json(where: str, line: str) -> tuple[str, str | None]:
    found = of_json(where, line)
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: must be an object with a text, found {line[:40]!r}")
    label = found.get("label")
    if label is not None and not isinstance(label, (str, int)):
        raise InputError(f"{where}: label must be a text or a whole number, found {label!r}")
    return text, None if label is None else str(label)


def embed_texts(
    model: str | os.PathLike[str] | Network,
    texts: Sequence[str],
    *,
    tokenizer: Tokenizer | None = None,
    progress: Progress = False,
) -> np.ndarray:
    """Embeddings of texts by an encoder, compressed or not.

    Parameters
    ----------
    model : str, path or Network
        The name of a model, see `lplr.models.open_network`, or an encoder that is open.
    texts : sequence of str
        Longer ones are cut to what the network takes.
    tokenizer : Tokenizer, optional
        By default the one of the model.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    ndarray of shape (texts, width), float32
        Pooled and, if the model's configuration says so, of length one.

    Raises
    ------
    InputError
        If the network predicts tokens, there is no text, or the tokenizer gives tokens that the
        network does not know; as `open_network` too.
    MissingPackageError
        If the model's tokenizer is needed and the package ``tokenizers`` is not installed.

    Examples
    --------
    >>> import lplr
    >>> lplr.models.embed_texts("all-MiniLM-L6-v2", ["a cat", "a rose"]).shape  # doctest: +SKIP
    (2, 384)
    """
    network = model if isinstance(model, Network) else open_network(model)
    if network.family.causal:
        raise InputError("model: predicts tokens and is no encoder; only encoders embed texts")
    tensors: Any = network.tensors
    reader: Any = tokenizer or open_tokenizer(tensors)
    with tracked(progress, "embeddings"):
        return _embeddings(network, _encoded(network, reader, texts)[0])


def _encoded(
    network: Network, tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[np.ndarray, int]:
    """Padded token ids, and how many texts were cut."""
    check_network(network)
    family = network.family
    return padded_texts(texts, tokenizer, length=family.longest_text, vocabulary=family.vocabulary)


def _embeddings(network: Network, ids: np.ndarray) -> np.ndarray:
    """Of each sequence, a row."""
    if network.family.causal:
        raise InputError("network: predicts tokens and is no encoder; compare its predictions")
    out = np.empty((len(ids), network.family.width), np.float32)
    groups = batches(ids, network.family.width)
    passed = sum(batch.ids.size for group in groups for batch in group)
    count = counter(passed * network.family.n_blocks)
    for group in groups:
        for batch, h in zip(group, hidden_states(network, group, count), strict=True):
            out[batch.rows] = network.family.pool(h, batch.ids != PADDING)
    return out


def compare_encoders(
    original: Network,
    compressed: Network,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    progress: Progress = False,
) -> EncoderScores:
    """How far the embeddings of a network are from those of the original.

    Parameters
    ----------
    original, compressed : Network
        Encoders.
    tokenizer : Tokenizer
        Of both.
    texts : sequence of str
        In an order that does not depend on the labels; at least 50.
    labels : sequence of str, optional
        Of each text, at least two different ones.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    EncoderScores

    Raises
    ------
    InputError
        If there are too few texts, one label only or not one for each text, or a network is no
        encoder or does not fit the tokenizer.

    Examples
    --------
    >>> import lplr
    >>> found = lplr.models.compare_encoders(a, b, tokenizer, texts)  # doctest: +SKIP
    """
    return _scores([original, compressed], tokenizer, texts, labels, progress)


def score_encoder(
    network: Network,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    progress: Progress = False,
) -> EncoderScores:
    """Accuracy of the nearest neighbours that a network finds.

    Parameters
    ----------
    network : Network
        An encoder.
    tokenizer, texts, labels, progress
        As in `compare_encoders`.

    Returns
    -------
    EncoderScores
        Without what needs an original.

    Raises
    ------
    InputError
        As `compare_encoders`.

    Examples
    --------
    >>> import lplr
    >>> lplr.models.score_encoder(network, tokenizer, texts, labels).accuracy  # doctest: +SKIP
    """
    return _scores([network], tokenizer, texts, labels, progress)


def _scores(
    networks: list[Network],
    tokenizer: Tokenizer,
    texts: Sequence[str],
    labels: Sequence[str] | None,
    progress: Progress,
) -> EncoderScores:
    """Of the last network, with the first as the original where there are two."""
    first = int(_TRAIN * len(texts))
    if first < 4 * _RECALL:
        raise InputError(f"texts: there are {len(texts)}; give at least {5 * _RECALL}")
    if labels is not None and len(labels) != len(texts):
        raise InputError(f"labels: there are {len(labels)} for {len(texts)} texts; give one each")
    if labels is not None and len(set(labels)) < 2:
        raise InputError(f"labels: all are {labels[0]!r}; classification needs two classes")
    ids, cut = _encoded(networks[0], tokenizer, texts)
    embedded, found = [], []
    with tracked(progress, "embeddings"):
        for i, network in enumerate(networks, 1):
            with until(0.98 * i / len(networks)):
                embedded.append(_embeddings(network, ids))
        for x in embedded:
            found.append(search(x[:first], x[first:], _VOTERS, metric="cosine"))
    scores = EncoderScores(len(texts), len(texts) - first, cut)
    if labels is not None:
        right = [_rightly_voted(nearest, labels) for nearest in found]
        scores = replace(scores, accuracy=mean_of(right[-1]))
    if len(networks) == 1:
        return scores
    if labels is not None:
        change = mean_of(right[1].astype(float) - right[0])
        scores = replace(scores, original_accuracy=mean_of(right[0]), change=change)
    original, nearest = (each.first(_RECALL) for each in found)
    recall = mean_of([len(np.intersect1d(*pair)) / _RECALL
                      for pair in zip(nearest.indices, original.indices, strict=True)])  # fmt: skip
    return replace(scores, recall=recall, cosine=mean_of(_cosines(*embedded)))


def _rightly_voted(nearest: Neighbours, labels: Sequence[str]) -> np.ndarray:
    """Whether most neighbours of each query have its label; of equally frequent ones, the first."""
    classes, codes = np.unique(labels, return_inverse=True)
    database = len(labels) - len(nearest.indices)
    shares = class_shares(codes[nearest.indices], len(classes))
    return shares.argmax(axis=1) == codes[database:]


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the rows of two matrices."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("ij,ij->i", a, b) / np.maximum(lengths, np.finfo(float).tiny)
