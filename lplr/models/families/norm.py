"""A norm with its tensors: forward, back, and as the way from hidden states to linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lplr.models.block import Gains
from lplr.models.ops import layer_norm, rms_norm
from lplr.models.ops_backward import layer_norm_back, rms_norm_back

__all__ = ["Norm"]


@dataclass(frozen=True)
class Norm:
    """`rms_norm`, or where there is a bias `layer_norm`; gradients go by the module's ``name``."""

    name: str
    gain: np.ndarray = field(repr=False)
    bias: np.ndarray | None = field(repr=False)
    eps: float

    @classmethod
    def of(
        cls, tensors: Mapping[str, Any], prefix: str, name: str, eps: float, *, bias: bool
    ) -> Norm:
        """The norm of the module ``prefix + name``."""
        at = prefix + name
        return cls(name, tensors[f"{at}.weight"], tensors[f"{at}.bias"] if bias else None, eps)

    def __call__(self, h: np.ndarray) -> np.ndarray:
        if self.bias is None:
            return rms_norm(h, self.gain, self.eps)
        return layer_norm(h, self.gain, self.bias, self.eps)

    def back(self, h: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, Gains]:
        """The gradient by h, and those of the tensors, summed over all tokens."""
        if self.bias is None:
            dh, gain = rms_norm_back(h, self.gain, self.eps, dy)
            return dh, {f"{self.name}.weight": gain}
        dh, gain, bias = layer_norm_back(h, self.gain, self.eps, dy)
        return dh, {f"{self.name}.weight": gain, f"{self.name}.bias": bias}

    def inputs(self, h: np.ndarray, x: Any) -> np.ndarray:
        """As the inputs of a stage."""
        return self(h)

    def inputs_back(self, h: np.ndarray, x: Any, du: np.ndarray) -> tuple[np.ndarray, None, Gains]:
        """As the way back of a stage from its inputs."""
        dh, gains = self.back(h, du)
        return dh, None, gains
