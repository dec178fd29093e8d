"""Labels beside each other's curves, without overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["apart"]


def apart(wanted: Sequence[float] | np.ndarray, gap: float) -> np.ndarray:
    """The heights nearest to the wanted ones that are at least ``gap`` apart, from 0 to 1.

    Parameters
    ----------
    wanted : array_like of shape (k,), ascending
    gap : float

    Returns
    -------
    ndarray of shape (k,), ascending

    Notes
    -----
    Least squares under ``h[i + 1] - h[i] >= gap`` is an isotonic regression of
    ``wanted[i] - i gap``. More labels than 1 has room for go on below 0.

    Examples
    --------
    >>> from lplr.evaluation.labels import apart
    >>> apart([0.1, 0.5, 0.5], 0.2).round(2).tolist()
    [0.1, 0.4, 0.6]
    """
    from scipy.optimize import isotonic_regression

    steps = gap * np.arange(len(wanted))
    heights = isotonic_regression(np.asarray(wanted) - steps).x + steps
    return np.minimum(np.maximum(heights, steps), 1.0 - steps[::-1])
