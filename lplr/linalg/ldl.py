"""LDL factorizations of Hessians, and the loss that they make exact.

With ``H = L diag(D) L^T`` the loss of an error E is ``tr(E H E^T) = |E L D^(1/2)|_F^2``, and the
pivots D are what feedback quantization loses.
"""

from __future__ import annotations

import numpy as np

from lplr.linalg.triangular import cholesky
from lplr.parallel import matmul, run_blocks

__all__ = [
    "Factorization",
    "block_ldl",
    "ldl",
    "min_pivot_ldl",
    "squared_norm",
    "two_sided_loss",
    "weighted_squared_norm",
    "weighted_squares",
]

Factorization = tuple[np.ndarray, np.ndarray, np.ndarray]  # order, L, D

_PANEL = 96  # columns that are eliminated before the rest is updated by one product
_TILE = 256  # rows of the rest that one thread updates at a time
_BLOCK = 8  # side of the diagonal blocks of `block_ldl`


def ldl(
    H: np.ndarray, *, overwrite: bool = False, dtype: type | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """L, unit lower triangular, and D > 0 with H = L diag(D) L^T, computed in the dtype of H.

    L is stored in another ``dtype`` if that is given. H may be overwritten where that is allowed.
    LinAlgError says that it is not positive definite to working precision; damp it first.
    """
    C = cholesky(H, overwrite=overwrite)
    pivots = np.diagonal(C).copy()
    L = C if dtype is None else np.empty(C.shape, dtype)

    def unit(start: int, stop: int) -> None:
        np.divide(C[start:stop], pivots, out=L[start:stop], casting="same_kind")

    run_blocks(unit, len(L), _TILE)
    return L, pivots**2


def min_pivot_ldl(H: np.ndarray, dtype: type = np.float64) -> Factorization:
    """LDL in the order that takes the smallest remaining diagonal entry first, in float64.

    The result is order, L, of a dtype, and D with ``H[order][:, order] = L diag(D) L^T``;
    LinAlgError says that H is not positive definite to working precision, and should be damped
    first.

    The product of the pivots is the determinant in any order; their sum, which is what feedback
    quantization loses, falls as they become equal. Taking the small ones first, while they are
    still close to the diagonal, lowers it by 1 to 3 %. Only the encoder's order changes: nothing is
    stored. The elimination is right-looking, in panels, so that most of the work is matrix
    products. Nothing is swapped, which would jump through memory: what is left of H is a Schur
    complement with the rows that are done still in it, and these are dropped now and then.
    """
    k = len(H)
    order, D = np.empty(k, np.intp), np.empty(k)
    rows: np.ndarray = np.zeros(
        (k, k), dtype
    )  # of L^T, in the order of the pivots; columns as in H
    left, S = np.arange(k), np.array(H, np.float64)
    diagonal = np.diagonal(S).copy()
    floor = np.finfo(np.float64).eps * k * np.abs(diagonal).max()
    for first in range(0, k, _PANEL):
        last = min(first + _PANEL, k)
        if len(left) >= 1.25 * (k - first) + _PANEL:
            rest = np.flatnonzero(diagonal < np.inf)
            left, S, diagonal = left[rest], S[np.ix_(rest, rest)], diagonal[rest]
        unit = np.zeros((last - first, len(left)))  # rows of L^T
        scaled = np.zeros_like(unit)  # of D L^T
        for i in range(last - first):
            j = int(np.argmin(diagonal))
            pivot = diagonal[j]
            if not floor < pivot < np.inf:
                raise np.linalg.LinAlgError("the matrix is not positive definite")
            row = S[j] - unit[:i, j] @ scaled[:i]
            row[diagonal == np.inf] = 0.0
            scaled[i], unit[i] = row, row / pivot
            unit[i, j] = 1.0
            order[first + i], D[first + i] = left[j], pivot
            diagonal -= row * unit[i]
            diagonal[j] = np.inf
        rows[first:last, left] = unit
        _subtract_product(S, unit, scaled)
    return order, rows[:, order].T, D


def _subtract_product(S: np.ndarray, unit: np.ndarray, scaled: np.ndarray) -> None:
    """``S -= L (L D)^T``, of which a panel of columns is given as rows."""

    def block(start: int, stop: int) -> None:
        for k in range(0, len(S), 2 * _TILE):
            columns = slice(k, k + 2 * _TILE)
            S[start:stop, columns] -= unit[:, start:stop].T @ scaled[:, columns]

    run_blocks(block, len(S), _TILE)


def block_ldl(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H = L D L^T with 8 x 8 diagonal blocks in D and identities on the diagonal of L.

    H is float64 and positive definite; it is padded to a multiple of eight, with ones on the
    diagonal. D has the shape (ceil(d / 8), 8, 8).
    """
    from scipy.linalg import cholesky, solve_triangular

    d = len(H)
    size = d + -d % _BLOCK
    padded = np.eye(size)
    padded[:d, :d] = H
    C = cholesky(padded, lower=True, check_finite=False)
    L, D = np.zeros_like(C), np.empty((size // _BLOCK, _BLOCK, _BLOCK))
    for i in range(0, size, _BLOCK):
        b = slice(i, i + _BLOCK)
        D[i // _BLOCK] = C[b, b] @ C[b, b].T
        L[i:, b] = solve_triangular(C[b, b], C[i:, b].T, lower=True, trans="T").T
    return L, D


def squared_norm(A: np.ndarray) -> float:
    """Squared Frobenius norm of a float32 matrix; sums of 64 rows are added in float64."""
    parts = [0.0] * -(-len(A) // 64)

    def block(start: int, stop: int) -> None:
        for i in range(start, stop, 64):
            parts[i // 64] = float(np.vdot(A[i : i + 64], A[i : i + 64]))

    run_blocks(block, len(A), _TILE)
    return sum(parts)


def weighted_squared_norm(
    E: np.ndarray, L: np.ndarray, D: np.ndarray, order: np.ndarray | None = None
) -> float:
    """``tr(E H E^T)`` for ``H = L diag(D) L^T``, as the squared norm of ``E L D^(1/2)``, E float32.

    Unlike float32 products with H itself, this keeps its digits where E lies in directions of small
    weight, and it is never negative. Of a factorization in another ``order`` that is given as well.
    """
    return float(weighted_squares(E, L, D, order).sum())


def weighted_squares(
    E: np.ndarray, L: np.ndarray, D: np.ndarray, order: np.ndarray | None = None
) -> np.ndarray:
    """The same of each row e of E, ``e H e^T``, float64 (n,)."""
    n, d = E.shape
    L, root = L.astype(np.float32, copy=False), np.sqrt(D).astype(np.float32)
    out = np.zeros(n)

    def block(start: int, stop: int) -> None:
        e = E[start:stop] if order is None else E[start:stop, order]
        for k in range(0, d, _TILE):
            columns = slice(k, k + _TILE)
            f = (e[:, k:] @ L[k:, columns]) * root[columns]
            out[start:stop] += np.einsum("ij,ij->i", f, f)

    run_blocks(block, n, _TILE)
    return out


def two_sided_loss(E: np.ndarray, H: np.ndarray | None, G: np.ndarray) -> float:
    """``tr(G E H E^T)`` of a float32 matrix E (n, d), by products in float32.

    H (d, d) and G (n, n) are second moments, or None for the identity in the place of H. As
    ``E H E^T`` is symmetric, half of G is enough; or half of H, where that is the larger one.
    """
    if H is not None and len(H) > len(G):
        E, H, G = E.T, G, H
    F = E if H is None else matmul(E, H.astype(np.float32))
    tile = max(128, -(-len(G) // 16))
    parts = np.zeros(-(-len(G) // tile))

    def block(start: int, stop: int) -> None:
        weights = G[start:stop, :stop].astype(np.float32)
        weights[:, :start] *= 2
        parts[start // tile] = np.vdot(weights @ E[:stop], F[start:stop])

    run_blocks(block, len(G), tile)
    return max(float(parts.sum()), 0.0)
