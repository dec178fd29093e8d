"""Calibration one block at a time: each layer is coded for the inputs that it will get.

Two networks go through a block side by side, the original and the one whose linear layers are
replaced as they are coded. Where the original has the input x and the hidden state h, the other
has z and g. The second moment of z is that under which a layer is coded, with a weight for each
token where they are known, see `lplr.models.moments`. Where its output is added to a hidden
state, what is coded is not W itself but what `lplr.models.correction` makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lplr.models.block import Block, Linear
from lplr.models.correction import Moments, corrected
from lplr.models.network import Network
from lplr.models.walk import LANES, Walk
from lplr.progress import parts, until

__all__ = ["States", "compress_block", "first_states", "relative_squares", "second_moments"]

_MOST = 10.0  # times the mean: what the weight of a token counts at most
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
            found = relative_squares(h[seen], g[seen])
            total += float(found.sum())
            tokens += len(found)
        return float(np.sqrt(total / tokens))


def relative_squares(h: np.ndarray, g: np.ndarray) -> np.ndarray:
    """``|h - g|^2 / |h|^2`` of each row; where h is 0, ``|g|^2``."""
    norm, gap = np.einsum("ij,ij->i", h, h), h - g
    return np.einsum("ij,ij->i", gap, gap) / np.where(norm > 0, norm, 1)


def first_states(network: Network, ids: np.ndarray, mask: np.ndarray | None = None) -> States:
    """Hidden states of token ids (sequences, tokens) before the first block."""
    h = network.embed(ids)
    return States(h, h.copy(), mask)


def compress_block(
    original: Network,
    i: int,
    states: States,
    code: Callable[[Sequence[tuple[str, np.ndarray, np.ndarray]]], Iterator[Any]],
    done: Mapping[str, Any],
    keep: Callable[[str, Any, dict[str, Any]], None],
    *,
    prefix: bool = True,
    weights: Callable[[str], np.ndarray] | None = None,
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
        ``code([(name, W, H), ...])`` packs the layers of some modules, in order, none of which has
        to wait for another; ``H`` is the mean of ``z z^T``, float64, by the weights of the tokens.
    done : mapping of str to packed matrix
        Layers that are packed already.
    keep : callable
        ``keep(name, packed, record)`` is called after each layer that has been coded.
    prefix : bool
        Whether layers are coded for the inputs behind the compressed layers, and corrected; else
        as they are, for those of the original network.
    weights : callable, optional
        ``weights(name)`` are those of the tokens for a layer, (sequences, tokens), float32; by
        default all are alike.
    """
    first = original.block(i)
    linears: dict[str, Linear] = dict(first.linears)
    second = Block(first.stages, linears)
    walk = Walk((first, second), (states.original, states.compressed), states.mask)
    at = original.family.prefix(i)
    for k, stage in enumerate(first.stages, 1):
        with until(k / (len(first.stages) + 1)):  # the last walk, and half of each of these
            names = [at + name for name in stage.linears]
            residues = moments = None
            if prefix and stage.adds:
                residues = _Residues(first.linears[stage.linears[0]].weight, states, walk.chunks)
            if residues is None or weights is not None:
                moments = _SecondMoments(names, states.mask, int(prefix), weights)
            sums = [each for each in (residues, moments) if each is not None]
            known = all(name in done for name in names)
            with until(0.5):
                walk.inputs(stage, None if known else partial(_see, sums))
            if not known:
                hessians, tokens = sums[-1].means(names)
                target = (lambda W: (W, {})) if residues is None else residues.target
                targets = {at + n: target(first.linears[n].weight) for n in stage.linears}
            del residues, moments, sums  # as large as what coding needs
            todo = [name for name in names if name not in done]
            coded = code([(name, targets[name][0], hessians[name]) for name in todo])
            for name in stage.linears:
                if at + name in done:
                    packed = done[at + name]
                else:
                    packed = next(coded)
                    keep(at + name, packed, {**targets[at + name][1], "tokens": tokens})
                linears[name] = Linear(packed.to_dense(), first.linears[name].bias)
    walk.finish()


