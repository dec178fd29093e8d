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

_PANEL = 64  # columns that are eliminated before the rest is updated by one product
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


def min_pivot_ldl(H: np.ndarray) -> Factorization:
    """LDL in the order that takes the smallest remaining diagonal entry first, all float64.

    The result is order, L and D with ``H[order][:, order] = L diag(D) L^T``; LinAlgError says that
    H is not positive definite to working precision, and should be damped first.

    The product of the pivots is the determinant in any order; their sum, which is what feedback
    quantization loses, falls as they become equal. Taking the small ones first, while they are
    still close to the diagonal, lowers it by 1 to 3 %. Only the encoder's order changes: nothing is
    stored. The elimination is right-looking, in panels, so that most of the work is matrix
    products.
    """
    S = np.array(H, np.float64)  # becomes L, column by column
    k = len(S)
    order = np.arange(k)
    D = np.empty(k)
    floor = np.finfo(np.float64).eps * k * np.abs(np.diagonal(S)).max()
    for first in range(0, k, _PANEL):
        last = min(first + _PANEL, k)
        diagonal = np.diagonal(S).copy()
        scaled = np.zeros((k, last - first))  # columns of L D of this panel
        for i in range(first, last):
            j = i + int(np.argmin(diagonal[i:]))
            if j != i:
                for array in (S, S.T, scaled, order, diagonal):
                    array[[i, j]] = array[[j, i]]
            D[i] = diagonal[i]
            if not D[i] > floor:
                raise np.linalg.LinAlgError("the matrix is not positive definite")
            column = S[i:, i] - S[i:, first:i] @ scaled[i, : i - first]
            scaled[i:, i - first] = column
            S[i:, i] = column / D[i]
            diagonal[i:] -= column * S[i:, i]
        _subtract_product(S, scaled, first, last)
    for i in range(k):
        S[i, i:] = 0.0
        S[i, i] = 1.0
    return order, S, D


def _subtract_product(S: np.ndarray, scaled: np.ndarray, first: int, last: int) -> None:
    """``S -= L (L D)^T`` on what is left of S after a panel of columns."""

    def block(start: int, stop: int) -> None:
        rows = slice(last + start, last + stop)
        S[rows, last:] -= S[rows, first:last] @ scaled[last:].T

    if last < len(S):
        run_blocks(block, len(S) - last, _TILE)


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
    return sum(float(np.vdot(a, a)) for a in (A[i : i + 64] for i in range(0, len(A), 64)))


def weighted_squared_norm(E: np.ndarray, L: np.ndarray, D: np.ndarray) -> float:
    """``tr(E H E^T)`` for ``H = L diag(D) L^T``, as the squared norm of ``E L D^(1/2)``, E float32.

    Unlike float32 products with H itself, this keeps its digits where E lies in directions of small
    weight, and it is never negative.
    """
    return float(weighted_squares(E, L, D).sum())


def weighted_squares(E: np.ndarray, L: np.ndarray, D: np.ndarray) -> np.ndarray:
    """The same of each row e of E, ``e H e^T``, float64 (n,)."""
    n, d = E.shape
    L, root = L.astype(np.float32, copy=False), np.sqrt(D).astype(np.float32)
    out = np.zeros(n)

    def block(start: int, stop: int) -> None:
        e = E[start:stop]
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
