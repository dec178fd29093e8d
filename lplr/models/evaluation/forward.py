"""Networks over many sequences: one block at a time, and of the logits a few rows at a time.

The weights of a block are read once for all sequences of a group; threads take sequences, and
rows of logits. What a thread takes depends on shapes alone, so the results have the same bits on
any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lplr.models.network import Network
from lplr.parallel import run_blocks

__all__ = ["groups", "head_of", "hidden_states", "rows_of_logits"]

_TOKENS = 1024  # that go through a block together, in one thread
_STATES = 1 << 29  # bytes of the hidden states of a group of sequences
_LOGITS = 1 << 26  # bytes of the logits of one network in one thread


class _Once(Mapping[str, Any]):
    """Tensors that are read on first use and kept."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors, self._found = tensors, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._tensors[name]
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def groups(network: Network, ids: np.ndarray) -> Iterator[slice]:
    """Slices of the sequences whose hidden states are kept together."""
    each = 4 * ids.shape[1] * network.family.width
    size = max(1, _STATES // each)
    return (slice(start, start + size) for start in range(0, len(ids), size))


def hidden_states(
    network: Network, ids: np.ndarray, count: Callable[[float], None] = lambda work: None
) -> np.ndarray:
    """Hidden states after the last block, of sequences with padding at their ends.

    Parameters
    ----------
    network : Network
        One that predicts the next token: what follows a token does not change its states.
    ids : ndarray of shape (sequences, tokens), int
        As `lplr.models.texts.check_ids` returns them.
    count : callable
        Told the number of tokens that have gone through a block, for each block.

    Returns
    -------
    ndarray of shape (sequences, tokens, width), float32
    """
    h = network.embed(np.maximum(ids, 0))  # what stands for padding is never looked at
    n, tokens = ids.shape
    for i in range(network.family.n_blocks):
        block = network.block(i)

        def run(start: int, stop: int, block: Any = block) -> None:
            h[start:stop] = block(h[start:stop])
            count((stop - start) * tokens)

        run_blocks(run, n, max(1, _TOKENS // tokens))
    return h


def head_of(network: Network) -> Callable[[np.ndarray], np.ndarray]:
    """The head for states (rows, width), with logits (rows, vocabulary); it reads weights now."""
    head = Network(network.family, _Once(network.tensors)).head
    head(np.zeros((1, 1, network.family.width), np.float32))
    return lambda h: head(h[None])[0]


def rows_of_logits(vocabulary: int) -> int:
    """How many rows of logits a thread has at a time."""
    return max(1, min(_LOGITS // (4 * vocabulary), 256))
