"""Sixteen bits per entry: the entry itself, as float16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.block_codebook import BlockCodebook

__all__ = ["Half"]

_BLOCK = 1 << 20  # entries that are looked at together


@dataclass(frozen=True)
class Half(BlockCodebook):
    """Float16 as a codebook: a code word is the bit pattern of the value.

    Every scalar quantizer has this codebook at 16 bits, under its own name.
    """

    name: str

    bits = width = 16
    group = 1
    entrywise = True
    dtype = np.dtype(np.uint16)
    gaussian_scale = 1.0
    # The sum over e of P(2**e <= |x| < 2**(e+1)) 2**(2e-20) / 12, the variance of the rounding
    # error between 2**e and 2**(e+1).
    gaussian_mse = 4.314e-8

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse what is not a packed array of finite values; see `Codebook.check_packed`.

        This is the only codebook that has points which are no finite numbers.
        """
        packed = super().check_packed(packed, length, count)
        for start in range(0, packed.size, 2 * _BLOCK):
            if not np.isfinite(packed[start : start + 2 * _BLOCK].view("<f2")).all():
                raise InputError("packed codes: a value of 16 bits is infinite or not a number")
        return packed

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Bit patterns, uint16 of shape (...), of ``x`` of shape (..., 1)."""
        return x[..., 0].astype(np.float16).view(np.uint16)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values, float32 of shape (..., 1)."""
        return codes.view(np.float16).astype(np.float32)[..., None]

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Values of some rows of a packed array; see `Codebook.unpack`."""
        part = packed[2 * words[1] * rows.start : 2 * words[1] * rows.stop].view("<f2")
        return part.astype(np.float32).reshape(-1, words[1])

    def panel(self, *arrays: np.ndarray) -> None:
        """Quantize a panel with feedback; see `Codebook.panel`."""
        target, base, coeff, scale, error, codes = arrays
        for k in range(len(target) - 1, -1, -1):
            y = target[k] + coeff[k + 1 :, k] @ error[k + 1 :]
            s = scale[k]
            codes[k] = self.encode((y / s if s > 0 else np.zeros_like(y))[:, None])
            error[k] = base[k] - s * self.decode(codes[k])[:, 0]
