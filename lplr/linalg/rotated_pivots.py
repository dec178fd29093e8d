"""Expected LDL pivots of a diagonal matrix after a random rotation.

The pivot after a fraction t of the columns is the energy of a random direction that the t m
directions before it leave unexplained. For large m it is ``w t / (1 - t)``, where w solves
``mean(spectrum / (spectrum + w)) = t`` (the deterministic equivalent of ridgeless regression on
random directions): the arithmetic mean at t = 0 and the harmonic mean at t = 1. On 200 components
of Fashion-MNIST the sum of the pivots is 0.98 of a sampled value.
"""

from __future__ import annotations

import numpy as np

__all__ = ["BlockEnergies", "expected_pivot_sum"]


def expected_pivot_sum(spectrum: np.ndarray) -> float:
    """Expected sum of the LDL pivots of G^T diag(spectrum) G, G a random rotation, spectrum > 0."""
    top = float(spectrum.max())
    x = spectrum / top
    w = np.geomspace(x.min() * 1e-4, 1e4, 60)[::-1]
    t = (x[:, None] / (x[:, None] + w)).mean(axis=0)
    return len(x) * top * float(_mean_pivot(w, t, x.mean(), 1 / (1 / x).mean()))


def _mean_pivot(
    w: np.ndarray, t: np.ndarray, arithmetic: np.ndarray, harmonic: np.ndarray
) -> np.ndarray:
    """The integral of ``w t / (1 - t)`` over t from 0 to 1; t rises along the first axis."""
    ends = np.ones((1, *t.shape[1:]))
    pivot = np.concatenate([arithmetic * ends, w * t / (1 - t), harmonic * ends])
    return np.trapezoid(pivot, np.concatenate([0 * ends, t, ends]), axis=0)


class BlockEnergies:
    """The energy of blocks of singular components that the relative error of their codes scales.

    For a block that is rotated at random, with Sigma^(1/2) on either side of the rotation, it is
    ``mean(s) p(s)``, p the expected sum of pivots; s > 0 is descending. Cumulated sums over the
    components make a block as cheap as one component.
    """

    def __init__(self, s: np.ndarray) -> None:
        s = np.maximum(np.asarray(s, np.float64), s[0] * 1e-6)
        decades = int(np.log10(s[0] / s[-1])) + 9
        self._w = np.geomspace(s[-1] * 1e-4, s[0] * 1e4, 8 * decades)[::-1, None]
        self._cumulated = _from_zero(s / (s + self._w))
        self._sum, self._inverse = _from_zero(s), _from_zero(1 / s)

    def __call__(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Energies of the blocks [start, stop), float64 of the shape of both."""
        count = stop - start
        mean = (self._sum[stop] - self._sum[start]) / count
        t = (self._cumulated[:, stop] - self._cumulated[:, start]) / count
        harmonic = count / (self._inverse[stop] - self._inverse[start])
        return mean * count * _mean_pivot(self._w, t, mean, harmonic)


def _from_zero(x: np.ndarray) -> np.ndarray:
    """Cumulated sums along the last axis, the first one 0."""
    return np.concatenate([np.zeros((*x.shape[:-1], 1)), np.cumsum(x, axis=-1)], axis=-1)
