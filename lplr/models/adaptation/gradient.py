"""Loss and gradient of a batch of sequences, one block of both networks at a time.

Sequences go side by side in threads and their gradients are added in order, so that a sum has the
same bits at any number of threads. Of the student the hidden states before each block are kept,
and a block is computed anew on the way back; logits exist for a slice of tokens at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lplr.models.adaptation.parameters import Layout
from lplr.models.adaptation.student import Student
from lplr.models.block import Block
from lplr.models.evaluation.forward import Batch, hidden_states
from lplr.models.losses import cross_entropy, kl_divergence
from lplr.models.network import Network
from lplr.parallel import run_blocks

__all__ = ["Target", "loss_and_gradient", "mean_loss"]

_ROWS = 128  # tokens whose logits exist at a time, in one thread


class Target:
    """What the student should predict: the original's distributions, or the next tokens.

    Each token but the last of a sequence predicts the next one, as where networks are compared.

    Parameters
    ----------
    original : Network or None
        None where the tokens themselves are the target.
    """

    def __init__(self, original: Network | None) -> None:
        self.original = original

    def states(self, sequences: list[np.ndarray]) -> list[np.ndarray] | None:
        """What is needed for some sequences: the last hidden states of the original."""
        if self.original is None:
            return None
        group = [Batch(np.array([i]), ids[None]) for i, ids in enumerate(sequences)]
        return hidden_states(self.original, group)


def mean_loss(
    student: Student, target: Target, sequences: list[np.ndarray], known: list[np.ndarray] | None
) -> float:
    """The mean loss over the tokens that sequences predict.

    Parameters
    ----------
    student : Student
    target : Target
    sequences : list of ndarray of int of shape (tokens,)
    known : list of ndarray, or None
        What ``target.states`` says of them.
    """
    group = [Batch(np.array([i]), ids[None]) for i, ids in enumerate(sequences)]
    states = hidden_states(student, group)
    losses = np.zeros(len(sequences))

    def head(s: int, _: int) -> None:
        loss = _loss_of(target, sequences[s], None if known is None else known[s])
        for start in range(0, len(sequences[s]) - 1, _ROWS):
            part = slice(start, min(start + _ROWS, len(sequences[s]) - 1))
            losses[s] += loss(student.head(states[s][:, part])[0], part)[0]

    student.head(states[0][:, :1])  # reads its weights, once for all threads
    run_blocks(head, len(sequences), 1)
    return float(losses.sum() / _predictions(sequences))


def loss_and_gradient(
    student: Student, target: Target, sequences: list[np.ndarray]
) -> tuple[float, np.ndarray]:
    """The mean loss over the tokens that sequences predict, and its gradient by the parameters.

    Parameters
    ----------
    student : Student
    target : Target
    sequences : list of ndarray of int of shape (tokens,)

    Returns
    -------
    loss : float
    gradient : ndarray of shape (student.layout.size,), float32
    """
    n, layout = len(sequences), student.layout
    known = target.states(sequences)
    states = [[student.embed(ids[None])] for ids in sequences]
    for i in range(student.family.n_blocks):
        block = student.block(i)

        def forward(s: int, _: int, block: Block = block) -> None:
            states[s].append(block(states[s][-1]))

        run_blocks(forward, n, 1)
    losses = np.empty(n)
    back: list[np.ndarray] = [np.empty(0)] * n  # gradients by the hidden states
    rest: list[dict[str, np.ndarray]] = [{}] * n

    def head(s: int, _: int) -> None:
        loss = _loss_of(target, sequences[s], None if known is None else known[s])
        h = states[s].pop()
        losses[s], dh, rest[s] = student.head_back(h[0, :-1], loss)
        back[s] = np.zeros_like(h)
        back[s][0, :-1] = dh

    student.head(states[0][0][:, :1])  # reads its weights, once for all threads
    run_blocks(head, n, 1)
    gradient = np.zeros(layout.size, np.float32)
    for gains in rest:
        for name, value in gains.items():
            if name in layout.places:
                gradient[layout.places[name]] += value
    for i in reversed(range(student.family.n_blocks)):
        block, sums = student.block(i), _Sum(layout, student.family.prefix(i), n)

        def backward(s: int, _: int, block: Block = block, sums: _Sum = sums) -> None:
            back[s], gains = block.backward(states[s].pop(), back[s], see=sums.see(s, block))
            sums.put(s, gains)

        run_blocks(backward, n, 1)
        sums.add_to(gradient)
    tokens = _predictions(sequences)
    gradient /= np.float32(tokens)
    return float(losses.sum() / tokens), gradient


def _predictions(sequences: list[np.ndarray]) -> int:
    return sum(len(ids) - 1 for ids in sequences)


class _Sum:
    """Gradients of the parameters of one block, one row for each sequence."""

    def __init__(self, layout: Layout, prefix: str, n: int) -> None:
        self.prefix, self.span = prefix, layout.span(prefix)
        self.rows = np.zeros((n, self.span.stop - self.span.start), np.float32)
        part = layout.part(prefix)
        self.values = [part.views(row) for row in self.rows]

    def see(self, s: int, block: Block) -> Callable[[str, np.ndarray, np.ndarray], None]:
        """What hears of the linear layers on the way back of a sequence."""
        values = self.values[s]

        def see(name: str, u: np.ndarray, dy: np.ndarray) -> None:
            at = self.prefix + name
            u, dy = u.reshape(-1, u.shape[-1]), dy.reshape(-1, dy.shape[-1])
            correction = block.linears[name].correction
            if correction is not None:
                L, R = correction
                values[f"{at}.L"][...] = dy.T @ (u @ R.T)
                values[f"{at}.R"][...] = (dy @ L).T @ u
            if f"{at}.bias" in values:
                values[f"{at}.bias"][...] = dy.sum(axis=0)

        return see

    def put(self, s: int, gains: Mapping[str, np.ndarray]) -> None:
        """Gradients that come by name; those of what is not trained are left out."""
        for name, value in gains.items():
            if self.prefix + name in self.values[s]:
                self.values[s][self.prefix + name][...] = value

    def add_to(self, gradient: np.ndarray) -> None:
        """Add those of all sequences, in order."""
        for row in self.rows:
            gradient[self.span] += row


def _loss_of(
    target: Target, ids: np.ndarray, known: np.ndarray | None
) -> Callable[[np.ndarray, slice], tuple[float, np.ndarray]]:
    """The loss of logits of some tokens of a sequence, and its gradient; see `head_back`."""

    def loss(logits: np.ndarray, part: slice) -> tuple[float, np.ndarray]:
        if target.original is None or known is None:
            return cross_entropy(logits, ids[1:][part])
        return kl_divergence(logits, target.original.head(known[:, :-1][:, part])[0])

    return loss
