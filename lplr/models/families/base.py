"""What a family of networks offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np

from lplr.models.block import Block, Context, Gains, Linear, Stage, State, StateBack
from lplr.models.families.norm import Norm
from lplr.models.ops import ACTIVATIONS
from lplr.models.ops_backward import activation_back

__all__ = ["Family", "Loss", "activated", "added", "rows_of"]

Loss: TypeAlias = Callable[[np.ndarray, slice], tuple[float, np.ndarray]]

_TOKENS, _LOGITS = 256, 1 << 26  # of a slice in the head, and bytes of its logits, at most


class Family(ABC):
    """One network of a family, as its ``config.json`` describes it.

    Attributes
    ----------
    model_types : tuple of str
        Values of ``model_type`` in config.json.
    causal : bool
        Whether it predicts the next token; else it is an encoder of texts.
    n_blocks, width, vocabulary : int
    max_tokens : int or None
        The longest sequence, where positions are learned; None where there is no limit.
    longest_text : int or None
        Of an encoder: the tokens to which texts are cut, at most ``max_tokens``.
    tied_tensors : (str, str) or None
        Head and embedding, where the configuration says that they are one matrix.
    """

    model_types: ClassVar[tuple[str, ...]]
    causal: ClassVar[bool] = True
    transposed: ClassVar[bool] = False  # whether linear layers lie as (inputs, outputs) on disk

    n_blocks: int
    width: int
    vocabulary: int
    max_tokens: int | None = None
    longest_text: int | None = None
    tied_tensors: tuple[str, str] | None = None

    @abstractmethod
    def __init__(self, config: Mapping[str, Any]) -> None: ...

    @classmethod
    def canonical(cls, name: str) -> str:
        """The name that is used here for a tensor that a checkpoint may call otherwise."""
        return name

    @abstractmethod
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the network needs, with its shape on disk."""

    def ignored(self, name: str) -> bool:
        """Whether a tensor of the checkpoint may be there though nothing uses it."""
        return False

    def carried(self, name: str) -> bool:
        """Whether such a tensor goes along in what is written, for other programs."""
        return False

    @abstractmethod
    def prefix(self, i: int) -> str:
        """What the names of block i begin with."""

    @abstractmethod
    def block(self, tensors: Mapping[str, Any], i: int) -> Block:
        """Block i."""

    @abstractmethod
    def embed(self, tensors: Mapping[str, Any], ids: np.ndarray, context: Context) -> np.ndarray:
        """Hidden states before the first block, (sequences, tokens, width), of token ids."""

    def last(self, tensors: Mapping[str, Any]) -> tuple[Norm, Any] | None:
        """The norm after the last block, and the matrix of the logits; None of an encoder."""
        return None

    def head(self, tensors: Mapping[str, Any], h: np.ndarray) -> np.ndarray:
        """Logits of the last hidden states; of an encoder, its last hidden states."""
        last = self.last(tensors)
        return h if last is None else Linear(last[1])(last[0](h))

    def head_back(
        self, tensors: Mapping[str, Any], h: np.ndarray, loss: Loss
    ) -> tuple[float, np.ndarray, Gains]:
        """A loss of the last hidden states, and the way back to them, some tokens at a time.

        Parameters
        ----------
        tensors : mapping of str to array or packed matrix
            A packed matrix of the logits is decoded, once a call.
        h : ndarray of shape (tokens, width)
            Hidden states after the last block.
        loss : callable
            ``loss(logits, part)`` is (the loss, its gradient by the logits) of the tokens ``part``,
            a slice; it may overwrite the logits. See `lplr.models.losses`. Of an encoder it gets
            all hidden states in place of logits.

        Returns
        -------
        loss : float
            The sum.
        dh : ndarray of shape (tokens, width)
        gains : dict of str to ndarray
            Gradients of the tensors of the last norm, by their full names.
        """
        last = self.last(tensors)
        if last is None:
            return *loss(h.copy(), slice(0, len(h))), {}
        norm, linear = last[0], Linear(last[1]).decoded()
        total, dh = 0.0, np.empty_like(h)
        gains: Gains = {}
        step = max(1, min(_TOKENS, _LOGITS // (4 * self.vocabulary)))
        for start in range(0, len(h), step):
            part = slice(start, start + step)
            u = norm(h[part])
            value, dlogits = loss(linear(u), part)
            total += value
            dh[part], found = norm.back(h[part], linear.back(u, dlogits)[0])
            for name, gain in found.items():
                gains[name] = gains[name] + gain if name in gains else gain
        return total, dh, gains

    def pool(self, h: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Of an encoder: one embedding for each text, (texts, width), of the last hidden states."""
        raise NotImplementedError

    def of_stages(self, tensors: Mapping[str, Any], i: int, stages: tuple[Stage, ...]) -> Block:
        """Block i of these stages, with the linear layers that they name."""
        linears = {}
        for name in (name for stage in stages for name in stage.linears):
            weight = tensors[f"{self.prefix(i)}{name}.weight"]
            if self.transposed and isinstance(weight, np.ndarray):
                weight = weight.T
            bias = f"{self.prefix(i)}{name}.bias"
            linears[name] = Linear(weight, tensors[bias] if bias in self._names else None)
        return Block(stages, linears)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.tensors())

    def stages(self, i: int) -> list[tuple[str, ...]]:
        """Modules of the linear layers of block i that share an input, in order."""
        stages = self.block(_Names(), i).stages
        return [tuple(self.prefix(i) + name for name in stage.linears) for stage in stages]

    def linears(self, i: int) -> dict[str, tuple[int, int]]:
        """Modules of the linear layers of block i, with (outputs, inputs), in order."""
        shapes = self.tensors()
        found = {}
        for name in self.block(_Names(), i).linears:
            shape = shapes[f"{self.prefix(i)}{name}.weight"]
            n, d = shape[::-1] if self.transposed else shape
            found[self.prefix(i) + name] = (n, d)
        return found


class _Names(dict[str, Any]):
    """Stands for tensors where only the structure of a block is asked for."""

    def __missing__(self, name: str) -> Any:
        return None


def added(name: str, then: Norm | None = None) -> Stage:
    """The stage of one linear layer whose output is added to h; ``then`` is of the sum."""

    def add(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
        h = h + outputs[0]
        return h if then is None else then(h), None

    def add_back(
        h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context, dh: np.ndarray, dx: Any
    ) -> StateBack:
        dh, gains = (dh, {}) if then is None else then.back(h + outputs[0], dh)
        return dh, None, [dh], gains

    return Stage(
        (name,),
        lambda h, x: x,
        add,
        lambda h, x, du: (None, du, {}),
        add_back,
        adds=True,
        linear=then is None,
    )


def activated(name: str) -> tuple[Callable[..., State], Callable[..., StateBack]]:
    """Apply and back of the stage whose only output goes through this activation."""

    def apply(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
        return h, ACTIVATIONS[name](outputs[0])

    def back(
        h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context, dh: np.ndarray, dx: Any
    ) -> StateBack:
        return dh, None, [activation_back(name, outputs[0], dx)], {}

    return apply, back


def rows_of(tensor: Any, ids: np.ndarray) -> np.ndarray:
    """Rows of an array or packed matrix, (sequences, tokens, width), float32, new."""
    return np.array(tensor[ids.reshape(-1)], np.float32).reshape(*ids.shape, -1)
