"""The network that is trained: compressed layers as they are, and beside them what is trained.

Of a linear layer with the compressed weight W, ``y = s W x + L R x + b``.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

import numpy as np

from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.models.adaptation.parameters import Layout
from lplr.models.base import Checkpoint
from lplr.models.block import Block, Gains
from lplr.models.families.base import Family, Loss
from lplr.models.network import Network
from lplr.models.packed import PackedModel

__all__ = [
    "Dense",
    "Factors",
    "Student",
    "dense_network",
    "factors_of",
    "student_weights",
    "without_factors",
]

Factors: TypeAlias = tuple[np.ndarray, np.ndarray]  # L (outputs, rank) and R (rank, inputs)


class Dense(Mapping[str, np.ndarray]):
    """Tensors as arrays, in the layout of checkpoints; kept where there is room for all of them.

    Parameters
    ----------
    names : collection of str
    read : callable
        ``read(name)`` is the array.
    keep : bool
    """

    def __init__(
        self, names: Collection[str], read: Callable[[str], np.ndarray], keep: bool
    ) -> None:
        self._names, self._read, self._keep = names, read, keep
        self._found: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._found:
            return self._found[name]
        found = self._read(name)
        if self._keep:
            self._found[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def dense_network(family: Family, tensors: PackedModel | Checkpoint, keep: bool) -> Network:
    """A network whose weights are decoded, once where they are kept."""
    read = tensors.dense if isinstance(tensors, PackedModel) else tensors.__getitem__
    return Network(family, Dense(family.tensors(), read, keep))


def student_weights(family: Family, model: PackedModel, replaced: bool, keep: bool) -> Dense:
    """The tensors of a compressed network, decoded, once where they are kept.

    ``replaced`` says that L R takes the place of the low-rank factors that a layer has, which then
    are no part of W.
    """
    layers = {f"{n}.weight" for i in range(family.n_blocks) for n in family.linears(i)}

    def read(name: str) -> np.ndarray:
        if not (replaced and name in layers):
            return model.dense(name)
        W = without_factors(model[name])
        return W.T if family.transposed else W

    return Dense(family.tensors(), read, keep)


class Student(Network):
    """A compressed network with parameters beside its weights.

    Parameters
    ----------
    family : Family
    weights : mapping of str to ndarray
        All tensors of the network, see `student_weights`.
    layout : Layout
    theta : ndarray of shape (layout.size,), float32
        The parameters; the network follows their changes.
    """

    def __init__(
        self, family: Family, weights: Mapping[str, np.ndarray], layout: Layout, theta: np.ndarray
    ) -> None:
        self.theta, self.layout = theta, layout
        self.values = layout.views(theta)
        super().__init__(family, ChainMap(self.values, cast(dict[str, np.ndarray], weights)))

    def block(self, i: int) -> Block:
        """One block with the parameters as they are now."""
        block, at = super().block(i), self.family.prefix(i)
        linears = {}
        for name, linear in block.linears.items():
            L, scale = self.values.get(f"{at}{name}.L"), self.values.get(f"{at}{name}.scale")
            linears[name] = replace(
                linear,
                correction=None if L is None else (L, self.values[f"{at}{name}.R"]),
                scale=1.0 if scale is None else float(scale[0]),
            )
        return replace(block, linears=linears)

    def head_back(self, h: np.ndarray, loss: Loss) -> tuple[float, np.ndarray, Gains]:
        """A loss of last hidden states (tokens, width), and the way back; see `Family`."""
        return self.family.head_back(self._outside, h, loss)


def factors_of(packed: Any) -> Factors | None:
    """The low-rank factors of a packed layer in the coordinates of its inputs and outputs."""
    low_rank = packed if isinstance(packed, LowRank) else getattr(packed, "low_rank", None)
    if low_rank is None:
        return None
    L, R = low_rank.left.to_dense(), low_rank.right.to_dense()
    if isinstance(packed, QPlusLowRank):
        L = L if packed.left is None else packed.left.undo(L)
        R = R if packed.right is None else packed.right.undo(R, axis=1)
    return L, R


def without_factors(packed: Any) -> np.ndarray:
    """What a packed layer is without its low-rank factors, float32."""
    if isinstance(packed, LowRank):
        return np.full(packed.shape, packed.shift, np.float32)
    if isinstance(packed, QPlusLowRank):
        return replace(packed, low_rank=None).to_dense()
    return np.asarray(packed.to_dense())
