"""How well a network predicts the next token, and how far it is from the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.evaluation.estimate import Estimate, Measured, ratio_of
from lplr.models.evaluation.losses import check_causal, token_losses
from lplr.models.network import Network, check_network
from lplr.models.texts import PADDING, token_windows
from lplr.progress import Progress, tracked

__all__ = ["Scores", "check_comparable", "compare", "score"]


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
        check_causal(name, check_network(network, name))
    sizes = original.family.vocabulary, compressed.family.vocabulary
    if sizes[0] != sizes[1]:
        raise InputError(
            f"compressed: has a vocabulary of {sizes[1]} tokens, the original one of {sizes[0]}; "
            "compare networks of one tokenizer"
        )


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
