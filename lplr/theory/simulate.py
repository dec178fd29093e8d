"""The algorithms of both papers in float64, without packing: one trial of a simulation runs them.

Factors are rounded but not stored, and errors come from Gram matrices, so that thousands of trials
take seconds. The tests show that the public algorithms compute the same from the same random
numbers. What needs no such shortcut is called from `lplr.linalg` as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np

__all__ = [
    "Rounded",
    "Solved",
    "cheap_dither",
    "feedback_round",
    "gaussian",
    "hessian_loss",
    "nearest",
    "pseudo_inverse_energy",
    "round_endless",
    "round_to_grid",
    "solve",
    "squared_error",
    "two_sided_round",
    "unit_factor",
]

Dither = Callable[[tuple[int, ...]], "np.ndarray | float"]


def gaussian(d: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """A sketch S of shape (d, m), S_ij ~ N(0, 1/m)."""
    from lplr.linalg.sketches import Sketch

    return Sketch("gaussian", d, m).sample(rng).to_dense()


def pseudo_inverse_energy(G: np.ndarray) -> float:
    """|G^+|_F^2 of G of shape (k, m), k <= m, of full row rank: tr (G G^T)^-1."""
    from scipy.linalg import lapack

    # By the triangular factor of G^T: the condition is not squared.
    R = lapack.dgeqrf(G.T)[0][: len(G)]
    inverse, _ = lapack.dtrtri(R)
    return float(np.square(np.triu(inverse)).sum())


def cheap_dither(rng: np.random.Generator) -> Dither:
    """Uniform numbers of 16 random bits, four from each word of the generator.

    They are the midpoints of 2^16 intervals, so that the probability of rounding up is right to
    2^-17: a bias of at most 2^-17 steps, whose square is 2^-32 of the variance allowed.
    """

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        count = prod(shape)
        words = rng.integers(0, 1 << 64, -(-count // 4), np.uint64)
        u = words.view(np.uint16)[:count].reshape(shape) * 2.0**-16
        u += 2.0**-17
        return u

    return draw


def nearest(shape: tuple[int, ...]) -> float:
    """The constant dither that rounds to the nearest point."""
    return 0.5


class Rounded(NamedTuple):
    """A matrix on the grid of a quantizer, the step, and whether an entry was out of range."""

    values: np.ndarray
    step: float
    saturated: bool


def round_to_grid(
    X: np.ndarray, bits: int, dither: Dither, half_range: float | None = None
) -> Rounded:
    """Round to 2^bits uniform levels: up where the fraction of a step plus the dither exceeds 1.

    Parameters
    ----------
    X : ndarray, float64
    bits : int
    dither : callable
        Numbers in [0, 1) for a shape: `cheap_dither` or `nearest`.
    half_range : float, optional
        The levels span plus and minus this; by default the range of X itself, which nothing
        leaves.
    """
    top = 2.0**bits - 1
    low, high = float(X.min()), float(X.max())
    saturated = half_range is not None and max(-low, high) > half_range
    if half_range is not None:
        low, high = -half_range, half_range
    step = (high - low) / top
    if step == 0.0:
        return Rounded(X.copy(), step, saturated)
    y = X - low
    y *= 1 / step
    y += dither(X.shape)
    np.floor(y, out=y)
    np.clip(y, 0.0, top, out=y)
    y *= step
    y += low
    return Rounded(y, step, saturated)


def round_endless(X: np.ndarray, step: float, dither: Dither) -> np.ndarray:
    """Round to the odd multiples of half a step, which go on without end: nothing saturates.

    A theorem whose quantizer has a range that is not known beforehand asks for this: a step that
    is fixed, and room for any value. The levels are those of 2^bits from -R to R, continued.
    """
    y = X * (1 / step)
    y += dither(X.shape)
    y -= 0.5
    np.floor(y, out=y)
    y += 0.5
    y *= step
    return y


def feedback_round(
    W: np.ndarray, C: np.ndarray, step: float, dither: Dither
) -> tuple[np.ndarray, np.ndarray]:
    """LDLQ along the rows of W under H = C diag(D) C^T.

    Parameters
    ----------
    W : ndarray of shape (k, n), float64
    C : ndarray of shape (k, k), float64, unit lower triangular
    step : float
        Step of the grid of `round_endless`.
    dither : callable

    Returns
    -------
    E : ndarray of shape (k, n)
        W - Q.
    eta : ndarray of shape (k, n)
        The rounding errors: each row as it was rounded, feedback included, minus the result.

    Notes
    -----
    From the last row to the first, row k rounds ``W_k + sum_{j>k} C[j, k] E_j``. So, up to
    rounding in float64, ``eta = C^T E``, and the loss tr(E^T H E) is ``sum_k D_k |eta_k|^2``.
    """
    E, eta = np.empty_like(W), np.empty_like(W)
    u = np.broadcast_to(dither(W.shape), W.shape)
    for k in range(len(W) - 1, -1, -1):
        y = W[k] + C[k + 1 :, k] @ E[k + 1 :]
        Q = step * (np.floor(y / step + (u[k] - 0.5)) + 0.5)
        E[k], eta[k] = W[k] - Q, y - Q
    return E, eta


def two_sided_round(
    W: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    step: float,
    dither: Dither,
    subtractive: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Feedback on both sides of W under G = B diag(D_G) B^T and H = C diag(D_H) C^T.

    Parameters
    ----------
    W : ndarray of shape (n, d), float64
    B, C : ndarrays of shape (n, n) and (d, d), float64, unit lower triangular
    step : float
        Step of the grid of `round_endless`.
    dither : callable
    subtractive : bool
        Subtract the dither again from what it has rounded.

    Returns
    -------
    E : ndarray of shape (n, d)
        W - Q.
    eta : ndarray of shape (n, d)
        The rounding errors: each entry as it was rounded, feedback included, minus the result.

    Notes
    -----
    Entry (i, j) rounds ``W_ij + sum B[a, i] E_ab C[b, j]`` over the other (a, b), a >= i, b >= j.
    Entries of one i + j do not wait for one another. So, up to rounding in float64,
    ``eta = B^T E C``, and the loss tr(G E H E^T) is ``sum D_G[i] eta[i, j]^2 D_H[j]``.
    """
    n, d = W.shape
    E, eta, fed = np.empty_like(W), np.empty_like(W), np.zeros_like(W)  # fed: B^T E so far
    u = np.broadcast_to(dither(W.shape), W.shape) - 0.5
    for diagonal in range(n + d - 2, -1, -1):
        i = np.arange(max(0, diagonal - d + 1), min(n, diagonal + 1))
        j = diagonal - i
        y = W[i, j] + np.einsum("kb,bk->k", fed[i], C[:, j])
        Q = step * (np.floor(y / step + u[i, j]) + 0.5 - subtractive * u[i, j])
        E[i, j], eta[i, j] = W[i, j] - Q, y - Q
        fed[:, j] += B[i].T * E[i, j]
    return E, eta


