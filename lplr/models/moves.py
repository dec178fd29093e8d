"""Bits moved between layers of a network: from those that matter little to those that matter more.

If the loss of layer l is ``c`` at equal bits and falls with its bits as
``2^(-2 b)``, the sum of all losses at the same total is least where

    b_l = b + 1/2 log2(c / weights) + constant,

which says how far each would move. No layer moves further than it is allowed to, since the model
is a rough one, and the constant keeps the total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["from_margins", "moved"]

_STEP = 1 / 1024  # of a bit per weight: shorter numbers
_ROUNDS = 60  # of a bisection: each gives a binary digit


def from_margins(
    kinds: Mapping[str, float], blocks: Sequence[float]
) -> dict[tuple[str, int], float]:
    """The loss of each layer, from those of its kind in all blocks and of its block.

    They are the sums of rows and columns of a table, whose entries are taken to be proportional to
    both. A loss below zero is none.

    Examples
    --------
    >>> from lplr.models.moves import from_margins
    >>> from_margins({"up": 3.0, "down": 1.0}, [1.0, 3.0])[("up", 1)]
    2.25
    """
    rows = {kind: max(loss, 0.0) for kind, loss in kinds.items()}
    columns = [max(loss, 0.0) for loss in blocks]
    total = (sum(rows.values()) + sum(columns)) / 2 or 1.0
    return {
        (kind, i): row * column / total
        for kind, row in rows.items()
        for i, column in enumerate(columns)
    }


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
