"""Networks over many sequences: one block at a time, decoded once for all of them.

Threads take batches of sequences of similar lengths. What a batch is depends on the lengths alone,
so that results have the same bits on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lplr.models.block import Block, Context
from lplr.models.network import Network
from lplr.models.texts import PADDING
from lplr.parallel import run_blocks

__all__ = ["Batch", "batches", "hidden_states"]

_TOKENS = 1024  # of a batch, padding included
_STATES = 1 << 29  # bytes of the hidden states that are kept together


class Batch(NamedTuple):
    """Sequences of similar lengths.

    Parameters
    ----------
    rows : ndarray of shape (n,), int
        Which of all sequences they are.
    ids : ndarray of shape (n, tokens), int
        With -1 for padding, as long as the longest of them.
    """

    rows: np.ndarray
    ids: np.ndarray


def batches(ids: np.ndarray, width: int) -> list[list[Batch]]:
    """All sequences, the shorter ones first, in groups whose hidden states are kept together.

    Parameters
    ----------
    ids : ndarray of shape (sequences, tokens), int
        As `lplr.models.texts.check_ids` returns them.
    width : int
        Of the hidden states.

    Returns
    -------
    list of list of Batch

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.forward import batches
    >>> [group] = batches(np.zeros((3, 512), int), 576)
    >>> [batch.rows.tolist() for batch in group]
    [[0, 1], [2]]
    """
    lengths = (ids != PADDING).sum(axis=1)
    found: list[list[int]] = [[]]
    for i in np.argsort(lengths, kind="stable"):
        if found[-1] and (len(found[-1]) + 1) * lengths[i] > _TOKENS:
            found.append([])
        found[-1].append(i)
    groups: list[list[Batch]] = [[]]
    size = 0
    for rows in found:
        batch = Batch(np.array(rows), ids[rows, : lengths[rows[-1]]])
        if size and 4 * width * (size + batch.ids.size) > _STATES:
            groups.append([])
            size = 0
        groups[-1].append(batch)
        size += batch.ids.size
    return groups


def hidden_states(
    network: Network,
    group: Sequence[Batch],
    count: Callable[[float], None] = lambda work: None,
) -> list[np.ndarray]:
    """Hidden states after the last block.

    Parameters
    ----------
    network : Network
    group : sequence of Batch
    count : callable
        Told the number of tokens that have gone through a block, for each block.

    Returns
    -------
    list of ndarray of shape (n, tokens, width), float32
        For each batch; those of padding mean nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.forward import batches, hidden_states
    >>> from lplr.models.families import family_of
    >>> from lplr.models.network import Network
    >>> family = family_of({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
    ...                     "n_positions": 16, "vocab_size": 50})
    >>> ones = {name: np.ones(shape, np.float32) for name, shape in family.tensors().items()}
    >>> [group] = batches(np.array([[3, 1, 4], [1, 5, -1]]), family.width)
    >>> hidden_states(Network(family, ones), group)[0].shape
    (2, 3, 8)
    """
    masks = [ids != PADDING for _, ids in group]
    states = [network.embed(np.maximum(ids, 0)) for _, ids in group]
    for i in range(network.family.n_blocks):
        block = network.block(i).decoded()

        def forward(start: int, stop: int, block: Block = block) -> None:
            for j in range(start, stop):
                # A network that predicts never looks at what follows.
                whole = network.family.causal or masks[j].all()
                states[j] = block(states[j], Context(mask=None if whole else masks[j]))
                count(masks[j].size)

        run_blocks(forward, len(states), 1)
    return states
