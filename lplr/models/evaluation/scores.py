"""How well a network predicts the next token, and how far it is from the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.evaluation.estimate import Estimate, Measured, ratio_of
from lplr.models.evaluation.forward import batches, hidden_states
from lplr.models.network import Network, check_network
from lplr.models.texts import PADDING, token_windows
from lplr.parallel import run_blocks
from lplr.progress import Progress, counter, tracked

__all__ = [
    "Scores",
    "check_comparable",
    "compare",
    "divergences",
    "mean_kl",
    "score",
    "token_losses",
]

_LOGITS = 1 << 26  # bytes of the logits of one network in one thread
_TILE = 1 << 19  # entries whose exponentials are kept: they stay in the second-level cache
_HEAD = 8.0  # work of a token in the head, in units of a block's


@dataclass(frozen=True)
class Scores(Measured):
    """How a network predicts the next token in windows of a text.

    Parameters
    ----------
    perplexity : Estimate
        ``exp(mean loss)``, the loss being ``-log p(token | tokens before it in the window)``.
    windows, length, tokens : int
        Windows, tokens of the longest, and tokens that were predicted: all but the first of each.
    original_perplexity : Estimate, optional
        That of the original network.
    kl : Estimate, optional
        Mean of ``sum_v p(v) log(p(v) / q(v))`` in nats, p the original's distribution of a token
        and q the network's, over the same tokens.
    agreement : Estimate, optional
        Share of these tokens for which both networks find the same token likeliest.

    Notes
    -----
    Standard errors are over windows, since the tokens of one window depend on each other; see
    `lplr.models.evaluation.estimate.ratio_of`.

    Examples
    --------
    >>> from lplr.models.evaluation.estimate import Estimate
    >>> from lplr.models.evaluation.scores import Scores
    >>> Scores(Estimate(20.2, 1.3), windows=24, length=512, tokens=12264).protocol
    '24 windows of 512 tokens, nothing put before them; each predicts its tokens 2 to 512, 12264 \
in all; ± is the standard error over windows'
    """

    perplexity: Estimate
    windows: int
    length: int
    tokens: int
    original_perplexity: Estimate | None = None
    kl: Estimate | None = None
    agreement: Estimate | None = None

    @property
    def protocol(self) -> str:
        """How the numbers were measured, in a line."""
        full = self.windows * (self.length - 1) == self.tokens
        return (
            f"{self.windows} windows of {'' if full else 'up to '}{self.length} tokens, nothing "
            f"put before them; each predicts its tokens 2 to {self.length}, {self.tokens} in all; "
            "± is the standard error over windows"
        )


def compare(
    original: Network, compressed: Network, ids: Any, *, progress: Progress = False
) -> Scores:
    """Perplexity of both networks, and how far the second is from the first.

    Parameters
    ----------
    original, compressed : Network
        Both predict the next token, from the same vocabulary.
    ids : str, path or array_like of int, of shape (windows, tokens)
        Token ids, or a file of them, see `token_windows`; -1 after the last token of a shorter
        window.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        If ids are none of the vocabulary or no sequences, a network is none or does not predict
        tokens, the vocabularies differ, or logits are not finite.

    Notes
    -----
    The weights of one block at a time are read, and a few hundred rows of logits at a time are
    computed, for both networks anew. Results have the same bits on any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.scores import compare
    >>> from lplr.models.families.llama import Llama
    >>> from lplr.models.network import Network
    >>> family = Llama({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8,
    ...     "vocab_size": 10, "intermediate_size": 8, "num_attention_heads": 2})
    >>> rng = np.random.default_rng(0)
    >>> tensors = {name: rng.standard_normal(shape, np.float32)
    ...     for name, shape in family.tensors().items()}
    >>> network = Network(family, tensors)
    >>> found = compare(network, network, rng.integers(0, 10, (3, 6)))
    >>> found.kl.value, found.agreement.value, found.tokens
    (0.0, 1.0, 15)
    >>> print(found)  # doctest: +ELLIPSIS
    perplexity           ...
    kl                   0
    agreement            1
    3 windows of 6 tokens, nothing put before them; each predicts its tokens 2 to 6, 15 in all; \
