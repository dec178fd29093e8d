"""Orthogonal transforms with signs, of any one size: Hadamard where there is one, else Hartley."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lplr.linalg.paley import block_order, paley
from lplr.parallel import run_blocks

__all__ = ["mix", "mix_vector"]

_TILE = 1 << 19  # entries a thread handles at a time: they stay in the second-level cache
_FEW_COLUMNS = 16


def mix(
    X: np.ndarray,
    signs: np.ndarray,
    axis: int,
    inverse: bool,
    dtype: np.dtype,
    overwrite: bool = False,
) -> np.ndarray:
    """``T diag(signs)``, or its transpose, applied along an axis, the last or first, of X.

    X is a real vector or matrix; the result is C-contiguous, of a dtype that is float32 or float64.
    With ``overwrite`` it may lie where X does.
    """
    n = len(signs)
    by_row = axis == X.ndim - 1
    pre = np.full(n, 1 / np.sqrt(n), dtype)
    post = np.ones(n, dtype)
    if inverse:
        post *= signs
    else:
        pre *= signs
    # Too few columns to fill a vector register: transposing is cheaper.
    turned = not by_row and X.shape[1] < _FEW_COLUMNS
    # The kernels are compiled for writable arrays; they do not write to this one.
    A = np.require(X.T if turned else np.atleast_2d(X), dtype, ["C", "W"])
    run = _along_rows if by_row or turned else _along_columns
    order = block_order(n)
    out = A if overwrite else np.empty_like(A)
    run(A, pre, post, order, paley(order, dtype, inverse) if order > 1 else None, out)
    return np.ascontiguousarray(out.T) if turned else out.reshape(X.shape)


def mix_vector(factors: np.ndarray, inverse: bool) -> Callable[[np.ndarray, np.ndarray], None]:
    """As `mix`, a function ``(x, out)`` for vectors of a size with a Hadamard matrix.

    It takes the time of a small product. ``x``, ``out`` and ``factors``, the signs over the root of
    n, are contiguous and of one dtype.
    """
    from lplr.kernels.hadamard import hadamard_vector

    order = block_order(len(factors))
    # The kernel reads the block by columns, so it gets the transpose of the one that acts.
    block = np.ones((1, 1)) if order == 1 else paley(order, factors.dtype, not inverse)
    block = block.astype(factors.dtype, copy=False)

    def mixed(x: np.ndarray, out: np.ndarray) -> None:
        hadamard_vector(x, factors, block, out, inverse)

    return mixed


def _along_rows(
    X: np.ndarray,
    pre: np.ndarray,
    post: np.ndarray,
    order: int,
    block: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """``post * (T @ (pre * x))`` for each row x; T is unscaled, ``block`` its Paley block.

    ``out`` may be X.
    """
    from lplr.kernels.hadamard import hadamard_rows, hadamard_strided

    r, n = X.shape

    def rows(i: int, j: int) -> None:
        if order == 1:
            hadamard_rows(X, pre, post, out, i, j)
            return
        part = X[i:j] * pre
        if block is None:
            _hartley(part, out[i:j], axis=1)
        else:
            np.matmul(part.reshape(-1, order), block.T, out=out[i:j].reshape(-1, order))
            hadamard_strided(out, order, i, j)
        out[i:j] *= post

    run_blocks(rows, r, max(1, _TILE // n))


def _along_columns(
    X: np.ndarray,
    pre: np.ndarray,
    post: np.ndarray,
    order: int,
    block: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """The same for each column x."""
    from lplr.kernels.hadamard import hadamard_columns, hadamard_strided

    n, d = X.shape

    def columns(i: int, j: int) -> None:
        if order == 1:
            hadamard_columns(X, pre, post, out, i, j)
            return
        part = X[:, i:j] * pre[:, None]
        result = np.empty_like(part)
        if block is None:
            _hartley(part, result, axis=0)
        else:
            groups = (n // order, order, j - i)
            np.matmul(block, part.reshape(groups), out=result.reshape(groups))
            hadamard_strided(result.reshape(1, -1), order * (j - i), 0, 1)
        np.multiply(result, post[:, None], out=out[:, i:j])

    run_blocks(columns, d, max(_FEW_COLUMNS, min(128, (_TILE // n) // 16 * 16)))


def _hartley(x: np.ndarray, out: np.ndarray, axis: int) -> None:
    """Unnormalised Hartley transform, Re - Im of the Fourier transform, along an axis."""
    from scipy.fft import rfft

    F = rfft(x, axis=axis)
    if axis == 1:
        F, out = F.T, out.T
    half = F.shape[0]
    np.subtract(F.real, F.imag, out=out[:half])
    # The spectrum of real data is conjugate-symmetric: F[n - k] = conj(F[k]).
    mirrored = F[out.shape[0] - half : 0 : -1]
    np.add(mirrored.real, mirrored.imag, out=out[half:])
