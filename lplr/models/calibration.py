"""Calibration one block at a time: each layer is coded for the inputs that it will get.

Two networks go through a block side by side, the original and the one whose linear layers are
replaced as they are coded. Where the original has the input x and the hidden state h, the other
has z and g. The second moment of z is that under which a layer is coded. Where its output is added
to a hidden state, what is coded is not W itself but what `lplr.models.correction` makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.models.block import Block, Linear
from lplr.models.correction import Moments, corrected
from lplr.models.network import Network
from lplr.models.walk import LANES, Walk
from lplr.progress import parts, until

__all__ = ["States", "compress_block", "first_states", "second_moments"]

_HELD_OUT = 8  # of so many chunks of sequences one is held out


@dataclass
class States:
    """Hidden states of all sequences before a block, (sequences, tokens, width), float32."""

    original: np.ndarray
    compressed: np.ndarray
    mask: np.ndarray | None = None

    def relative_error(self) -> float:
        """Of the hidden states, in the mean over tokens: ``sqrt(mean(|h - g|^2 / |h|^2))``."""
        total = tokens = 0.0
        for s, (h, g) in enumerate(zip(self.original, self.compressed, strict=True)):
            seen = slice(None) if self.mask is None else self.mask[s]
            norm = np.einsum("ij,ij->i", h[seen], h[seen])
            gap = h[seen] - g[seen]
            total += float(np.sum(np.einsum("ij,ij->i", gap, gap) / np.where(norm > 0, norm, 1)))
            tokens += len(norm)
        return float(np.sqrt(total / tokens))


def first_states(network: Network, ids: np.ndarray, mask: np.ndarray | None = None) -> States:
    """Hidden states of token ids (sequences, tokens) before the first block."""
    h = network.embed(ids)
    return States(h, h.copy(), mask)


def compress_block(
    original: Network,
    i: int,
    states: States,
    code: Callable[[str, np.ndarray, np.ndarray], Any],
    done: Mapping[str, Any],
    keep: Callable[[str, Any, dict[str, Any]], None],
    *,
    prefix: bool = True,
) -> None:
    """Code the linear layers of block i, and take ``states`` through the block.

    The same bytes come out at any number of threads, and if some layers are ``done`` already.

    Parameters
    ----------
    original : Network
    i : int
    states : States
        Before the block; afterwards those behind it.
    code : callable
        ``code(name, W, H)`` packs the layer of a module; ``H`` is the mean of ``z z^T``, float64.
    done : mapping of str to packed matrix
        Layers that are packed already.
    keep : callable
        ``keep(name, packed, record)`` is called after each layer that has been coded.
    prefix : bool
        Whether layers are coded for the inputs behind the compressed layers, and corrected; else
        as they are, for those of the original network.
    """
    first = original.block(i)
    linears: dict[str, Linear] = dict(first.linears)
    second = Block(first.stages, linears)
    walk = Walk((first, second), (states.original, states.compressed), states.mask)
    at = original.family.prefix(i)
    for k, stage in enumerate(first.stages, 1):
        with until(k / (len(first.stages) + 1)):  # the last walk, and half of each of these
            sums: _SecondMoment | _Residues
            if prefix and stage.adds:
                sums = _Residues(first.linears[stage.linears[0]].weight, states, walk.chunks)
            else:
                sums = _SecondMoment(states.mask, int(prefix))
            known = all(at + name in done for name in stage.linears)
            with until(0.5):
                walk.inputs(stage, None if known else sums.see)
            if not known:
                H, tokens = sums.mean()
                targets = {n: sums.target(first.linears[n].weight) for n in stage.linears}
            del sums  # as large as what coding needs
            for name in stage.linears:
                if at + name in done:
                    packed = done[at + name]
                else:
                    target, record = targets[name]
                    packed = code(at + name, target, H)
                    keep(at + name, packed, {**record, "tokens": tokens})
                linears[name] = Linear(packed.to_dense(), first.linears[name].bias)
    walk.finish()


def second_moments(
    network: Network, ids: np.ndarray, mask: np.ndarray | None = None
) -> Iterator[tuple[tuple[str, ...], np.ndarray, int]]:
    """Second moments of the inputs of all linear layers of a network.

    Parameters
    ----------
    network : Network
    ids : ndarray of int of shape (sequences, tokens)
    mask : ndarray of bool of shape (sequences, tokens), optional
        Which tokens are no padding.

    Yields
    ------
    names : tuple of str
        Modules of the linear layers that share this input.
    H : ndarray of shape (d, d), float64
        The mean of ``x x^T`` over the tokens.
    tokens : int
    """
    h = network.embed(ids)
    for i in parts(range(network.family.n_blocks), what="second moments"):
        block = network.block(i)
        walk = Walk((block,), (h,), mask)
        for stage in block.stages:
            sums = _SecondMoment(mask)
            walk.inputs(stage, sums.see)
            H, tokens = sums.mean()
            names = tuple(network.family.prefix(i) + name for name in stage.linears)
            yield names, H, tokens
        walk.finish()


class _SecondMoment:
    """The second moment of one input, as a walk passes its chunks."""

    def __init__(self, mask: np.ndarray | None, network: int = 0) -> None:
        self.mask, self.network = mask, network
        self.lanes: list[Any] = [0.0] * LANES
        self.tokens = [0] * LANES

    def see(self, lane: int, chunk: int, part: slice, inputs: list[np.ndarray]) -> None:
        """Add the tokens of a chunk."""
        z = _tokens(inputs[self.network], self.mask, part)
        self.lanes[lane] += (z.T @ z).astype(np.float64)
        self.tokens[lane] += len(z)

    def mean(self) -> tuple[np.ndarray, int]:
        """The mean over all tokens, and their number."""
        tokens = sum(self.tokens)
        return sum(self.lanes) / tokens, tokens

    def target(self, W: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """The layer itself."""
        return W, {}


class _Residues:
    """What the outputs of a layer miss behind compressed layers, see `lplr.models.correction`."""

    def __init__(self, W: np.ndarray, states: States, chunks: int) -> None:
        self.W, self.states = W, states
        self.every = min(_HELD_OUT, chunks)
        self.fit: list[Moments | None] = [None] * LANES
        self.held_out: list[Moments | None] = [None] * LANES

    def see(self, lane: int, chunk: int, part: slice, inputs: list[np.ndarray]) -> None:
        """Add the tokens of a chunk."""
        states = self.states
        x, z, h, g = (
            _tokens(y, states.mask, part)
            for y in (*inputs, states.original[part], states.compressed[part])
        )
        found = Moments.of(z, (x - z) @ self.W.T + (h - g))
        # A chunk is held out as a whole; the last one of every eight, unless it is the only one.
        held_out = self.every > 1 and chunk % self.every == self.every - 1
        lanes = self.held_out if held_out else self.fit
        total = lanes[lane]
        if total is None:
            lanes[lane] = found
        else:
            total.add(found)

    def mean(self) -> tuple[np.ndarray, int]:
        """The second moment of the inputs, the mean over all tokens, and their number."""
        total = Moments.total([m for m in self.fit + self.held_out if m is not None])
        return total.H / total.tokens, total.tokens

    def target(self, W: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """The layer with the correction."""
        fit, held_out = ([m for m in lanes if m is not None] for lanes in (self.fit, self.held_out))
        return corrected(W, Moments.total(fit), Moments.total(held_out) if held_out else None)


def _tokens(y: np.ndarray, mask: np.ndarray | None, part: slice) -> np.ndarray:
    """The tokens of some sequences that are no padding, one a row."""
    return y.reshape(-1, y.shape[-1]) if mask is None else y[mask[part, : y.shape[1]]]
