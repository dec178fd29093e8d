"""Feedback quantization under a Hessian: LDL feedback and coordinate descent.

Everything here holds the matrix with the feedback axis first: X of shape (k, n), whose n columns
are independent problems under one k x k Hessian. The loss is tr((X - Q)^T H (X - Q)).
"""

from __future__ import annotations

import numpy as np

from lplr.coding.row_feedback import RowFeedback, row_blocks
from lplr.linalg.ldl import Factorization, min_pivot_ldl
from lplr.linalg.triangular import lower_inverse, solve_squares
from lplr.parallel import run_blocks
from lplr.progress import counter, parts
from lplr.quantizers.base import Codebook
from lplr.quantizers.scalar import ScalarCodebook

__all__ = [
    "descent_matrix",
    "matched_scale",
    "polish",
    "quantize_feedback",
    "quantize_two_sided",
]

_PANEL = 64  # rows whose feedback stays in the kernel; what is left is one matrix product


def matched_scale(
    X: np.ndarray, inverse: np.ndarray, codebook: Codebook, rows: RowFeedback | None = None
) -> np.ndarray:
    """Scales, float32 (k,), that fit what feedback rounds: the rows of X plus fed-back errors.

    X is float32 (k, n); ``inverse`` is that of the unit lower triangular L of H = L D L^T. With
    rounding errors eta the error is E = L^-T eta and row k rounds ``X_k - E_k + eta_k``. If errors
    are uncorrelated, each of variance mse times that of what is rounded, the variances follow from
    the last row to the first. A row that is rounded from zeros only gets 0. With ``rows``, along
    which errors are fed back as well, the variance of each of them grows, and each row of X gets
    some of its own.
    """
    mse = codebook.gaussian_mse
    own = np.einsum("ij,ij->i", X, X, dtype=np.float64) / X.shape[1]
    growth = 1.0 if rows is None else rows.growth
    spread = 1.0 + (growth - 1.0) * mse
    variance = spread * solve_squares(inverse, np.full(len(X), growth * mse * spread), own)
    return (np.sqrt(variance) * codebook.gaussian_scale).astype(np.float32)


