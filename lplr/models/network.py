"""A network: a family and its tensors, of which any linear layer may be a packed matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.models.block import Block, Context
from lplr.models.families.base import Family

__all__ = ["Network"]


class Network:
    """A network that predicts, from tensors that are arrays or packed matrices.

    Parameters
    ----------
    family : Family
    tensors : mapping of str to array or packed matrix
        By their names on disk; looked up when a block is asked for.
    """

    def __init__(self, family: Family, tensors: Mapping[str, Any]) -> None:
        self.family, self.tensors = family, tensors

    def block(self, i: int) -> Block:
        """Block i; its tensors are read now."""
        return self.family.block(self.tensors, i)

    def embed(self, ids: np.ndarray, context: Context | None = None) -> np.ndarray:
        """Hidden states (sequences, tokens, width) before the first block."""
        return self.family.embed(self.tensors, ids, context or Context())

    def head(self, h: np.ndarray) -> np.ndarray:
        """Logits (sequences, tokens, vocabulary) of the hidden states after the last block."""
        return self.family.head(self.tensors, h)
