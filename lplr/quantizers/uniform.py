"""Uniform levels: +-1/2, +-3/2, ... times a step."""

from __future__ import annotations

import numpy as np

from lplr.quantizers.scalar import ScalarCodebook, best_scale

__all__ = ["Uniform", "uniform"]


class Uniform(ScalarCodebook):
    """Uniform levels, to which arithmetic rounds instead of a search; dithered on request."""

    def encode(self, x: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Codes, uint8 of shape (...), for ``x`` of shape (..., 1), in code units.

        With a generator, rounding is dithered: unbiased within the range. Without one, each entry
        gets the nearest level.
        """
        from lplr.kernels.scalar import round_uniform

        codes = np.empty(x.shape[:-1], np.uint8)
        flat = np.ascontiguousarray(x, np.float32).reshape(-1)
        dither = flat[:0] if rng is None else rng.random(flat.size, np.float32)
        round_uniform(flat, dither, 2**self.bits - 1, codes.reshape(-1))
        return codes


def uniform(bits: int) -> Uniform:
    """The mid-rise uniform codebook of 2**bits levels, bits from 1 to 8; its scale is the step.

    The step minimises the exact mean squared error on N(0, 1). It reproduces Max (1960), for
    example 1.596 at one bit and 0.3352 at four bits.
    """
    levels = np.arange(2**bits) - (2**bits - 1) / 2
    # The best range, step * 2**bits, grows from 3.2 at one bit to 7.9 at eight bits.
    step = best_scale(levels, 2.0 / 2**bits, 9.0 / 2**bits)
    return Uniform("uniform", levels.astype(np.float32), step)
