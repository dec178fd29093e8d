"""Normal float: levels at quantiles of the normal distribution, with an exact zero."""

from __future__ import annotations

import numpy as np

from lplr.quantizers.scalar import ScalarCodebook, gaussian_mse

__all__ = ["normal_float"]


def normal_float(bits: int) -> ScalarCodebook:
    """The normal float codebook of 2**bits levels in [-1, 1] (Dettmers et al., QLoRA, 2023).

    Parameters
    ----------
    bits : int, 1 to 8

    Returns
    -------
    ScalarCodebook

    Notes
    -----
    2**(bits-1) levels are not positive and 2**(bits-1) + 1 not negative, equally spaced in
    probability, sharing an exact zero, scaled so that the outermost are -1 and 1. The outermost
    probability is the mean of those that either side alone would give. At one bit there is no
    room for a zero: the two levels are -1 and 1.

    Examples
    --------
    >>> from lplr.quantizers.normal_float import normal_float
    >>> [round(float(x), 3) for x in normal_float(4).levels[6:10]]
    [-0.091, 0.0, 0.08, 0.161]
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import ndtri

    half = 2 ** (bits - 1)
    if bits == 1:
        levels = np.array([-1.0, 1.0])
    else:
        tail = (1 / (2 * (2 * half - 1)) + 1 / (4 * half)) / 2
        negative = ndtri(np.linspace(tail, 0.5, half))
        positive = -ndtri(np.linspace(tail, 0.5, half + 1))[::-1]
        levels = np.concatenate([negative[:-1], [0.0], positive[1:]]) / positive[-1]

    def mse(scale: float) -> float:
        return gaussian_mse(levels * scale)

    scale = minimize_scalar(mse, bounds=(0.5, 8.0), method="bounded", options={"xatol": 1e-9}).x
    return ScalarCodebook("normal-float", levels.astype(np.float32), float(scale))
