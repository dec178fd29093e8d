"""The one gate for Hessians: a second moment, its diagonal, calibration inputs, or nothing."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lplr.exceptions import DampingWarning, HessianError, InputError
from lplr.parallel import matmul
from lplr.validation import check_matrix

__all__ = ["LADDER", "check_hessian", "regularize"]

# Shares of the mean diagonal that are tried, one after the other, once the asked one fails.
LADDER = (1e-8, 1e-6, 1e-4, 1e-2, 1e-1)
# Least eigenvalue asked for, of the mean diagonal: factorizations in another basis or another
# order then succeed in spite of rounding, whose size grows with the square of the order.
_MARGIN = 1e-9
_SYMMETRY = 1e-5  # of the norm: what a second moment summed in float32 may miss


def check_hessian(hessian: Any, d: int) -> np.ndarray:
    """The Hessian that an argument stands for.

    Parameters
    ----------
    hessian : array_like of shape (d, d), (d,) or (m, d), or None
        A symmetric second moment, its diagonal, or calibration inputs X, one a row, of which
        ``X^T X / m`` is taken; None is the identity. A (d, d) array is a second moment.
    d : int
        Columns of the matrix to compress.

    Returns
    -------
    ndarray of shape (d, d), float64, exactly symmetric

    Raises
    ------
    InputError
        If it is not a finite real array of such a shape.
    HessianError
        If it is zero, not symmetric within 1e-5 of its norm, or has a negative diagonal entry.

    Warns
    -----
    DampingWarning
        If there are fewer calibration inputs than columns, so that H is singular.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.hessian import check_hessian
    >>> check_hessian(np.array([1.0, 4.0]), 2)
    array([[1., 0.],
           [0., 4.]])
    """
    if hessian is None:
        return np.eye(d)
    if np.ndim(hessian) == 1:
        diagonal = check_matrix(np.reshape(hessian, (1, -1)), "hessian", dtype=np.float64)[0]
        if diagonal.shape != (d,):
            raise InputError(f"hessian: a diagonal must have {d} entries, found {len(diagonal)}")
        return _check_diagonal(np.diag(diagonal))
    H = check_matrix(hessian, "hessian", dtype=np.float64)
    m = H.shape[0]
    if H.shape[1] != d:
        raise InputError(
            f"hessian: must have shape ({d}, {d}), ({d},) or (m, {d}) for calibration inputs, "
            f"found {H.shape}"
        )
    if m != d:
        if m < d:
            warnings.warn(
                f"hessian: {m} calibration inputs for {d} columns leave directions unseen; "
                "damping decides there, more inputs are better",
                DampingWarning,
                stacklevel=3,
            )
        H = matmul(H.T, H) / m
    elif np.linalg.norm(H - H.T) > _SYMMETRY * np.linalg.norm(H):
        raise HessianError(
            "hessian: is not symmetric; pass a second moment, or calibration inputs with more "
            f"rows than its {d} columns"
        )
    return _check_diagonal((H + H.T) / 2)


def _check_diagonal(H: np.ndarray) -> np.ndarray:
    diagonal = np.diagonal(H)
    if diagonal.min() < 0:
        k = int(diagonal.argmin())
        raise HessianError(
            f"hessian: entry ({k}, {k}) is {diagonal[k]:.3g}; a second moment has no negative one"
        )
    if diagonal.max() == 0:
        raise HessianError("hessian: is zero; pass None to weigh all columns alike")
    return H


def regularize(H: np.ndarray, damping: float) -> tuple[np.ndarray, float]:
    """H over its mean diagonal, plus the least damping that makes it positive definite.

    Parameters
    ----------
    H : ndarray of shape (d, d), float64, symmetric
    damping : float
        Share of the mean diagonal that is added in any case.

    Returns
    -------
    H : ndarray of shape (d, d), float64
    damping : float
        What was added: the asked value, or the first sufficient step of `LADDER`.

    Raises
    ------
    HessianError
        If it is still indefinite at the last step.

    Warns
    -----
    DampingWarning
        If more than the asked damping was needed.
    """
    from scipy.linalg import cholesky

    H = H / np.mean(np.diagonal(H))
    diagonal = np.diagonal(H).copy()
    margin = _MARGIN + np.finfo(np.float64).eps * len(H) ** 2
    for share in (damping, *(step for step in LADDER if step > damping)):
        np.fill_diagonal(H, diagonal + (share - margin))
        try:
            cholesky(H, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        np.fill_diagonal(H, diagonal + share)
        if share > damping:
            warnings.warn(
                f"hessian: is not positive definite; added {share:g} of its mean diagonal",
                DampingWarning,
                stacklevel=3,
            )
        return H, share
    raise HessianError(
        f"hessian: has eigenvalues below -{LADDER[-1]:g} of its mean diagonal; it is not a second "
        "moment"
    )