± is the standard error over windows
    """
    check_comparable(original, compressed)
    return _scores([original, compressed], ids, progress)


def check_comparable(original: Any, compressed: Any) -> None:
    """InputError if these are not two networks that predict the tokens of one vocabulary."""
    for name, network in (("original", original), ("compressed", compressed)):
        _check_causal(name, check_network(network, name))
    sizes = original.family.vocabulary, compressed.family.vocabulary
    if sizes[0] != sizes[1]:
        raise InputError(
            f"compressed: has a vocabulary of {sizes[1]} tokens, the original one of {sizes[0]}; "
            "compare networks of one tokenizer"
        )


def _check_causal(name: str, network: Network) -> None:
    if not network.family.causal:
        raise InputError(f"{name}: is an encoder, which predicts no tokens; compare embeddings")


def score(network: Network, ids: Any, *, progress: Progress = False) -> Scores:
    """Perplexity of a network.

    Parameters
    ----------
    network, ids, progress
        As in `compare`.

    Returns
    -------
    Scores
        Without what needs an original.

    Raises
    ------
    InputError
        As `compare`.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.scores import score
    >>> from lplr.models.families.llama import Llama
    >>> from lplr.models.network import Network
    >>> family = Llama({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8,
    ...     "vocab_size": 10, "intermediate_size": 8, "num_attention_heads": 2})
    >>> tensors = {name: np.zeros(shape, np.float32) for name, shape in family.tensors().items()}
    >>> round(score(Network(family, tensors), [[1, 2, 3], [3, 2, 1]]).perplexity.value, 6)
    10.0
    """
    return _scores([check_network(network)], ids, progress)


def _scores(networks: list[Network], ids: Any, progress: Progress) -> Scores:
    """Of the last network, with the first as the original where there are two."""
    ids = token_windows(ids, vocabulary=networks[0].family.vocabulary)
    asked = ids[:, 1:] != PADDING
    with tracked(progress, "evaluation"):
        found = token_losses(networks, ids, asked)
    counts = asked.sum(axis=1)
    window = np.nonzero(asked)[0]

    def estimate(values: np.ndarray) -> Estimate:
        return ratio_of(np.bincount(window, values, minlength=len(ids)), counts)

    losses = [estimate(loss).exp() for loss in found[: len(networks)]]
    about = len(ids), ids.shape[1], int(counts.sum())
    if len(networks) == 1:
        return Scores(losses[0], *about)
    return Scores(losses[1], *about, losses[0], estimate(found[2]), estimate(found[3]))


def token_losses(networks: list[Network], ids: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Losses of tokens by one network; by two, and how far their predictions are apart.

    Parameters
    ----------
    networks : list of Network
        One, or the original and another one.
    ids : ndarray of shape (n, t), int
        As `lplr.models.texts.check_ids` returns them.
    asked : ndarray of shape (n, t - 1), bool
        Which of the tokens ``ids[:, 1:]`` are predicted.

    Returns
    -------
    ndarray of shape (1, tokens) or (4, tokens), float64
        The loss of each network; of two, also the Kullback-Leibler divergence in nats and whether
        the likeliest tokens agree.

    Raises
    ------
    InputError
        If a network does not predict tokens, or logits are not finite.
    """
    names = ["network"] if len(networks) == 1 else ["original", "compressed"]
    for name, network in zip(names, networks, strict=True):
        _check_causal(name, network)
    out = np.empty((1 if len(networks) == 1 else 4, asked.sum()))
    number = np.cumsum(asked).reshape(asked.shape) - 1  # of each token that is asked for
    groups = batches(ids, max(network.family.width for network in networks))
    passed = sum(batch.ids.size for group in groups for batch in group)
    blocks = sum(network.family.n_blocks for network in networks)
    count = counter(passed * blocks + _HEAD * out.size)
    for group in groups:
        rows = [asked[index, : each.shape[1] - 1] for index, each in group]
        states = [
            np.concatenate([h[:, :-1][row] for h, row in zip(found, rows, strict=True)])
            for found in (hidden_states(network, group, count) for network in networks)
        ]
        both = list(zip(group, rows, strict=True))
        targets = np.concatenate([each[:, 1:][row] for (_, each), row in both])
        places = np.concatenate([number[i, : row.shape[1]][row] for (i, _), row in both])
        out[:, places] = _losses(states, networks, targets, count)
    for name, loss in zip(names, out, strict=False):
        if not np.isfinite(loss).all():
            where = int(np.nonzero(asked)[0][np.argmin(np.isfinite(loss))])
            raise InputError(f"{name}: its logits are not finite in sequence {where}; check it")
    return out


