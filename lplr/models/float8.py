"""Scales of weights of 8 bits, as other tensors of the checkpoint hold them.

A weight ``x.weight`` has its scales in ``x.weight_scale`` or, of DeepSeek, ``x.weight_scale_inv``:
one for the tensor, one a row or one a block, by default of 128 x 128; the weight is code times
scale in each case. ``x.input_scale`` serves engines that round the inputs too, and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.base import TensorInfo

__all__ = ["apply_scale", "block_of", "scales_of"]

_FLOAT8 = ("F8_E4M3", "F8_E5M2")
_METHODS = ("fp8", "fbgemm_fp8", "compressed-tensors")  # these may be floats of 8 bits


def scales_of(
    where: str, config: Mapping[str, Any], infos: Mapping[str, TensorInfo]
) -> tuple[dict[str, str], set[str]]:
    """The scale tensor of each weight that has one, and all tensors that serve others.

    InputError names a weight whose scale is missing, of a wrong shape or for another dtype, and
    a way of quantization that is not read.
    """
    quantization = config.get("quantization_config") or {}
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    if quantization and method not in _METHODS:
        raise InputError(
            f"{where}: its weights are quantized by {method!r}, which is not read; give the "
            "checkpoint that it was made from"
        )
    block = block_of(where, config)
    scales: dict[str, str] = {}
    helpers: set[str] = set()
    for name, info in infos.items():
        if not name.endswith(".weight"):
            continue
        found = [name + end for end in ("_scale", "_scale_inv") if name + end in infos]
        if not found and info.dtype in _FLOAT8 and quantization:
            raise InputError(f"{where}: {name!r} is {info.dtype}, and its scale is not there")
        if not found:
            continue
        scale = infos[found[0]].shape
        if info.dtype not in _FLOAT8:
            raise InputError(
                f"{where}: {name!r} is {info.dtype} and has scales, which are read of floats of 8 "
                "bits only; give the checkpoint that it was made from"
            )
        if _kind(info.shape, scale, block) is None:
            raise InputError(
                f"{where}: {found[0]!r} has the shape {scale}, which is none for a weight of "
                f"{info.shape} by tensor, row or block of {block[0]} x {block[1]}"
            )
        scales[name] = found[0]
        helpers |= {*found, name.removesuffix("weight") + "input_scale"}
    return scales, helpers


def block_of(where: str, config: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns that share a scale, where it is neither one a tensor nor one a row."""
    quantization = config.get("quantization_config")
    found = quantization.get("weight_block_size") if isinstance(quantization, dict) else None
    if found is None:
        return 128, 128
    if not (isinstance(found, list) and len(found) == 2 and all(_is_size(v) for v in found)):
        raise InputError(f"{where}: config.json: weight_block_size must be two sizes, not {found}")
    return found[0], found[1]


def apply_scale(weight: np.ndarray, scale: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """The float32 weight of codes and scales; both are float32, and the codes are overwritten."""
    kind = _kind(weight.shape, scale.shape, block)
    if kind == "tensor":
        weight *= scale.reshape(())
    elif kind == "row":
        weight *= scale.reshape(-1, 1)
    else:
        rows = scale.repeat(block[0], axis=0)[: weight.shape[0]]
        for j in range(scale.shape[1]):  # not the full matrix of scales
            weight[:, j * block[1] : (j + 1) * block[1]] *= rows[:, j : j + 1]
    return weight


def _kind(weight: tuple[int, ...], scale: tuple[int, ...], block: tuple[int, int]) -> str | None:
    if math.prod(scale) == 1:
        return "tensor"
    if len(weight) == 2 and scale in ((weight[0],), (weight[0], 1)):
        return "row"
    blocks = tuple(-(-n // size) for n, size in zip(weight, block, strict=False))
    return "block" if len(weight) == 2 and scale == blocks else None


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0
