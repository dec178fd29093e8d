"""How far the predictions of several networks are from those of one, on the same sequences."""

from __future__ import annotations

import numpy as np

from lplr.models.evaluation.forward import batches, hidden_states
from lplr.models.evaluation.scores import mean_kl
from lplr.models.network import Network
from lplr.models.texts import PADDING

__all__ = ["Reference"]


class Reference:
    """A network and its hidden states after the last block, which are kept.

    Parameters
    ----------
    network : Network
    ids : ndarray of shape (sequences, tokens), int
        As `lplr.models.texts.check_ids` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.divergence import Reference
    >>> from lplr.models.families import family_of
    >>> from lplr.models.network import Network
    >>> family = family_of({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
    ...                     "n_positions": 16, "vocab_size": 50})
    >>> ones = {name: np.ones(shape, np.float32) for name, shape in family.tensors().items()}
    >>> reference = Reference(Network(family, ones), np.array([[3, 1, 4], [1, 5, -1]]))
    >>> reference.kl(Network(family, ones)), reference.tokens
    (array([0., 0.]), array([2, 1]))
    """

    def __init__(self, network: Network, ids: np.ndarray) -> None:
        self.network = network
        self.tokens: np.ndarray = (ids[:, 1:] != PADDING).sum(axis=1)  # that are predicted
        self._batches = [batch for group in batches(ids, network.family.width) for batch in group]
        self._states = hidden_states(network, self._batches)

    def kl(self, other: Network) -> np.ndarray:
        """The mean divergence over the tokens of each sequence, in nats, as in `Scores`."""
        out = np.empty(len(self.tokens))
        found = hidden_states(other, self._batches)
        for (rows, _), ours, theirs in zip(self._batches, self._states, found, strict=True):
            for row, h, g in zip(rows, ours, theirs, strict=True):
                seen = slice(self.tokens[row])
                out[row] = mean_kl(h[seen], g[seen], self.network, other)
        return out
