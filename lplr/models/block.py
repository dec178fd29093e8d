"""A block of a network as a walk through stages, each with the linear layers of one input.

Everything that has to see a block from inside walks its stages: the forward pass, calibration,
which needs the inputs of every linear layer, and generation, which keeps keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from lplr.matrices.base import PackedMatrix
from lplr.parallel import matmul

__all__ = ["Block", "Context", "KeyValues", "Linear", "Stage"]

_FEW = 8  # inputs for which packed products one by one cost less than to decode the matrix

State: TypeAlias = tuple[np.ndarray, np.ndarray | None]


@dataclass
class KeyValues:
    """Keys and values of one block at all positions so far."""

    k: np.ndarray | None = None
    v: np.ndarray | None = None
    length: int = 0

    def extend(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add those of new positions, (sequences, heads, tokens, width); all of them."""
        stop = self.length + k.shape[2]
        if self.k is None or self.v is None or stop > self.k.shape[2]:
            room = (*k.shape[:2], max(64, 2 * stop), k.shape[3])
            grown = np.empty(room, k.dtype), np.empty(room, v.dtype)
            if self.k is not None and self.v is not None:
                grown[0][:, :, : self.length] = self.k[:, :, : self.length]
                grown[1][:, :, : self.length] = self.v[:, :, : self.length]
            self.k, self.v = grown
        self.k[:, :, self.length : stop] = k
        self.v[:, :, self.length : stop] = v
        self.length = stop
        return self.k[:, :, :stop], self.v[:, :, :stop]


@dataclass
class Context:
    """What a block has to know of the sequences beside their hidden states.

    ``start`` is the position of the first token, ``mask`` (sequences, tokens) says which tokens
    are no padding, and ``cache`` keeps the keys and values of this block.
    """

    start: int = 0
    mask: np.ndarray | None = None
    cache: KeyValues | None = None


@dataclass(frozen=True)
class Linear:
    """``y = W x + b``; W (outputs, inputs) is an array or a packed matrix."""

    weight: Any
    bias: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        rows = x.reshape(-1, x.shape[-1])
        if isinstance(self.weight, np.ndarray):
            y = matmul(self.weight, rows.T).T if len(rows) == 1 else rows @ self.weight.T
        elif isinstance(self.weight, PackedMatrix) and len(rows) <= _FEW:
            y = np.empty((len(rows), self.weight.shape[0]), np.float32)
            for row, out in zip(rows, y, strict=True):
                out[:] = self.weight.times(row)
        else:
            y = (self.weight @ rows.T).T
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], -1)

    def decoded(self) -> Linear:
        """The same layer with an array for its weight, for products with many inputs."""
        if isinstance(self.weight, PackedMatrix):
            return Linear(self.weight.to_dense(), self.bias)
        return self


@dataclass(frozen=True)
class Stage:
    """Linear layers that share one input, and what happens before and after them.

    With hidden states h and what the stage before has left, x, the input of the linear layers
    ``linears`` is ``inputs(h, x)``; ``apply(h, x, outputs, context)`` is the new (h, x). Where
    ``adds``, the output of the only linear layer is added to h.
    """

    linears: tuple[str, ...]
    inputs: Callable[[np.ndarray, Any], np.ndarray]
    apply: Callable[[np.ndarray, Any, list[np.ndarray], Context], State]
    adds: bool = False


@dataclass(frozen=True)
class Block:
    """Stages, and the linear layers that they name."""

    stages: tuple[Stage, ...]
    linears: Mapping[str, Linear] = field(repr=False)

    def __call__(self, h: np.ndarray, context: Context | None = None) -> np.ndarray:
        """Hidden states (sequences, tokens, width) after the block."""
        context = context or Context()
        x = None
        for stage in self.stages:
            h, x = self.step(stage, h, x, context)
        return h

    def decoded(self) -> Block:
        """The same block with arrays for its weights: decoded once, not for each sequence."""
        return Block(self.stages, {name: each.decoded() for name, each in self.linears.items()})

    def step(self, stage: Stage, h: np.ndarray, x: np.ndarray | None, context: Context) -> State:
        """One stage further."""
        found = stage.inputs(h, x)
        outputs = [self.linears[name](found) for name in stage.linears]
        return stage.apply(h, x, outputs, context)
