"""What a family of networks offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lplr.models.block import Block, Context, Linear, Stage, State

__all__ = ["Family", "added", "rows_of"]


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

    @abstractmethod
    def head(self, tensors: Mapping[str, Any], h: np.ndarray) -> np.ndarray:
        """Logits of the last hidden states; of an encoder, its last hidden states."""

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


def added(name: str, then: Callable[[np.ndarray], np.ndarray] = lambda h: h) -> Stage:
    """The stage of one linear layer whose output is added to h; ``then`` is of the sum."""

    def add(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
        return then(h + outputs[0]), None

    return Stage((name,), lambda h, x: x, add, adds=True)


def rows_of(tensor: Any, ids: np.ndarray) -> np.ndarray:
    """Rows of an array or packed matrix, (sequences, tokens, width), float32, new."""
    return np.array(tensor[ids.reshape(-1)], np.float32).reshape(*ids.shape, -1)