def unit_factor(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C and D of H = C diag(D) C^T, C unit lower triangular.

    Where H is singular to working precision its diagonal is raised by 2^-40 of its mean, which
    changes no loss by more than that share of what plain rounding loses.
    """
    from lplr.linalg.ldl import ldl

    try:
        return ldl(H)
    except np.linalg.LinAlgError:
        return ldl(H + 2.0**-40 * np.trace(H) / len(H) * np.eye(len(H)))


def hessian_loss(E: np.ndarray, H: np.ndarray) -> float:
    """tr(E H E^T) of an error E of shape (n, d) under H of shape (d, d)."""
    return float(np.vdot(E @ H, E))


class Solved(NamedTuple):
    """min_W |L W - A|_F: the solution W (m, d), ``L^T L`` (m, m) and ``L^T A`` (m, d)."""

    W: np.ndarray
    gram: np.ndarray
    cross: np.ndarray


def solve(L: np.ndarray, A: np.ndarray) -> Solved:
    """The solution, of least norm where L is rank deficient.

    Parameters
    ----------
    L : ndarray of shape (n, m), float64
    A : ndarray of shape (n, d), float64

    Notes
    -----
    By Cholesky of the Gram matrix, in float64 good to 1e-16 times the squared condition of L,
    or, where a pivot is below 1e-10 of the largest, by an orthogonal factorization of L.
    """
    from scipy.linalg import lapack, lstsq

    G, B = L.T @ L, L.T @ A
    C, failed = lapack.dpotrf(G, lower=1)
    pivots = np.diagonal(C)
    if failed == 0 and pivots.min() > 1e-5 * pivots.max():
        return Solved(lapack.dpotrs(C, B, lower=1)[0], G, B)
    return Solved(lstsq(L, A, lapack_driver="gelsy", check_finite=False)[0], G, B)


def squared_error(energy: float, solved: Solved, R: np.ndarray) -> float:
    """|A - L R|_F^2 through Gram matrices, where ``energy`` is |A|_F^2: L R is never formed.

    This is a difference of large numbers: right to about 1e-13 of ``energy``, for R near W.
    """
    return energy - 2 * float(np.vdot(solved.cross, R)) + float(np.vdot(solved.gram, R @ R.T))
