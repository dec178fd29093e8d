"""How many components the correction of each layer gets: those that are felt most for each bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["MOST", "felt_ranks"]

MOST = 4  # times the asked rank: what a layer gets at most
_LEAST = 2  # what it gets at least, or all that was asked for; training makes use of it
_SCALE = 32  # bits of the scale of a component


def felt_ranks(
    felt: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, int]],
    ranks: Mapping[str, int],
    bits: int,
) -> dict[str, int]:
    """Ranks of all layers that cost no more bits than given ones, and take most of what is felt.

    A component of a layer of n outputs and d inputs takes ``(n + d) bits`` and a scale. Those
    that take most away for each bit are taken, as long as they fit: within a layer they fall, so
    that this is the best choice but for the last bits, as in water-filling.

    Parameters
    ----------
    felt : mapping of str to ndarray of shape (most,)
        Of each layer what its components are felt, in falling order, in a unit that all share.
    shapes : mapping of str to (int, int)
    ranks : mapping of str to int
        Those that say how much there is to spend.
    bits : int
        Of an entry of L or R.

    Returns
    -------
    dict of str to int

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.adaptation.ranks import felt_ranks
    >>> felt = {"a": np.array([8.0, 6.0, 4.0, 3.5, 3.0]), "b": np.array([5.0, 3.0, 2.0, 1.0, 0.5])}
    >>> felt_ranks(felt, {"a": (9, 9), "b": (9, 9)}, {"a": 3, "b": 3}, 4)
    {'a': 4, 'b': 2}
    """
    cost = {name: sum(shapes[name]) * bits + _SCALE for name in felt}
    found = {name: min(_LEAST, ranks[name]) for name in felt}
    left = sum((ranks[name] - found[name]) * cost[name] for name in felt)
    offers = [
        (-float(value) / cost[name], name)
        for name, values in felt.items()
        for value in values[found[name] :]
    ]
    for _, name in sorted(offers):  # those of one layer all cost the same: none is left out
        if cost[name] <= left:
            found[name] += 1
            left -= cost[name]
    return found
