"""Where in a network the error of compression enters: one part of it compressed at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.block import Block
from lplr.models.calibration import relative_squares
from lplr.models.evaluation.estimate import Estimate, Measured, ratio_of
from lplr.models.evaluation.forward import Batch, batches
from lplr.models.evaluation.losses import divergences
from lplr.models.evaluation.scores import check_comparable
from lplr.models.network import Network
from lplr.models.texts import PADDING, token_windows
from lplr.parallel import run_blocks
from lplr.progress import Progress, counter, tracked

__all__ = ["Sensitivity", "sensitivity"]

_ORIGINAL, _WHOLE, _OUTSIDE = "original", "whole", "outside"
_HEAD = 4.0  # work of a token in the head, in units of a block's


@dataclass(frozen=True)
class Sensitivity(Measured):
    """What each part of a network does to its predictions when it alone is compressed.

    Parameters
    ----------
    whole : Estimate
        Mean divergence from the original's predictions, in nats, with everything compressed.
    outside : Estimate
        The same with what belongs to no block: embedding, last norm and head.
    blocks : tuple of Estimate
        With one block: the first one, the second one, and so on.
    kinds : mapping of str to Estimate
        With one linear layer in all blocks, by its name within the block.
    errors : tuple of float
        With everything compressed, the relative error of the hidden states after each block:
        ``sqrt(mean(|h - g|^2 / |h|^2))`` over tokens, h of the original.
    windows, length, tokens : int
        As of `lplr.models.evaluation.scores.Scores`.

    Notes
    -----
    The whole is not the sum of its parts. Errors of several parts meet; and a layer that was
    corrected for what those before it have lost does that alone for nothing, so that the sum may
    be the larger one.

    Examples
    --------
    >>> from lplr.models.evaluation.estimate import Estimate
    >>> from lplr.models.evaluation.sensitivity import Sensitivity
    >>> none, some = Estimate(0.0, 0.0), Estimate(0.2, 0.01)
    >>> print(Sensitivity(some, none, (none, some), {"mlp.up_proj": some}, (0.1, 0.3), 2, 9, 16))
    whole        0.200 ± 0.010
    outside      0
    mlp.up_proj  0.200 ± 0.010
    block 0      0
    block 1      0.200 ± 0.010
    2 windows of 9 tokens, nothing put before them; KL in nats to the original, where only this \
