"""Angles of rotary positions, with the scalings that checkpoints ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.families.config import number

__all__ = ["Rotary"]

_WIDEST = 1 << 16  # a hundred times that of any network, and its frequencies take little memory


class Rotary:
    """Cosines and sines of position times frequency.

    Entry i of a head turns with frequency ``theta**(-2 i / width)``. Scaling "linear" divides all
    frequencies by a factor; "llama3" only the slow ones, with a smooth passage (Llama 3.1).
    """

    def __init__(self, config: Mapping[str, Any], width: int) -> None:
        if width > _WIDEST:
            raise InputError(f"config.json: heads of the width {width} are not supported")
        key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
        scaling = config.get(key) or {}
        if not isinstance(scaling, Mapping):
            raise InputError(f"config.json: {key} must be an object, found {scaling!r}")
        if any(isinstance(value, Mapping) for value in scaling.values()):
            raise InputError(f"config.json: {key} of several kinds of layers is not supported")
        scaling = {**config, **scaling}
        if number(scaling, "partial_rotary_factor", 1.0, float) != 1:
            raise InputError("config.json: partial_rotary_factor other than 1 is not supported")
        theta = number(scaling, "rope_theta", 10000.0, float)
        frequencies = theta ** -(np.arange(0, width, 2) / width)
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        if kind == "linear":
            frequencies = frequencies / number(scaling, "factor", None, float)
        elif kind == "llama3":
            frequencies = _llama3(frequencies, scaling)
        elif kind != "default":
            raise InputError(
                f"config.json: {key} of type {kind!r} is unknown; there are default, linear, llama3"
            )
        self.frequencies = frequencies
        self._tables = np.empty((2, 0, width // 2), np.float32)

    def tables(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines at positions ``start`` to ``stop``, (tokens, width / 2), float32."""
        tables = self._tables
        if stop > tables.shape[1]:
            angles = np.outer(np.arange(max(stop, 2 * tables.shape[1])), self.frequencies)
            tables = self._tables = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
        return tables[0, start:stop], tables[1, start:stop]


def _llama3(frequencies: np.ndarray, scaling: Mapping[str, Any]) -> np.ndarray:
    factor = number(scaling, "factor", None, float)
    low = number(scaling, "low_freq_factor", None, float)
    high = number(scaling, "high_freq_factor", None, float)
    if not low < high:
        raise InputError(
            f"config.json: low_freq_factor {low} must be below high_freq_factor {high}"
        )
    longest = scaling.get("max_position_embeddings")
    context = number(scaling, "original_max_position_embeddings", longest)
    turns = context * frequencies / (2 * np.pi)  # within the context of the first training
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return frequencies * ((1 - smooth) / factor + smooth)
