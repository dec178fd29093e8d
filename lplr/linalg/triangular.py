"""Triangular matrices in tiles: factorizing, inverting, solving and multiplying, in threads.

LAPACK does each of these on one thread here, since its results may differ with the number of
threads. Cut into tiles, nearly all of their work is matrix products, which `lplr.parallel` spreads
over threads. Only blocks of `_SMALL` on the diagonal are inverted; what is left is substitution, so
that errors are those of the textbook's algorithms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.parallel import run_blocks

__all__ = ["cholesky", "lower_inverse", "scaled_square", "solve_squares", "solve_transposed"]

_PANEL = 256  # columns that are factorized before the next ones
_SMALL = 64  # side of the blocks on the diagonal that are inverted
_TILES = 48  # of a panel
_ROWS = 128  # of a panel that one thread takes at a time
_WHOLE = 1024  # side up to which LAPACK, on one thread, takes a hundredth of a second
_COLUMNS = 256  # right-hand sides that one thread solves for at a time


def cholesky(H: np.ndarray, *, overwrite: bool = False) -> np.ndarray:
    """The lower triangular L of H = L L^T, in the dtype of H, float32 or float64.

    Only the lower triangle of H is read; with ``overwrite`` it becomes L. LinAlgError says that H
    is not positive definite to working precision.
    """
    L = H if overwrite else H.copy()
    d = len(L)
    size = d if d <= _WHOLE else _PANEL
    for p in range(0, d, size):
        q = min(p + size, d)

        def update(i: int, j: int, p: int = p, q: int = q) -> None:
            rows = slice(p + i, p + j)
            L[rows, p:q] -= L[rows, :p] @ L[p:q, :p].T

        if p:
            run_blocks(update, d - p, _tile(d - p))
        L[p:q, p:q] = np.linalg.cholesky(L[p:q, p:q])
        if q == d:
            break
        below, diagonal, inverses = L[q:, p:q], L[p:q, p:q], _inverses(L[p:q, p:q])

        def solve(
            i: int, j: int, M: np.ndarray = diagonal, B: np.ndarray = below, N: Any = inverses
        ) -> None:
            _substitute(M, N, B[i:j].T)

        run_blocks(solve, d - q, _tile(d - q))

    def clear(i: int, j: int) -> None:
        L[i:j, -(-j // size) * size :] = 0.0

    run_blocks(clear, d, _ROWS)
    return L


def _tile(n: int) -> int:
    """Rows that one thread takes at a time: few more tiles than threads of a large machine.

    Each tile packs the other operand of a product anew.
    """
    return max(_ROWS, -(-n // (16 * _TILES)) * 16)


def _inverses(L: np.ndarray) -> list[np.ndarray]:
    """Inverses of the blocks on the diagonal of a lower triangular matrix."""
    from scipy.linalg.lapack import get_lapack_funcs

    starts = range(0, len(L), _SMALL)
    (invert,) = get_lapack_funcs(["trtri"], (L,))
    blocks = (np.tril(L[i : i + _SMALL, i : i + _SMALL]) for i in starts)
    return [np.ascontiguousarray(invert(block, lower=1)[0]) for block in blocks]


def lower_inverse(L: np.ndarray) -> np.ndarray:
    """The inverse of a lower triangular matrix, in its dtype; zeros above the diagonal."""
    d = len(L)
    inverses = _inverses(L)
    out = np.zeros(L.shape, L.dtype)

    def columns(start: int, stop: int) -> None:
        out[start:stop, start:stop] = np.eye(stop - start, dtype=L.dtype)
        x = out[start:, start:stop]
        for i in range(0, d - start, _PANEL):
            rows = slice(start + i, min(start + i + _PANEL, d))
            if i:
                x[i : i + _PANEL] -= L[rows, start : start + i] @ x[:i]
            _substitute(L[rows, rows], inverses[rows.start // _SMALL :], x[i : i + _PANEL])

    run_blocks(columns, d, _ROWS)
    return out


def _substitute(L: np.ndarray, inverses: list[np.ndarray], B: np.ndarray) -> None:
    """B becomes ``L^-1 B``, given the inverses of the blocks on the diagonal of L."""
    for k, inverse in zip(range(0, len(L), _SMALL), inverses, strict=False):
        b = slice(k, k + len(inverse))
        B[b] = inverse @ (B[b] - L[b, :k] @ B[:k])


def solve_transposed(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """``L^-T B`` for a lower triangular L (k, k) and B (k, n), in their dtype."""
    k, n = B.shape
    inverses = _inverses(L)
    X = np.empty_like(B, order="C")

    def columns(start: int, stop: int) -> None:
        x = np.array(B[:, start:stop], order="C")
        for p in reversed(range(0, k, _SMALL)):
            b = slice(p, min(p + _SMALL, k))
            x[b] = inverses[p // _SMALL].T @ x[b]
            if p:
                x[:p] -= L[b, :p].T @ x[b]
        X[:, start:stop] = x

    run_blocks(columns, n, _COLUMNS)
    return X


def scaled_square(L: np.ndarray, D: np.ndarray) -> np.ndarray:
    """``L diag(D) L^T`` for a lower triangular L, in its dtype, exactly symmetric."""
    d = len(L)
    out = np.empty_like(L, order="C")

    def rows(start: int, stop: int) -> None:
        scaled = L[start:stop, :stop] * D[:stop].astype(L.dtype)
        for p in range(0, stop, _ROWS):
            q = min(p + _ROWS, d)
            tile = scaled[:, :q] @ L[p:q, :q].T
            if p == start:
                tile = (tile + tile.T) / 2
            out[start:stop, p:q] = tile
            out[p:q, start:stop] = tile.T

    run_blocks(rows, d, _ROWS)
    return out


def solve_squares(M: np.ndarray, c: np.ndarray, own: np.ndarray) -> np.ndarray:
    """v with ``v_k = own_k + sum_{j>k} M_jk^2 c_j v_j``, float64, for a lower triangular M (d, d).

    ``c`` and ``own`` have the shape (m, d) or (d,), and so has v: m systems are solved at once.
    """
    from scipy.linalg.lapack import dtrtrs

    v = np.array(own, np.float64)
    systems = v.reshape(-1, len(M)), c.reshape(-1, len(M))
    for p in reversed(range(0, len(M), _SMALL)):
        stop = min(p + _SMALL, len(M))
        squares = np.square(M[p:stop, :stop], dtype=np.float64)
        within = squares[:, p:].T
        for x, share in zip(*systems, strict=True):
            x[p:stop] = dtrtrs(-within * share[p:stop], x[p:stop], unitdiag=1)[0]
        v[..., :p] += (c[..., p:stop] * v[..., p:stop]) @ squares[:, :p]
    return v
