"""What the labels of neighbours say together."""

from __future__ import annotations

import numpy as np

__all__ = ["class_shares"]


def class_shares(votes: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The share of the votes that each class has.

    Parameters
    ----------
    votes : ndarray of shape (m, k), integer
        The class of each neighbour, from 0 to ``classes - 1``.
    classes : int
    weights : ndarray of shape (m, k), optional
        What each vote counts, not negative and not zero for all of a row; by default 1.

    Returns
    -------
    ndarray of shape (m, classes), float64
        Each row adds up to 1; the first largest share is the choice, so of classes with equally
        many votes the one with the smallest number wins.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.neighbours.vote import class_shares
    >>> class_shares(np.array([[2, 0, 2, 1]]), 3)
    array([[0.25, 0.25, 0.5 ]])
    """
    m = len(votes)
    places = votes + classes * np.arange(m)[:, None]
    each = None if weights is None else weights.reshape(-1)
    counts = np.bincount(places.reshape(-1), each, minlength=m * classes).reshape(m, classes)
    return counts / counts.sum(axis=1, keepdims=True)
