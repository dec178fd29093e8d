"""What a family of networks offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lplr.exceptions import InputError
from lplr.models.block import Block, Context, Linear

__all__ = ["Family", "number"]


class Family(ABC):
    """One network of a family, as its ``config.json`` describes it.

    Attributes
    ----------
    model_types : tuple of str
        Values of ``model_type`` in config.json.
    causal : bool
        Whether it predicts the next token; else it is an encoder of texts.
    """

    model_types: ClassVar[tuple[str, ...]]
    causal: ClassVar[bool] = True
    transposed: ClassVar[bool] = False  # whether linear layers lie as (inputs, outputs) on disk

    n_blocks: int
    width: int
    vocabulary: int

    @abstractmethod
    def __init__(self, config: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the network needs, with its shape on disk."""

    def ignored(self, name: str) -> bool:
        """Whether a tensor of the checkpoint may be there though nothing uses it."""
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

    def linear(self, tensors: Mapping[str, Any], name: str) -> Linear:
        """A linear layer by the name of its module."""
        weight = tensors[f"{name}.weight"]
        if self.transposed and isinstance(weight, np.ndarray):
            weight = weight.T
        bias = f"{name}.bias"
        return Linear(weight, tensors[bias] if bias in self.tensors() else None)

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


def number(
    config: Mapping[str, Any],
    name: str,
    default: float | None = None,
    kind: type[int] | type[float] = int,
) -> Any:
    """A positive number of a configuration; InputError names what is wrong."""
    value = config.get(name)
    if value is None:
        value = default
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or not 0 < value < float("inf"):
        what = "whole number" if kind is int else "number"
        raise InputError(f"config.json: {name} must be a positive {what}, found {value!r}")
    return value
