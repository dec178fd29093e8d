"""A block of a network as a walk through stages, each with the linear layers of one input.

Everything that has to see a block from inside walks its stages: the forward pass, calibration,
which needs the inputs of every linear layer, and generation, which keeps keys and values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from lplr.matrices.base import PackedMatrix
from lplr.parallel import matmul

__all__ = ["Block", "Context", "KeyValues", "Linear", "Stage"]

# Inputs for which packed products one by one cost less than one of all, of a matrix of so many
# entries or less, and of a larger one.
_FEW, _SMALL, _FEWER = 8, 1 << 20, 4

State: TypeAlias = tuple[np.ndarray, np.ndarray | None]
Gains: TypeAlias = dict[str, np.ndarray]
InputsBack: TypeAlias = tuple[np.ndarray | None, np.ndarray | None, Gains]
StateBack: TypeAlias = tuple[np.ndarray, np.ndarray | None, list[np.ndarray], Gains]
See: TypeAlias = Callable[[str, np.ndarray, np.ndarray], None]


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


def _few_of(weight: PackedMatrix) -> int:
    return _FEW if math.prod(weight.shape) <= _SMALL else _FEWER


@dataclass(frozen=True)
class Linear:
    """``y = scale W x + L (R x) + b``; W (outputs, inputs) is an array or a packed matrix.

    The correction (L, R) is (outputs, rank) and (rank, inputs); most layers have none.
    """

    weight: Any
    bias: np.ndarray | None = None
    correction: tuple[np.ndarray, np.ndarray] | None = None
    scale: float = 1.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        rows = x.reshape(-1, x.shape[-1])
        if isinstance(self.weight, np.ndarray):
            y = matmul(self.weight, rows.T).T if len(rows) == 1 else rows @ self.weight.T
        elif isinstance(self.weight, PackedMatrix) and len(rows) <= _few_of(self.weight):
            y = np.empty((len(rows), self.weight.shape[0]), np.float32)
            for row, out in zip(rows, y, strict=True):
                out[:] = self.weight.times(row)
        else:
            y = (self.weight @ rows.T).T
        if self.scale != 1:
            y *= np.float32(self.scale)
        if self.correction is not None:
            L, R = self.correction
            y += (rows @ R.T) @ L.T
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], -1)

    def decoded(self) -> Linear:
        """The same layer with an array for its weight, for products with many inputs."""
        if isinstance(self.weight, PackedMatrix):
            return replace(self, weight=self.weight.to_dense())
        return self

    def back(self, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, float]:
        """The gradients by x and by the scale from that by y."""
        rows = dy.reshape(-1, dy.shape[-1])
        if isinstance(self.weight, np.ndarray):
            dx = rows @ self.weight
        else:
            dx = self.weight.rmatmat(rows.T).T
        dscale = float(np.vdot(x, dx))
        if self.scale != 1:
            dx *= np.float32(self.scale)
        if self.correction is not None:
            L, R = self.correction
            dx += (rows @ L) @ R
        return dx.reshape(x.shape), dscale


@dataclass(frozen=True)
class Stage:
    """Linear layers that share one input, and what happens before and after them.

    With hidden states h and what the stage before has left, x, the input of the linear layers
    ``linears`` is ``inputs(h, x)``; ``apply(h, x, outputs, context)`` is the new (h, x). Where
    ``adds``, the output of the only linear layer is added to h.

    The way back: ``inputs_back(h, x, du)`` is (dh, dx, gains) from the gradient by the input of
    the linear layers, and ``apply_back(h, x, outputs, context, dh, dx)`` is (dh, dx, douts, gains)
    from the gradients by the new (h, x): those by the old (h, x), and by the outputs. None stands
    for a gradient that is zero. ``gains`` are the gradients of gains and biases of norms, by the
    names of their tensors within the block, summed over all tokens.
    ``outputs`` may be empty where ``linear``: what follows them is linear in them.
    """

    linears: tuple[str, ...]
    inputs: Callable[[np.ndarray, Any], np.ndarray]
    apply: Callable[[np.ndarray, Any, list[np.ndarray], Context], State]
    inputs_back: Callable[[np.ndarray, Any, np.ndarray], InputsBack]
    apply_back: Callable[[np.ndarray, Any, list[np.ndarray], Context, np.ndarray, Any], StateBack]
    adds: bool = False
    linear: bool = False


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

    def backward(
        self,
        h: np.ndarray,
        dh: np.ndarray,
        context: Context | None = None,
        see: See | None = None,
    ) -> tuple[np.ndarray, Gains]:
        """The way back through the block, which is computed anew from its input.

        Parameters
        ----------
        h : ndarray of shape (sequences, tokens, width)
            Hidden states before the block.
        dh : ndarray of shape (sequences, tokens, width)
            Gradient of a loss by the hidden states after it; zero for padding.
        context : Context, optional
            As in the forward pass, and without a cache.
        see : callable, optional
            ``see(name, u, dy)`` is called for each linear layer with its input, (sequences,
            tokens, inputs), and the gradient by its output, (sequences, tokens, outputs): that of
            its weight is the sum of ``dy u^T`` over the tokens, that of its bias the sum of dy.

        Returns
        -------
        dh : ndarray of shape (sequences, tokens, width)
            Gradient by the hidden states before the block.
        gains : dict of str to ndarray
            Gradients of gains and biases of norms, by name within the block, and of the ``scale``
            of each linear layer as ``name.scale``; summed over all tokens.
        """
        context = context or Context()
        x: np.ndarray | None = None
        passed: list[tuple[Stage, np.ndarray, Any, np.ndarray, list[np.ndarray]]] = []
        for stage in self.stages:
            u = stage.inputs(h, x)
            last = stage is self.stages[-1]
            outputs = [] if last and stage.linear else [self.linears[n](u) for n in stage.linears]
            passed.append((stage, h, x, u, outputs))
            if not last:
                h, x = stage.apply(h, x, outputs, context)
        dx: np.ndarray | None = None
        gains: Gains = {}
        while passed:
            stage, h, x, u, outputs = passed.pop()
            dh, dx, douts, found = stage.apply_back(h, x, outputs, context, dh, dx)
            gains |= found
            du: Any = None
            for name, dy in zip(stage.linears, douts, strict=True):
                if see is not None:
                    see(name, u, dy)
                part, scale = self.linears[name].back(u, dy)
                gains[f"{name}.scale"] = np.array(scale)
                du = _plus(du, part)
            by_h, by_x, found = stage.inputs_back(h, x, du)
            gains |= found
            dh, dx = _plus(dh, by_h), _plus(dx, by_x)
        return dh, gains


def _plus(a: Any, b: Any) -> Any:
    """The sum, new, of gradients of which None is zero."""
    return a + b if a is not None and b is not None else b if a is None else a
