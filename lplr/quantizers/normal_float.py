"""Normal float: levels at quantiles of the normal distribution, with an exact zero."""

from __future__ import annotations

import numpy as np

from lplr.quantizers.scalar import ScalarCodebook, best_scale

__all__ = ["normal_float"]


def normal_float(bits: int) -> ScalarCodebook:
    """The normal float codebook of 2**bits levels in [-1, 1] (Dettmers et al., QLoRA, 2023).

    There are 2**(bits-1) levels from -1 to 0 and 2**(bits-1) + 1 levels from 0 to 1; both groups
    contain the exact zero. Each group is equally spaced in probability and scaled so that its
    outermost level is -1 or 1. The probability beyond the outermost levels is the mean of those
    that either group alone would give. At one bit there is no room for a zero: the levels are -1
    and 1.
    """
    from scipy.special import ndtri

    half = 2 ** (bits - 1)
    if bits == 1:
        levels = np.array([-1.0, 1.0])
    else:
        tail = (1 / (2 * (2 * half - 1)) + 1 / (4 * half)) / 2
        negative = ndtri(np.linspace(tail, 0.5, half))
        positive = -ndtri(np.linspace(tail, 0.5, half + 1))[::-1]
        levels = np.concatenate([negative[:-1], [0.0], positive[1:]]) / positive[-1]

    return ScalarCodebook("normal-float", levels.astype(np.float32), best_scale(levels, 0.5, 8.0))