part is compressed
    """

    whole: Estimate
    outside: Estimate
    blocks: tuple[Estimate, ...]
    kinds: Mapping[str, Estimate]
    errors: tuple[float, ...]
    windows: int
    length: int
    tokens: int

    @property
    def numbers(self) -> dict[str, Estimate]:
        """What was measured, by the part that was compressed."""
        blocks = {f"block {i}": found for i, found in enumerate(self.blocks)}
        return {_WHOLE: self.whole, _OUTSIDE: self.outside, **self.kinds, **blocks}

    @property
    def protocol(self) -> str:
        """How the numbers were measured, in a line."""
        return (
            f"{self.windows} windows of {self.length} tokens, nothing put before them; KL in nats "
            "to the original, where only this part is compressed"
        )


def sensitivity(
    original: Network, compressed: Network, ids: Any, *, progress: Progress = False
) -> Sensitivity:
    """Compress one part of a network at a time, and see how far its predictions move.

    Parameters
    ----------
    original, compressed : Network
        Both predict the next token and have the same layers.
    ids : str, path or array_like of int, of shape (windows, tokens)
        As in `lplr.models.compare`; a few windows are enough to see the order of the parts.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    Sensitivity

    Raises
    ------
    InputError
        As `lplr.models.compare`, or if the networks have other layers.

    Notes
    -----
    With n blocks of k linear layers, a window passes n (n + 1) / 2 + n (k + 3) blocks and
    n + k + 3 heads: of 30 blocks about 15 times the work of `lplr.models.compare`. All parts go
    through the network together, so that a block is read once, and wait in memory as hidden
    states. Each block stands whole, with its norms and biases; of a kind, the linear layers alone.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.sensitivity import sensitivity
    >>> from lplr.models.families.llama import Llama
    >>> from lplr.models.network import Network
    >>> family = Llama({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8,
    ...     "vocab_size": 10, "intermediate_size": 8, "num_attention_heads": 2})
    >>> rng = np.random.default_rng(0)
    >>> tensors = {name: rng.standard_normal(shape, np.float32)
    ...     for name, shape in family.tensors().items()}
    >>> other = tensors | {"model.layers.1.mlp.up_proj.weight": np.zeros((8, 8), np.float32)}
    >>> found = sensitivity(Network(family, tensors), Network(family, other), [[1, 2, 3, 4]])
    >>> found.blocks[0].value, found.kinds["mlp.gate_proj"].value, found.errors[0]
    (0.0, 0.0, 0.0)
    >>> found.whole == found.blocks[1] == found.kinds["mlp.up_proj"]
    True
    """
    check_comparable(original, compressed)
    family = original.family
    if family.tensors() != compressed.family.tensors():
        raise InputError(
            "compressed: has tensors of other names or shapes than the original; compare a "
            "network with the one that it was made of"
        )
    ids = token_windows(ids, vocabulary=family.vocabulary)
    asked = ids[:, 1:] != PADDING
    n = family.n_blocks
    kinds = [name.removeprefix(family.prefix(0)) for name in family.linears(0)]
    found = np.empty((2 + len(kinds) + n, len(ids)))  # sums over the tokens of a window
    squares = np.zeros(n)
    passes = n * (n + 1) / 2 + n * (len(kinds) + 3) + _HEAD * (1 + len(found))
    with tracked(progress, "sensitivity"):
        count = counter(ids.size * passes)
        for group in batches(ids, family.width * (1 + len(found))):
            parts = _walk(original, compressed, group, kinds, squares, count)
            heads = [compressed if part in (_WHOLE, _OUTSIDE) else original for part in parts]
            for b, (index, each) in enumerate(group):
                rows = asked[index, : each.shape[1] - 1]
                lost = divergences([h[b][:, :-1][rows] for h in parts.values()], heads)
                window = np.nonzero(rows)[0]
                for sums, values in zip(found, lost, strict=True):
                    sums[index] = np.bincount(window, values, minlength=len(index))
                count(_HEAD * len(heads) * each.size)
    counts = asked.sum(axis=1)
    whole, outside, *alone = (ratio_of(sums, counts) for sums in found)
    return Sensitivity(
        whole,
        outside,
        tuple(alone[len(kinds) :]),
        dict(zip(kinds, alone, strict=False)),
        tuple(np.sqrt(squares / (ids != PADDING).sum()).tolist()),
        len(ids),
        ids.shape[1],
        int(counts.sum()),
    )


def _walk(
    original: Network,
    compressed: Network,
    group: Sequence[Batch],
    kinds: Sequence[str],
    squares: np.ndarray,
    count: Callable[[float], None],
) -> dict[int | str, list[np.ndarray]]:
    """Hidden states after the last block of each batch, by the part that is compressed.

    The original comes first. What the whole has lost after each block is added to ``squares``.
    """
    masks = [ids != PADDING for _, ids in group]
    first, second = (
        [network.embed(np.maximum(ids, 0)) for _, ids in group]
        for network in (original, compressed)
    )
    places: list[int | str] = [_ORIGINAL, _WHOLE, _OUTSIDE, *kinds]
    states = {place: list(second if place in (_WHOLE, _OUTSIDE) else first) for place in places}
    for i in range(original.family.n_blocks):
        states[i] = list(states[_ORIGINAL])
        ours, theirs = (network.block(i).decoded() for network in (original, compressed))
        blocks = {place: _block(place, i, ours, theirs) for place in states}
        work = [(place, b) for place in states for b in range(len(group))]

        def forward(start: int, stop: int, blocks: Any = blocks, work: Any = work) -> None:
            for place, b in work[start:stop]:
                # As everywhere, a network that predicts never looks at what follows.
                states[place][b] = blocks[place](states[place][b])
                count(masks[b].size)

        run_blocks(forward, len(work), 1)
        for h, g, mask in zip(states[_ORIGINAL], states[_WHOLE], masks, strict=True):
            squares[i] += relative_squares(h[mask], g[mask]).sum()
    return states


def _block(place: int | str, i: int, ours: Block, theirs: Block) -> Block:
    """Block i where this part of the network is compressed."""
    if place in (_WHOLE, i):
        return theirs
    if isinstance(place, str) and place in ours.linears:
        return Block(ours.stages, {**ours.linears, place: theirs.linears[place]})
    return ours