def second_moments(
    network: Network,
    ids: np.ndarray,
    mask: np.ndarray | None = None,
    what: str = "second moments",
) -> Iterator[tuple[tuple[str, ...], np.ndarray, int]]:
    """Second moments of the inputs of all linear layers of a network.

    Parameters
    ----------
    network : Network
    ids : ndarray of int of shape (sequences, tokens)
    mask : ndarray of bool of shape (sequences, tokens), optional
        Which tokens are no padding.
    what : str
        Words of progress: what is done with them.

    Yields
    ------
    names : tuple of str
        Modules of the linear layers that share this input.
    H : ndarray of shape (d, d), float64
        The mean of ``x x^T`` over the tokens.
    tokens : int
    """
    h = network.embed(ids)
    for i in parts(range(network.family.n_blocks), what=what):
        block = network.block(i)
        walk = Walk((block,), (h,), mask)
        for stage in block.stages:
            names = tuple(network.family.prefix(i) + name for name in stage.linears)
            sums = _SecondMoments(names, mask)
            walk.inputs(stage, sums.see)
            hessians, tokens = sums.means(names)
            yield names, hessians[names[0]], tokens
        walk.finish()


def _see(sums: list[Any], lane: int, chunk: int, part: slice, inputs: list[np.ndarray]) -> None:
    for each in sums:
        each.see(lane, chunk, part, inputs)


class _SecondMoments:
    """Second moments of one input, as a walk passes its chunks: of all tokens, or as each layer
    weighs them."""

    def __init__(
        self,
        names: Sequence[str],
        mask: np.ndarray | None,
        network: int = 0,
        weights: Callable[[str], np.ndarray] | None = None,
    ) -> None:
        self.mask, self.network = mask, network
        self.roots: dict[str, np.ndarray] = {}
        if weights is not None:
            self.roots = {name: _roots(weights(name), mask) for name in names}
        self.lanes: list[list[Any]] = [[0.0] * LANES for _ in self.roots or names[:1]]
        self.tokens = [0] * LANES

    def see(self, lane: int, chunk: int, part: slice, inputs: list[np.ndarray]) -> None:
        """Add the tokens of a chunk."""
        z = _tokens(inputs[self.network], self.mask, part)
        for lanes, root in zip(self.lanes, self.roots.values() or [None], strict=True):
            y = z if root is None else z * _tokens(root[part], self.mask, part)
            lanes[lane] += (y.T @ y).astype(np.float64)
        self.tokens[lane] += len(z)

    def means(self, names: Sequence[str]) -> tuple[dict[str, np.ndarray], int]:
        """The mean over all tokens, of each layer, and their number."""
        tokens = sum(self.tokens)
        found = [sum(lanes) / tokens for lanes in self.lanes]
        return dict(zip(names, found * (len(names) // len(found)), strict=True)), tokens


def _roots(weights: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Roots of weights, none of them far above the others, (sequences, tokens, 1); mean square 1.

    The second moment of a few heavy tokens says little of others. Capped so, it was nearer to what
    other tokens weigh, uncapped: by 2 % of the loss in a layer whose weights are even, and by 15 %
    in one with weights of 16,000 times the mean.
    """
    seen = np.ones(weights.shape, bool) if mask is None else mask
    capped = np.minimum(weights, _MOST * np.mean(weights[seen], dtype=np.float64))
    mean = np.mean(capped[seen], dtype=np.float64)
    return np.sqrt(capped / mean).astype(np.float32)[..., None]


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

    def means(self, names: Sequence[str]) -> tuple[dict[str, np.ndarray], int]:
        """The second moment of the inputs, the mean over all tokens, and their number."""
        total = Moments.total([m for m in self.fit + self.held_out if m is not None])
        return dict.fromkeys(names, total.H / total.tokens), total.tokens

    def target(self, W: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """The layer with the correction."""
        fit, held_out = ([m for m in lanes if m is not None] for lanes in (self.fit, self.held_out))
        return corrected(W, Moments.total(fit), Moments.total(held_out) if held_out else None)


def _tokens(y: np.ndarray, mask: np.ndarray | None, part: slice) -> np.ndarray:
    """The tokens of some sequences that are no padding, one a row."""
    return y.reshape(-1, y.shape[-1]) if mask is None else y[mask[part, : y.shape[1]]]
