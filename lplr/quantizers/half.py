"""Sixteen bits: the entry itself, as float16."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lplr.quantizers.words import Words

__all__ = ["Half"]


@dataclass(frozen=True)
class Half(Words):
    """Float16 as a codebook: a code is the bit pattern of the value.

    Parameters
    ----------
    name : str
        The scalar quantizer that it is the 16-bit member of.
    """

    name: str
    bits: int = field(default=16, init=False)
    width: int = field(default=16, init=False)
    group: int = field(default=1, init=False)
    entrywise: bool = field(default=True, init=False)
    dtype: np.dtype = field(default=np.dtype(np.uint16), init=False)
    gaussian_scale: float = field(default=1.0, init=False)
    # Sum over binades e of P(2**e <= |x| < 2**(e+1)) times 2**(2e-20) / 12, the variance there.
    gaussian_mse: float = field(default=4.314e-8, init=False)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Bit patterns, uint16 of shape (...), of ``x`` of shape (..., 1)."""
        return x[..., 0].astype(np.float16).view(np.uint16)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values, float32 of shape (..., 1)."""
        return codes.view(np.float16).astype(np.float32)[..., None]

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Values of some rows of a packed array of code words; see `Codebook.unpack`."""
        part = packed[2 * words[1] * rows.start : 2 * words[1] * rows.stop].view("<f2")
        return part.astype(np.float32).reshape(-1, words[1])

    def panel(
        self,
        target: np.ndarray,
        base: np.ndarray,
        coeff: np.ndarray,
        scale: np.ndarray,
        error: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        """Feedback-quantize a panel; see `lplr.kernels.feedback.feedback_panel`."""
        for k in range(len(target) - 1, -1, -1):
            y = target[k] + coeff[k + 1 :, k] @ error[k + 1 :]
            s = scale[k]
            codes[k] = self.encode((y / s if s > 0 else np.zeros_like(y))[:, None])
            error[k] = base[k] - s * self.decode(codes[k])[:, 0]