def _losses(
    states: list[np.ndarray],
    networks: list[Network],
    targets: np.ndarray,
    count: Callable[[float], None] = lambda work: None,
) -> np.ndarray:
    """As `token_losses`, of the states (tokens, width) that predict the targets."""
    out = np.empty((1 if len(states) == 1 else 4, len(targets)))
    vocabulary = networks[0].family.vocabulary
    tile = max(1, _TILE // vocabulary)
    for network, h in zip(networks, states, strict=True):
        network.head(h[None, :1])  # reads its weights, once for all threads

    def run(start: int, stop: int) -> None:
        logits = [n.head(h[None, start:stop])[0] for n, h in zip(networks, states, strict=True)]
        for i in range(0, stop - start, tile):
            place = slice(start + i, min(start + i + tile, stop))
            out[:, place] = _of_logits([z[i : i + tile] for z in logits], targets[place])
        count(_HEAD * len(out) * (stop - start))

    run_blocks(run, len(targets), _slice(vocabulary))
    return out


def _slice(vocabulary: int) -> int:
    """Tokens whose logits are computed together."""
    return max(1, min(_LOGITS // (4 * vocabulary), 256))


class _Softmax:
    """Exponentials of logits, which lose their greatest entries, and sums of them."""

    def __init__(self, z: np.ndarray) -> None:
        self.z, self.best = z, z.argmax(axis=1)
        z -= z[np.arange(len(z)), self.best][:, None]
        self.exps = np.exp(z)
        self.totals = self.exps.sum(axis=1, dtype=np.float64)

    def losses(self, targets: np.ndarray) -> np.ndarray:
        return np.log(self.totals) - self.z[np.arange(len(targets)), targets]

    def divergence(self, other: _Softmax) -> np.ndarray:
        """KL from the other one, whose logits are overwritten.

        With z and y less their greatest entries, ``sum p (z - y) - lse(z) + lse(y)``.
        """
        np.subtract(self.z, other.z, out=other.z)
        kl = np.einsum("ij,ij->i", self.exps, other.z, dtype=np.float64) / self.totals
        return kl + np.log(other.totals / self.totals)


def _of_logits(logits: list[np.ndarray], targets: np.ndarray) -> list[np.ndarray]:
    """The rows of `_losses`; the logits are changed."""
    found = [_Softmax(z) for z in logits]
    losses = [each.losses(targets) for each in found]
    if len(found) == 1:
        return losses
    p, q = found
    return [*losses, p.divergence(q), p.best == q.best]


def divergences(states: Sequence[np.ndarray], networks: Sequence[Network]) -> np.ndarray:
    """How far predictions are from the first ones, token by token.

    Parameters
    ----------
    states : sequence of ndarray of shape (tokens, width), float32
        Hidden states of the same tokens after the last block, those of the original first.
    networks : sequence of Network
        Whose heads they go through.

    Returns
    -------
    ndarray of shape (len(states) - 1, tokens), float64
        ``KL(p, q)`` in nats, p the original's distributions.
    """
    out = np.empty((len(states) - 1, len(states[0])))
    vocabulary = networks[0].family.vocabulary
    tile = max(1, _TILE // vocabulary)
    for network, h in zip(networks, states, strict=True):
        network.head(h[None, :1])  # reads its weights, once for all threads

    def run(start: int, stop: int) -> None:
        ours = networks[0].head(states[0][None, start:stop])[0]
        first = [_Softmax(ours[i : i + tile]) for i in range(0, len(ours), tile)]
        for row, h, network in zip(out, states[1:], networks[1:], strict=True):
            theirs = network.head(h[None, start:stop])[0]
            for i, p in zip(range(0, len(ours), tile), first, strict=True):
                place = slice(start + i, start + i + len(p.z))
                row[place] = p.divergence(_Softmax(theirs[i : i + tile]))

    run_blocks(run, len(states[0]), _slice(vocabulary))
    return out


def mean_kl(
    original_hidden: np.ndarray,
    compressed_hidden: np.ndarray,
    original: Network,
    compressed: Network,
) -> float:
    """Mean divergence of the predictions from states after the last blocks, in nats.

    Parameters
    ----------
    original_hidden, compressed_hidden : ndarray of shape (..., width), float32
        Hidden states of the same tokens in both networks, before the last norm.
    original, compressed : Network
        Whose heads are used.

    Returns
    -------
    float
        ``KL(p, q)``, p the original's distributions, as in `Scores`; over all states.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.scores import mean_kl
    >>> from lplr.models.families.llama import Llama
    >>> from lplr.models.network import Network
    >>> family = Llama({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8,
    ...     "vocab_size": 10, "intermediate_size": 8, "num_attention_heads": 2})
    >>> network = Network(family, {"model.norm.weight": np.ones(8, np.float32),
    ...     "lm_head.weight": np.eye(10, 8, dtype=np.float32)})
    >>> h = np.random.default_rng(0).standard_normal((4, 8), np.float32)
    >>> mean_kl(h, 2 * h, network, network) < 1e-6 < mean_kl(h, -h, network, network)
    True
    """
    states = [h.reshape(-1, h.shape[-1]) for h in (original_hidden, compressed_hidden)]
    return float(divergences(states, [original, compressed]).mean())
