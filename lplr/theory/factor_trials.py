"""Trials of methods that factorize, with any quantizers: one draws the factors and their error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lplr.theory.bounds.saturation import sketch_range
from lplr.theory.own_quantizer import Family, Quantizer
from lplr.theory.records import ROUNDING, Outcome, Setting, Trial
from lplr.theory.simulate import gaussian, solve
from lplr.theory.statements.matrices import DecomposedMatrix

__all__ = ["FactorTrials"]

_FAILURE = 1e-6  # probability that a sketch leaves the range of L
_PILOTS, _ROOM = 64, 2.0  # the range of R: the median of the largest entries of pilots, doubled

Pair = tuple[Quantizer | Family, Quantizer | Family]


@dataclass
class FactorTrials:
    """A matrix, a method and the quantizers of each setting, which are fixed before any trial.

    Parameters
    ----------
    given : DecomposedMatrix
    method : {"lplr", "lplr-svd", "direct-svd"}
    quantizers : dict
        Those of L and of R, by m and bits; `fix` adds them.
    """

    given: DecomposedMatrix
    method: str
    quantizers: dict[tuple[int, int], tuple[Quantizer, Quantizer]] = field(default_factory=dict)

    def fix(self, setting: Setting, pair: Pair, rng: np.random.Generator) -> None:
        """Fix the quantizers of a setting; those that depend on a range get it from pilots."""
        A, m, bits = self.given.A, setting["m"], setting["bits"]
        left, right = pair
        if not isinstance(left, Quantizer):
            if self.method == "lplr":
                reach = sketch_range(np.linalg.norm(A, axis=1), m, _FAILURE)
            else:
                reach = float(np.abs(self._left(m, rng)).max())
            left = _made(left, bits, reach)
        if not isinstance(right, Quantizer):
            # What is not random at all needs one pilot and no room.
            alone = self.method == "direct-svd"
            largest = [
                np.abs(self._right(left(self._left(m, rng), rng), m)).max()
                for _ in range(1 if alone else _PILOTS)
            ]
            right = _made(right, bits, float(np.median(largest)) * (1 if alone else _ROOM))
        self.quantizers[m, bits] = left, right

    def facts(self, setting: Setting) -> dict[str, Any]:
        """What a bound can ask for, by name."""
        A, pair = self.given.A, self.quantizers[setting["m"], setting["bits"]]
        return {
            "A": A,
            "singular_values": self.given.sigma,
            "shape": A.shape,
            "n": A.shape[0],
            "d": A.shape[1],
            **setting,
            "k": setting["rank"],
            "steps": tuple(part.step for part in pair),
            "ranges": tuple(part.dynamic_range for part in pair),
        }

    def prepare(self, setting: Setting, _: np.random.Generator) -> Trial:
        """The trial of a setting: squared error of L R, and whether an entry saturated."""
        A, energy, m = self.given.A, self.given.energy, setting["m"]
        left, right = self.quantizers[m, setting["bits"]]

        def trial(rng: np.random.Generator) -> Outcome:
            Y = self._left(m, rng)
            L = left(Y, rng)
            W = self._right(L, m)
            error = float(np.square(A - L @ right(W, rng)).sum())
            saturated = left.saturates(Y) or right.saturates(W)
            return Outcome(error, energy, saturated, self.rounding)

        return trial

    @property
    def rounding(self) -> float:
        """A squared error below it is of floating-point arithmetic alone."""
        return float(ROUNDING**2 * self.given.energy)

    def _left(self, m: int, rng: np.random.Generator) -> np.ndarray:
        """What the quantizer of L rounds."""
        A, U, sigma, _ = self.given.A, self.given.U, self.given.sigma, self.given.V
        if self.method == "lplr":
            return A @ gaussian(A.shape[1], m, rng)
        return U[:, :m] * sigma[:m] if self.method == "lplr-svd" else U[:, :m]

    def _right(self, L: np.ndarray, m: int) -> np.ndarray:
        """What the quantizer of R rounds."""
        if self.method == "direct-svd":
            return self.given.sigma[:m, None] * self.given.V[:, :m].T
        return solve(L, self.given.A).W


def _made(family: Family, bits: int, reach: float) -> Quantizer:
    from lplr.exceptions import InputError

    made = family(bits, reach or 1.0)  # a matrix of zeros needs no range
    if not isinstance(made, Quantizer):
        raise InputError(
            f"quantizer: a function of (bits, dynamic_range) must return a Quantizer, found "
            f"{type(made).__name__}; what rounds a matrix itself goes into Quantizer(function, "
            "dynamic_range, step)"
        )
    return made