def quantize_feedback(
    X: np.ndarray,
    H: np.ndarray,
    codebook: Codebook,
    scale: np.ndarray | None = None,
    *,
    sweeps: int = 0,
    factor: Factorization | None = None,
    rows: RowFeedback | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantize X so that the error is small under H; return codes, scales (k,) and the error X - Q.

    In the order of `min_pivot_ldl`, from the last to the first, row k is rounded after adding
    ``sum_{j>k} L[j, k] (X - Q)[j]``, where H = L D L^T; then ``L^T (X - Q)`` is the rounding error
    eta and the loss is exactly ``sum_k D_k |eta_k|**2`` (LDLQ: Chee et al., QuIP, 2023, Theorem 1).
    Each sweep of coordinate descent then revisits every row with the grid fixed and lowers the loss
    or leaves it.

    X and the error are float32 (k, n), codes (k, n // group); n must be a multiple of the
    codebook's group. Groups are neighbours in a row, so that the metric within a group is a
    multiple of the identity and the nearest point is exact. H is float64, positive definite;
    ``factor`` is what `min_pivot_ldl` returns for it, where that is known. The scales are those of
    `matched_scale` by default.

    With ``rows``, of a G (n, n), the loss is tr(G (X - Q)^T H (X - Q)): columns of X, rows of the
    matrix that it is the transpose of, are coded in the `row_blocks` of the code one after the
    other, each after what the errors before it feed back.
    """
    order, L, _ = min_pivot_ldl(H) if factor is None else factor
    feedback = L.astype(np.float32, copy=False)
    if scale is None:
        scale = matched_scale(X[order], lower_inverse(feedback), codebook, rows)
    else:
        scale = scale[order]
    descent = descent_matrix(H, order) if sweeps else None
    k, n = X.shape
    codes = np.empty((k, n // codebook.group), codebook.dtype)
    error = np.empty((k, n), np.float32)
    count = counter(n)

    def block(start: int, stop: int) -> None:
        part = slice(start // codebook.group, stop // codebook.group)
        x = X[order, start:stop]
        if rows is not None:
            shift = np.ascontiguousarray(rows.fed_back(error.T, slice(start, stop)).T)[order]
            x += shift
        e = np.empty_like(x)
        c = np.zeros((k, (stop - start) // codebook.group), codebook.dtype)
        _feedback_pass(x, feedback, codebook, scale, e, c)
        if descent is not None:
            for _ in range(sweeps):
                _descent_sweep(x, descent, codebook, scale, e, c)
        error[order, start:stop] = e if rows is None else e - shift
        codes[order, part] = c
        count(stop - start)

    if rows is None:
        run_blocks(block, n, codebook.segment_length(n))
    else:
        for b in row_blocks(codebook, n):
            block(b.start, b.stop)
    return codes, scale[np.argsort(order)], error


def descent_matrix(H: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """H in a given order, float32, its column k divided by H[k, k]."""
    in_order = order is None or bool((np.diff(order) == 1).all())
    diagonal, out = np.diagonal(H), np.empty(H.shape, np.float32)
    if not in_order:
        diagonal = diagonal[order]

    def rows(i: int, j: int) -> None:
        some = H[i:j] if in_order or order is None else H[np.ix_(order[i:j], order)]
        np.divide(some, diagonal, out=out[i:j], casting="same_kind")

    run_blocks(rows, len(H), _PANEL)
    return out


def polish(
    X: np.ndarray,
    descent: np.ndarray,
    codebook: Codebook,
    scale: np.ndarray,
    codes: np.ndarray,
    error: np.ndarray,
    *,
    sweeps: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinate descent from given codes, for an X or H that has changed since.

    ``descent`` is the `descent_matrix` of H.

    Codes and ``error``, X - Q for these codes, are those of `quantize_feedback`. The new codes that
    are returned lose at most as much under H; ``error`` becomes theirs and is returned as well.
    """
    codes = codes.copy()
    count = counter(X.shape[1])

    def block(start: int, stop: int) -> None:
        part = slice(start // codebook.group, stop // codebook.group)
        x, e = (np.ascontiguousarray(array[:, start:stop]) for array in (X, error))
        c = np.ascontiguousarray(codes[:, part])
        for _ in range(sweeps):
            _descent_sweep(x, descent, codebook, scale, e, c)
        error[:, start:stop] = e
        codes[:, part] = c
        count(stop - start)

    run_blocks(block, X.shape[1], codebook.segment_length(X.shape[1]))
    return codes, error


def quantize_two_sided(
    X: np.ndarray,
    factor: Factorization,
    G: np.ndarray,
    codebook: ScalarCodebook,
    scale: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Quantize X so that ``tr(G (X - Q)^T H (X - Q))`` is small: feedback in both directions.

    X is float32 (d, k), ``factor`` what `min_pivot_ldl` returns for H, G float64 (k, k) and
    positive definite; each column has a scale. Codes and the error X - Q are returned, both (d, k).
    The LDL factor of a Kronecker product is that of its parts: with ``eta = L_H^T (X - Q) L_G`` the
    rounding errors, the loss is ``sum D_H[i] D_G[j] eta[i, j]**2``. Nothing is independent here, so
    this runs on one thread; its cost is that of two triangular products.
    """
    from lplr.kernels.feedback import feedback_columns

    order, outer, _ = factor
    columns, inner, _ = min_pivot_ldl(G)
    x = np.ascontiguousarray(X[np.ix_(order, columns)])
    outer, inner = outer.astype(np.float32, copy=False), inner.astype(np.float32)
    target, error = x.copy(), np.empty_like(x)
    codes = np.empty(x.shape, codebook.dtype)
    for p in parts(_panels(len(x))):
        feedback_columns(
            target[p],
            x[p],
            np.ascontiguousarray(outer[p, p]),
            inner,
            codebook.thresholds,
            codebook.levels,
            scale[columns],
            error[p],
            codes[p],
        )
        if p.start:
            target[: p.start] += outer[p, : p.start].T @ error[p]
    back = np.ix_(np.argsort(order), np.argsort(columns))
    return codes[back], error[back]


def _panels(k: int) -> list[slice]:
    """Panels of rows from the last to the first; a short one, if any, comes last."""
    return [slice(max(stop - _PANEL, 0), stop) for stop in range(k, 0, -_PANEL)]


def _feedback_pass(
    x: np.ndarray,
    L: np.ndarray,
    codebook: Codebook,
    scale: np.ndarray,
    e: np.ndarray,
    codes: np.ndarray,
) -> None:
    target = x.copy()
    for p in _panels(len(x)):
        codebook.panel(target[p], x[p], np.ascontiguousarray(L[p, p]), scale[p], e[p], codes[p])
        if p.start:
            target[: p.start] += L[p, : p.start].T @ e[p]


def _descent_sweep(
    x: np.ndarray,
    H: np.ndarray,
    codebook: Codebook,
    scale: np.ndarray,
    e: np.ndarray,
    codes: np.ndarray,
) -> None:
    """One sweep; H has its column k divided by H[k, k]. Row k moves to Q_k + (H^T e)_k."""
    pull = H.T @ e
    for p in _panels(len(x)):
        q = x[p] - e[p]
        change = np.empty_like(q)
        codebook.panel(q + pull[p], q, np.ascontiguousarray(H[p, p]), scale[p], change, codes[p])
        e[p] += change
        if p.start:
            pull[: p.start] += H[p, : p.start].T @ change
