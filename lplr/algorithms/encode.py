"""New rows for a factorization that is there already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lplr.coding.factor import damped, weighted_gram
from lplr.coding.new_rows import coded_rows
from lplr.exceptions import InputError, LplrWarning
from lplr.linalg.hessian import check_hessian
from lplr.linalg.least_squares import gram
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul, reproducible
from lplr.provenance import versions
from lplr.validation import check_matrix, warn_caller

__all__ = ["encode"]

_LARGEST = 1e6  # times the largest entry of R: what float32 holds with ease
_LONG = 2.0  # times the usual length of a row


@reproducible()
def encode(f: LowRank, rows: Any, *, hessian: Any = None) -> LowRank:
    """Code new rows on the R of a factorization, with the codebooks and scales of its L.

    The result is a factorization of the new rows that shares R: its own bytes are those of its L.
    It can be searched, decoded and saved like ``f``, which stays as it is.

    Parameters
    ----------
    f : LowRank
        What `lplr.factorize` or `lplr.compress` returned.
    rows : array_like of shape (p, d)
        As large as the rows that ``f`` was made from: the scales of L are theirs.
    hessian : array_like of shape (d, d), (d,) or (m, d), optional
        As in `lplr.compress`: the one that ``f`` was made under. A file does not hold it; without
        it, all errors count the same.

    Returns
    -------
    LowRank of shape (p, d)
        ``meta["basis"]`` is the record of ``f``.

    Raises
    ------
    InputError
        If ``f`` is not a factorization, has a scale for each row, or the rows do not fit.
    HessianError
        If ``hessian`` is not a second moment.

    Warns
    -----
    LplrWarning
        If rows are too long for the codes of L.

    Notes
    -----
    Least squares on the decoded R, rounded by feedback under R R^T as in `lplr.factorize`, see
    `lplr.coding.new_rows`. On rows from the distribution of those that ``f`` was made from, the
    error is that of ``f``, up to what R was fitted to them: 1 to 2 % for some thousand rows. Codes
    of a lattice hold eight rows together, so that rows are better encoded many at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> A = lplr.datasets.synthetic(1000, 60, "power", exponent=1.0, rng=0)
    >>> f = lplr.factorize(A[:900], rank=20, bits=4, rng=0)
    >>> new = lplr.encode(f, A[900:])
    >>> new.shape, new.right is f.right
    ((100, 60), True)
    >>> new.relative_error(A[900:]) < 1.05 * f.relative_error(A[:900])
    True
    >>> lplr.search(new, A[900:903], k=1).indices[:, 0]
    array([0, 1, 2])
    """
    left, R = _shared(f)
    A = check_matrix(rows, "rows", dtype=np.float64)
    if A.shape[1] != f.shape[1]:
        raise InputError(f"rows: must have the {f.shape[1]} columns of f, found {A.shape[1]}")
    unit = np.abs(R).max() or 1.0
    R, A = R / unit, (A - f.shift) / unit
    if np.abs(A).max() > _LARGEST:
        raise InputError(
            f"rows: their largest magnitude is {np.abs(A).max():.1g} times that of R; give them "
            "the scale of the rows that f was made from"
        )
    if hessian is None:
        G, B = gram(R), matmul(R, A.T)
    else:
        H = check_hessian(hessian, f.shape[1])
        H = np.diag(H) if H.ndim == 1 else H
        T, G = weighted_gram(R, H / np.mean(np.diag(H)))
        B = matmul(T.T, A.T)
    G = G if G.any() else np.eye(len(G))  # with an R of zeros, all rows are alike
    coded = coded_rows(G, B, left)
    _warn_of_overload(coded, G, B)
    return replace(f, left=coded, meta={"basis": dict(f.meta), "versions": versions()})


def _shared(f: Any) -> tuple[Quantized | Stacked, np.ndarray]:
    """What new rows share with those of f: the codebooks and scales of L, and R in float64."""
    if not isinstance(f, LowRank):
        raise InputError(
            f"f: must be a LowRank, whose R new rows can share, found a {type(f).__name__}; "
            "compress the new rows by themselves, or make f with lplr.factorize"
        )
    left = f.left
    if isinstance(left, Stacked) and left.axis == 0:
        left = left.blocks[0]  # rows that were appended are coded like the first ones
    parts = left.blocks if isinstance(left, Stacked) else (left,)
    for scale in (scale for part in parts for scale in (part.scale, part.offset)):
        if scale is not None and scale.shape[0] > 1:
            raise InputError(
                "f: its L has a scale for each row, which new rows cannot share; make f with "
                "lplr.factorize"
            )
    return left, f.right.to_dense().astype(np.float64)


def _warn_of_overload(coded: Quantized | Stacked, G: np.ndarray, B: np.ndarray) -> None:
    """Say which rows are beyond the reach of the codes: long ones, of which half is lost."""
    parts = coded.blocks if isinstance(coded, Stacked) else (coded,)
    usual = np.concatenate(
        [
            np.broadcast_to(part.scale.reshape(-1), part.shape[1]) / part.codebook.gaussian_scale
            for part in parts
        ]
    )
    X = np.linalg.solve(damped(G), B)
    E = X - coded.to_dense().T
    length, lost = (np.einsum("ij,ij->j", Y, G @ Y) for Y in (X, E))
    beyond = (length > _LONG**2 * (np.diag(G) @ usual**2)) & (lost > length / 2)
    if beyond.any():
        warn_caller(
            f"rows: {beyond.sum()} of {len(beyond)}, row {beyond.argmax()} the first, are so much "
            "longer than those f was made from that their codes lose more than half of them; "
            "scale them, or compress them by themselves",
            LplrWarning,
        )
