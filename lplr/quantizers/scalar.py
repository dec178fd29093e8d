"""Scalar codebooks: a sorted list of levels, and one code word per entry."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from lplr.quantizers.block_codebook import BlockCodebook
from lplr.quantizers.packing import read_only

__all__ = ["ScalarCodebook", "best_scale", "gaussian_cells", "gaussian_mse"]


class ScalarCodebook(BlockCodebook):
    """Levels on the real line; a value is coded by its nearest level, a tie by the lower one.

    The 2**bits levels are float32 and ascend; times ``gaussian_scale`` they fit N(0, 1) best.
    """

    group = 1
    entrywise = True
    dtype = np.dtype(np.uint8)

    def __init__(self, name: str, levels: np.ndarray, gaussian_scale: float) -> None:
        self.name, self.gaussian_scale = name, gaussian_scale
        self.levels = read_only(levels)
        self.thresholds = read_only((levels[1:] + levels[:-1]) * np.float32(0.5))
        self.bits = self.width = levels.size.bit_length() - 1

    @cached_property
    def gaussian_mse(self) -> float:
        """Mean squared error on N(0, 1) at the best scale, by exact integration."""
        return gaussian_mse(self.levels * self.gaussian_scale)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Codes, uint8 of shape (...), of the levels nearest to ``x`` of shape (..., 1)."""
        from lplr.kernels.scalar import round_levels

        codes = np.empty(x.shape[:-1], np.uint8)
        flat = np.ascontiguousarray(x, np.float32).reshape(-1)
        round_levels(flat, self.thresholds, codes.reshape(-1))
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Levels, float32 of shape (..., 1)."""
        return self.levels[codes][..., None]

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Levels of some rows of a packed array of code words; see `Codebook.unpack`."""
        from lplr.kernels.bitpack import unpack_levels

        out = np.empty((rows.stop - rows.start, words[1]), np.float32)
        unpack_levels(packed, self.bits, rows.start * words[1], self.levels, out.reshape(-1))
        return out

    def panel(self, *arrays: np.ndarray) -> None:
        """Quantize a panel with feedback; see `Codebook.panel`."""
        from lplr.kernels.feedback import feedback_panel

        target, base, coeff, scale, error, codes = arrays
        feedback_panel(target, base, coeff, self.thresholds, self.levels, scale, error, codes)


def gaussian_cells(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cells of rounding x ~ N(0, 1) to k ascending levels: mass, first, density and edges.

    Each cell has a probability (mass) and a first moment E[x; x in cell]; the k + 1 edges, of which
    the first and the last are infinite, have a normal density each.
    """
    from scipy.special import ndtr

    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    density = np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi)
    lower, upper = edges[:-1], edges[1:]
    # Probabilities from the nearer tail, so that far cells keep their digits.
    mass = np.where(lower > 0, ndtr(-lower) - ndtr(-upper), ndtr(upper) - ndtr(lower))
    return mass, density[:-1] - density[1:], density, edges


def gaussian_mse(levels: np.ndarray) -> float:
    """E (x - q(x))**2 for x ~ N(0, 1) and q the nearest of ``levels``, by exact integration."""
    q = np.asarray(levels, np.float64)
    mass, first, _, _ = gaussian_cells(q)
    return float(1.0 - 2.0 * first @ q + mass @ q**2)


def best_scale(levels: np.ndarray, low: float, high: float) -> float:
    """The factor on the levels from ``low`` to ``high`` that minimises `gaussian_mse`."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda scale: gaussian_mse(levels * scale),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.x)
