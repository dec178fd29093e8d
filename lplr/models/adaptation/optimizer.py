"""AdamW with a cosine schedule, on one vector of parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["AdamW", "rate_at"]

_BETAS = (0.9, 0.95)
_EPS = 1e-8
_CLIP = 1.0  # greatest norm of a gradient that is taken as it is
_WARM_UP = 0.05  # share of the steps in which the rate rises


@dataclass
class AdamW:
    """Parameters, both moments of their gradients, and how many steps have been taken.

    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithm 2. A
    gradient longer than 1 is scaled to that length before.

    Parameters
    ----------
    theta, mean, square : ndarray of shape (n,), float32
        Changed in place.
    step : int
    """

    theta: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    step: int = 0

    def update(self, gradient: np.ndarray, rate: float, decay: np.ndarray | float = 0.0) -> float:
        """One step; returns the norm of the gradient, as it came.

        ``decay`` is that of each parameter, or of all.
        """
        norm = math.sqrt(np.einsum("i,i->", gradient, gradient, dtype=np.float64))
        gradient = gradient * np.float32(min(1.0, _CLIP / norm) if norm else 1.0)
        self.step += 1
        for moment, beta, x in zip(
            (self.mean, self.square), _BETAS, (gradient, gradient * gradient), strict=True
        ):
            moment *= np.float32(beta)
            moment += np.float32(1 - beta) * x
        first, second = (1 - beta**self.step for beta in _BETAS)
        step = np.sqrt(self.square / np.float32(second))
        step += np.float32(_EPS)
        np.divide(self.mean, step, out=step)
        step *= np.float32(rate / first)
        step += np.float32(rate) * decay * self.theta
        self.theta -= step
        return norm


def rate_at(step: int, steps: int, rate: float) -> float:
    """The learning rate of step 0, 1, ..., steps - 1: a linear rise, then half a cosine to zero."""
    warm_up = max(1, math.ceil(_WARM_UP * steps))
    if step < warm_up:
        return rate * (step + 1) / warm_up
    return rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up + 1) / (steps - warm_up + 1)))
