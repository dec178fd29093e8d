"""The coordinates in which the rows of each kind of matrix are searched at the least cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.rows import rows_of
from lplr.neighbours.index import PANEL, Index, Known, Screen
from lplr.parallel import matmul, run_blocks

__all__ = ["index_of"]

_ROWS = 2048  # in a block, at most

Read = Callable[[int, int], np.ndarray]  # rows from start to stop, float64

# A packed matrix never changes, so what is known of it stays true as long as it lives.
_known: WeakKeyDictionary[PackedMatrix, Known] = WeakKeyDictionary()


def index_of(f: Any, known: Known | None = None) -> Index:
    """The rows of any matrix; InputError if it is not a finite real one.

    Of a packed one, what is ``known`` from elsewhere is not found out again.
    """
    if known is not None:
        _known[f] = known
    if isinstance(f, LowRank):
        return _low_rank(f)
    if isinstance(f, QPlusLowRank) and f.left is not None and f.left.blocks > 1:
        return _in_row_blocks(f)
    return _rows(f)


def _about(f: Any, rows: int, blocks: int) -> Known:
    known = Known.nothing(rows, blocks)
    return _known.setdefault(f, known) if isinstance(f, PackedMatrix) else known


def _in_order(
    f: Any,
    shape: tuple[int, int],
    width: int,
    read: Read,
    project: Callable[[np.ndarray], np.ndarray] = lambda X: X,
    squares: Callable[[np.ndarray], np.ndarray] = lambda C: np.einsum("ij,ij->i", C, C),
    screen: Screen | None = None,
) -> Index:
    """Rows in their order; blocks are multiples of 8, so that no lattice group is cut.

    For a screen, the size of a block is the largest norm of its coordinates.
    """
    n, size = shape[0], max(8, min(_ROWS, PANEL // width // 8 * 8))

    def measure(b: int, C: np.ndarray) -> tuple[np.ndarray, float]:
        largest = np.einsum("ij,ij->i", C, C).max() if screen else 0.0
        return squares(C), float(np.sqrt(largest))

    return Index(
        shape,
        width,
        blocks=-(-n // size),
        numbers=lambda b: np.arange(b * size, min(b * size + size, n)),
        read=lambda b: read(b * size, min(b * size + size, n)),
        measure=measure,
        project=project,
        mix=lambda b, P: P,
        known=_about(f, n, -(-n // size)),
        screen=screen,
    )


def _rows(f: Any) -> Index:
    """The entries of rows."""
    A = f
    if isinstance(f, LinearOperator) and not isinstance(f, PackedMatrix):
        if not np.issubdtype(f.dtype, np.floating) or 0 in f.shape:
            raise InputError(f"f: must be real and not empty, found {f!r}")
        A = np.asarray(f.matmat(np.eye(f.shape[1])))
        if not np.isfinite(A).all():
            raise InputError("f: gives products that are not finite")
    rows = rows_of(A, "f")
    return _in_order(f, rows.shape, rows.shape[1], rows.read)


def _low_rank(f: LowRank) -> Index:
    """Those of L: ``|x - l R|^2 = |x|^2 - 2 (x R^T) l + l (R R^T) l^T``."""
    L, R = _factors(f)
    gram = matmul(R, R.T)

    def screen(p: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _product(f.left, p[: f.rank]) + p[f.rank :].sum(), _error(p) * sizes

    return _in_order(
        f,
        f.shape,
        len(R),
        L,
        project=lambda X: matmul(X, R.T),
        squares=lambda C: np.einsum("ij,ij->i", C @ gram, C),
        screen=screen if _screens(f.left) else None,
    )


def _screens(A: PackedMatrix) -> bool:
    """Whether the error of `_product` is known: an offset may be larger than the rows."""
    return getattr(A, "offset", None) is None


def _product(A: PackedMatrix, x: np.ndarray) -> np.ndarray:
    """A @ x by the packed codes, float64 (n,), of float32 products with x of length 1."""
    size = float(np.linalg.norm(x)) or 1.0
    return (A @ (x / size).astype(np.float32)).astype(np.float64) * size


def _error(x: np.ndarray) -> float:
    """That of `_product` in a row a, over |a|: rounding of x, of its scaling and of the sums."""
    return float((len(x) + 16) * 2.0**-24 * np.linalg.norm(x))


def _factors(f: LowRank) -> tuple[Read, np.ndarray]:
    """Rows of L, and R, float64; a shift is one component more, of ones in L."""
    L, R = f.left._row_reader(), f.right.to_dense().astype(np.float64)
    if not f.shift:
        return lambda i, j: L(i, j).astype(np.float64), R
    R = np.vstack((R, np.full((1, R.shape[1]), f.shift)))
    return lambda i, j: np.pad(L(i, j).astype(np.float64), ((0, 0), (0, 1)), constant_values=1), R


def _in_row_blocks(f: QPlusLowRank) -> Index:
    """Those of Q and, beside them, of L, for the rows of U^T (Q + L R) V with a U in blocks.

    U is undone on the products with queries, which are fewer than the columns. The size of a block
    Q_b is ``|Q_b|_F``: U mixes the errors that the screen makes in its rows.
    """
    left, right, (n, d) = f.left, f.right, f.shape
    assert left is not None
    Q, R = f.backbone._row_reader(), np.empty((0, d))
    if f.low_rank is not None:
        L, R = _factors(f.low_rank)

    def read(b: int) -> np.ndarray:
        rows = left.inside(b)
        C = np.empty((rows.stop - rows.start, d + len(R)))
        C[:, :d] = Q(rows.start, rows.stop)
        if len(R):
            C[:, d:] = L(rows.start, rows.stop)
        return C

    def measure(b: int, C: np.ndarray) -> tuple[np.ndarray, float]:
        rows = left.undo_block(b, C[:, :d] + C[:, d:] @ R)
        of_Q = np.einsum("ij,ij->", C[:, :d], C[:, :d])
        return np.einsum("ij,ij->i", rows, rows), float(np.sqrt(of_Q))

    def project(X: np.ndarray) -> np.ndarray:
        Y = X if right is None else right.apply(X, axis=1)
        return np.hstack((Y, matmul(Y, R.T)))

    def screen(p: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        products = _product(f.backbone, p[:d])

        def add(i: int, j: int) -> None:
            products[i:j] += L(i, j) @ p[d:]

        if len(R):
            run_blocks(add, n, max(8, PANEL // len(R) // 8 * 8))
        return left.undo(products), _error(p[:d]) * sizes

    return Index(
        f.shape,
        d + len(R),
        blocks=left.blocks,
        numbers=lambda b: np.r_[left.outside(b)],
        read=read,
        measure=measure,
        project=project,
        mix=lambda b, P: left.undo_block(b, P, axis=1),
        known=_about(f, n, left.blocks),
        screen=screen if _screens(f.backbone) else None,
    )
