"""Calibration overfit: the error on inputs that the Hessian was not made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.base import Artefact
from lplr.validation import check_matrix, check_rng

__all__ = ["Overfit", "calibration_overfit"]


class Overfit(NamedTuple):
    """Errors under the second moments of two halves of the inputs.

    Parameters
    ----------
    inside : float
        ``sqrt(tr(E H E^T) / tr(W H W^T))`` on the half that was fitted to, H undamped.
    outside : float
        On the other half.

    Examples
    --------
    >>> from lplr.evaluation.overfit import Overfit
    >>> round(Overfit(0.10, 0.11).ratio, 3)
    1.1
    """

    inside: float
    outside: float

    @property
    def ratio(self) -> float:
        """``outside / inside``."""
        return self.outside / self.inside


def calibration_overfit(
    W: Any, inputs: Any, fit: Callable[[np.ndarray, np.ndarray], Artefact], *, rng: Any = None
) -> Overfit:
    """Compress W for one half of the inputs and measure the error on both halves.

    Parameters
    ----------
    W : array_like of shape (n, d)
    inputs : array_like of shape (m, d)
        Of the layer, one a row; split at random.
    fit : callable
        Given W and the second moment of a half, returns the compressed matrix.
    rng : int, numpy.random.Generator or None

    Returns
    -------
    Overfit

    Raises
    ------
    InputError
        If W and inputs do not fit, or there are less than two inputs.

    Examples
    --------
    Sentence embeddings as the inputs of a layer:

    >>> import lplr
    >>> from lplr.evaluation.overfit import calibration_overfit
    >>> X = lplr.datasets.text_embeddings().embeddings
    >>> W = lplr.datasets.layer("minilm_l2_query").W[:64]
    >>> found = calibration_overfit(
    ...     W, X, lambda W, H: lplr.compress(W, hessian=H, bits_per_entry=2, rng=0), rng=0
    ... )
    >>> 1 < found.ratio < 1.2
    True
    """
    W = check_matrix(W, "W")
    X = check_matrix(inputs, "inputs")
    m, d = X.shape
    if d != W.shape[1] or m < 2:
        raise InputError(
            f"inputs: must be two or more rows of {W.shape[1]} entries, found {X.shape}"
        )
    order = check_rng(rng).permutation(m)
    halves = [X[np.sort(part)].astype(np.float64) for part in (order[: m // 2], order[m // 2 :])]
    H, other = (part.T @ part / len(part) for part in halves)
    f = fit(W, H)
    return Overfit(f.relative_error(W, H), f.relative_error(W, other))
