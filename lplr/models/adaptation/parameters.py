"""What is trained, as one vector: every parameter is a view of it.

So gradients, both moments of the optimizer and the best parameters so far are vectors of the same
length, and an update is the same few lines for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lplr.models.families.base import Family

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True)
class Layout:
    """Names and shapes of all parameters, those of a block next to each other.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        In the order of the vector. Of a linear layer ``name`` they are ``name.L`` (outputs, rank),
        ``name.R`` (rank, inputs) and ``name.scale`` (1,); tensors keep their names.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where each parameter lies."""
        found, start = {}, 0
        for name, shape in self.shapes.items():
            found[name] = slice(start, start + math.prod(shape))
            start = found[name].stop
        return found

    @property
    def size(self) -> int:
        """Length of the vector."""
        return max((place.stop for place in self.places.values()), default=0)

    def views(self, vector: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
        """The parameters whose names begin so, as views of a vector."""
        return {
            name: vector[place].reshape(self.shapes[name])
            for name, place in self.places.items()
            if name.startswith(prefix)
        }

    def part(self, prefix: str) -> Layout:
        """The parameters whose names begin so, alone."""
        return Layout({n: shape for n, shape in self.shapes.items() if n.startswith(prefix)})

    def span(self, prefix: str) -> slice:
        """Where they lie; they are next to each other."""
        found = [place for name, place in self.places.items() if name.startswith(prefix)]
        return slice(found[0].start, found[-1].stop) if found else slice(0, 0)


def layout_of(family: Family, trained: tuple[str, ...], ranks: Mapping[str, int]) -> Layout:
    """The parameters of a network that are trained.

    Parameters
    ----------
    family : Family
    trained : tuple of str
        Of `GROUPS`: ``"norms"`` are gains and biases of norms, ``"biases"`` those of linear layers.
    ranks : mapping of str to int
        Columns of L of each linear layer that has one, by the name of its module.
    """
    tensors = family.tensors()
    shapes: dict[str, tuple[int, ...]] = {}
    inside: set[str] = set()
    for i in range(family.n_blocks):
        linears = family.linears(i)
        for name, (n, d) in linears.items():
            if "factors" in trained and ranks.get(name):
                shapes |= {f"{name}.L": (n, ranks[name]), f"{name}.R": (ranks[name], d)}
            if "scales" in trained:
                shapes[f"{name}.scale"] = (1,)
        of_linears = {f"{name}.{what}" for name in linears for what in ("weight", "bias")}
        for name, shape in tensors.items():
            if name.startswith(family.prefix(i)):
                inside.add(name)
                group = "biases" if name in of_linears else "norms"
                if len(shape) == 1 and group in trained:
                    shapes[name] = shape
    if "norms" in trained:
        shapes |= {n: s for n, s in tensors.items() if n not in inside and len(s) == 1}
    return Layout(shapes)
