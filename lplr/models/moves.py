"""Bits moved between layers of a network: from those that matter little to those that matter more.

If the loss of layer l, or of its group, is ``c`` at equal bits and falls with its bits as
``2^(-2 b)``, the sum of all losses at the same total is least where

    b_l = b + 1/2 log2(c / weights) + constant,

which says how far each would move. No layer moves further than it is allowed to, since the model
is a rough one, and the constant keeps the total.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["groups_of", "moved"]

_DEPTHS = 3  # parts of the network, from its first block to its last
_STEP = 1 / 1024  # of a bit per weight: shorter numbers
_ROUNDS = 60  # of a bisection: each gives a binary digit


def groups_of(
    layers: Mapping[str, tuple[int, tuple[int, int]]], kinds: Mapping[str, str]
) -> dict[str, list[str]]:
    """Layers of one kind in one part of the network, by words for them.

    Parameters
    ----------
    layers : mapping of str to (int, (int, int))
        Block and shape of each layer.
    kinds : mapping of str to str
        Its name within the block.
    """
    n_blocks = 1 + max(block for block, _ in layers.values())
    parts = min(_DEPTHS, n_blocks)
    found: dict[str, list[str]] = {}
    for name, (block, _) in layers.items():
        part = block * parts // n_blocks
        first, last = (-(-k * n_blocks // parts) for k in (part, part + 1))
        where = f"block {last}" if last - first == 1 else f"blocks {first + 1} to {last}"
        found.setdefault(f"{kinds[name]}, {where}", []).append(name)
    return found


def moved(
    losses: Mapping[str, float],
    weights: Mapping[str, int],
    bits: float,
    most: float,
    least: Mapping[str, float],
) -> dict[str, float]:
    """Bits per weight of each layer, at most the same total as with equal bits.

    Parameters
    ----------
    losses : mapping of str to float
        Of each layer at equal bits; none, or less, is a reason to take bits away.
    weights : mapping of str to int
        Entries of each layer.
    bits : float
        Bits per weight at equal bits.
    most : float
        How far a layer may move.
    least : mapping of str to float
        Bits per weight that each layer needs in any case, not above ``bits``.

    Examples
    --------
    >>> from lplr.models.moves import moved
    >>> weights = {"a": 100, "b": 100, "c": 200}
    >>> moved({"a": 8, "b": 4, "c": 4}, weights, 2, 0.75, dict.fromkeys(weights, 1))
    {'a': 2.625, 'b': 2.125, 'c': 1.625}
    """
    size = np.array([weights[name] for name in losses], np.float64)
    loss = np.array(list(losses.values()), np.float64)
    tiny = 1e-12 * max(float(np.max(loss)), 1e-300)
    wanted = 0.5 * np.log2(np.maximum(loss, tiny) / size)
    floor = np.array([least[name] for name in losses])
    down = np.maximum(floor - bits, -most)
    low, high = float(wanted.min()) - most, float(wanted.max()) + most
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if size @ np.clip(wanted - middle, down, most) > 0:
            low = middle
        else:
            high = middle
    found = bits + np.clip(wanted - high, down, most)
    found = np.maximum(np.floor(found / _STEP + 1e-6) * _STEP, floor)
    return dict(zip(losses, found.tolist(), strict=True))
