"""The one gate for Hessians: a second moment, its diagonal or calibration inputs; and damping."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import DampingWarning, HessianError, InputError
from lplr.linalg.symmetric import add_to_diagonal, divide, symmetrized
from lplr.linalg.triangular import cholesky
from lplr.parallel import matmul
from lplr.validation.arguments import check_integer, check_real, warn_caller
from lplr.validation.matrices import LARGEST, check_matrix

__all__ = [
    "DAMPING",
    "DAMPING_STEPS",
    "check_hessian",
    "regularize",
    "regularized",
    "regularized_output",
]

DAMPING = 0.01  # share of the mean diagonal that is added by default
# Shares that are tried, one after the other, once the asked one fails.
DAMPING_STEPS = (1e-8, 1e-6, 1e-4, 1e-2, 1e-1)
# Least eigenvalue asked for, over the mean diagonal: factorizations in another basis or another
# order then succeed in spite of rounding, which grows with the square of the number of columns.
_MARGIN = 1e-9
_COARSE = 1e-3  # share of which float32 can tell the half from rounding
# What the rows of an argument are that is no moment, and what its entries weigh.
_WORDS = {
    "hessian": ("calibration inputs", "columns"),
    "output_hessian": ("output gradients", "rows"),
}
_SYMMETRY = 1e-5  # of the norm: what a second moment summed in float32 may miss


def check_hessian(hessian: Any, columns: int | None = None, name: str = "hessian") -> np.ndarray:
    """The Hessian that an argument stands for; every function that takes one asks here.

    The argument is a symmetric second moment (d, d), its diagonal (d,), or calibration inputs X
    (m, d), one per row, which stand for ``X^T X / m``; a (d, d) array is a second moment. The
    result is float64 and exactly symmetric, or a diagonal (d,). InputError refuses what is no
    finite real array of such a shape; HessianError refuses zero, a moment that is not symmetric
    within 1e-5 of its norm, a negative diagonal entry, and an eigenvalue below -0.1 of the mean
    diagonal. DampingWarning says that there are fewer inputs than columns, so that H is singular.
    All of them call the argument ``name``.
    """
    H = _as_moment(hessian, columns, name)
    if np.shape(hessian) == H.shape and H.ndim == 2:  # else it has no negative eigenvalue
        shift = DAMPING_STEPS[-1] * np.trace(H) / len(H)
        if not _is_positive_definite(H, shift):
            raise _indefinite(name)
    return H


def _as_moment(hessian: Any, columns: int | None, name: str = "hessian") -> np.ndarray:
    """What `check_hessian` returns, before its eigenvalues are checked."""
    samples, sides = _WORDS[name]
    try:
        shape = np.shape(hessian)
        columns = shape[-1] if columns is None else columns
    except (IndexError, ValueError):
        found = type(hessian).__name__
        raise InputError(f"{name}: must be a matrix or a diagonal, found {found}") from None
    if len(shape) == 1:
        diagonal = check_matrix(np.reshape(hessian, (1, -1)), name, dtype=np.float64)[0]
        if diagonal.shape != (columns,):
            raise InputError(
                f"{name}: a diagonal must have {columns} entries, found {len(diagonal)}"
            )
        _check_diagonal(diagonal, name)
        return diagonal
    H = check_matrix(hessian, name, dtype=np.float64)
    m, d = H.shape
    if d != columns:
        raise InputError(
            f"{name}: must have shape ({columns}, {columns}), ({columns},) or (m, {columns}) for "
            f"{samples}, found {H.shape}"
        )
    if m != d:
        if m < d:
            warn_caller(
                f"{name}: {m} {samples} for {d} {sides} leave directions without weight, in which "
                "errors go unseen; more are better",
                DampingWarning,
            )
        H = matmul(H.T, H) / m
        _check_diagonal(np.diagonal(H), name)
        return symmetrized(H, overwrite=True)[0]
    mean, skew = symmetrized(H)
    if skew > _SYMMETRY:
        raise HessianError(
            f"{name}: is not symmetric; pass a second moment, or {samples} with more or fewer rows "
            f"than its {d} columns"
        )
    _check_diagonal(np.diagonal(H), name)
    return mean


def _indefinite(name: str = "hessian") -> HessianError:
    return HessianError(
        f"{name}: has eigenvalues below -{DAMPING_STEPS[-1]:g} of its mean diagonal; it is not a "
        "second moment"
    )


def _check_diagonal(diagonal: np.ndarray, name: str) -> None:
    if diagonal.min() < 0:
        k = int(diagonal.argmin())
        raise HessianError(
            f"{name}: entry ({k}, {k}) is {diagonal[k]:.3g}; a second moment has no negative one"
        )
    if diagonal.max() == 0:
        raise HessianError(f"{name}: is zero; leave it out to weigh all {_WORDS[name][1]} alike")


def _is_positive_definite(H: np.ndarray, shift: float, dtype: type = np.float64) -> bool:
    """Whether ``H + shift I`` is, to the working precision of a dtype."""
    try:
        cholesky(add_to_diagonal(H, shift, dtype), overwrite=True)
    except np.linalg.LinAlgError:
        return False
    return True


def _suffices(H: np.ndarray, share: float) -> bool:
    """Whether so much damping makes H, of mean diagonal 1, positive definite with a margin.

    Float32 takes half of the time, and what it says of half of a share that it can tell from
    rounding holds for the whole.
    """
    if share >= _COARSE and _is_positive_definite(H, share / 2, np.float32):
        return True
    return _is_positive_definite(H, share - _MARGIN - np.finfo(np.float64).eps * len(H) ** 2)


def regularize(
    hessian: Any, *, damping: float = DAMPING, columns: int | None = None
) -> tuple[np.ndarray, float]:
    """H over its mean diagonal, plus the least damping that makes it positive definite.

    This is the Hessian under which `lplr.compress` and `lplr.caldera` code.

    Parameters
    ----------
    hessian : array_like of shape (d, d), (d,) or (m, d)
        A second moment, its diagonal, or calibration inputs, as in `lplr.compress`.
    damping : float
        Share of the mean diagonal that is added in any case.
    columns : int, optional
        d, the columns of the matrix; by default those of ``hessian``.

    Returns
    -------
    H : ndarray of shape (d, d), float64
    damping : float
        The share that was added: the asked one, or the first sufficient one of 1e-8, 1e-6, 1e-4,
        0.01 and 0.1.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    HessianError
        If ``hessian`` is not a second moment.

    Warns
    -----
    DampingWarning
        If more than the asked damping was needed.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> H, damping = lplr.regularize(np.diag([1.0, 3.0]), damping=0.01)
    >>> H
    array([[0.51, 0.  ],
           [0.  , 1.51]])
    """
    damping = check_real(damping, "damping", strict=False)
    if damping > LARGEST:  # no float32 would hold H
        raise InputError(f"damping: must be at most {LARGEST:g}, found {damping:g}")
    if columns is not None:
        columns = check_integer(columns, "columns", 1)
    return regularized(hessian, columns, damping=damping)


def regularized(
    hessian: Any, columns: int | None, name: str = "hessian", *, damping: float = DAMPING
) -> tuple[np.ndarray, float]:
    """What `regularize` returns, for the argument ``name``: of two weights errors say which."""
    H = _as_moment(hessian, columns, name)
    H = H if H.ndim == 2 else np.diag(H)
    divide(H, float(np.mean(np.diagonal(H))))
    for share in (damping, *(step for step in DAMPING_STEPS if step > damping)):
        if not _suffices(H, share):
            continue
        if share > damping:
            warn_caller(
                f"{name}: is not positive definite; added {share:g} of its mean diagonal",
                DampingWarning,
            )
        H[np.diag_indices(len(H))] += share
        return H, share
    raise _indefinite(name)


def regularized_output(
    output_hessian: Any, rows: int, *, damping: float = DAMPING
) -> tuple[np.ndarray | None, float]:
    """The same of output gradients; None for a multiple of the identity, which changes nothing."""
    G, share = regularized(output_hessian, rows, "output_hessian", damping=damping)
    flat = np.count_nonzero(G) == rows and np.ptp(np.diagonal(G)) == 0
    return (None if flat else G), share
