"""Losses of predictions and divergences between them, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lplr.exceptions import InputError
from lplr.models.evaluation.forward import batches, hidden_states
from lplr.models.network import Network
from lplr.parallel import run_blocks
from lplr.progress import counter

__all__ = ["check_causal", "divergences", "mean_kl", "token_losses"]

_LOGITS = 1 << 26  # bytes of the logits of one network in one thread
_TILE = 1 << 19  # entries whose exponentials are kept: they stay in the second-level cache
_HEAD = 8.0  # work of a token in the head, in units of a block's


def check_causal(name: str, network: Network) -> None:
    """InputError if a network predicts no tokens."""
    if not network.family.causal:
        raise InputError(f"{name}: is an encoder, which predicts no tokens; compare embeddings")


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
        check_causal(name, network)
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
        ``KL(p, q)``, p the original's distributions, over all states.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.losses import mean_kl
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
