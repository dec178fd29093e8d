"""Feedback factorization: both factors by feedback quantization, in alternation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.coding.feedback import quantize_feedback
from lplr.linalg.least_squares import gram, solve
from lplr.linalg.qr import haar
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.parallel import matmul
from lplr.planning.budget import Books, split_exponent
from lplr.quantizers.base import Codebook
from lplr.quantizers.trellis_codebook import TrellisCodebook

__all__ = [
    "DAMPING",
    "SVD",
    "Factor",
    "alternate",
    "feedback_factors",
    "fit_scales",
    "pack_factors",
    "quantize_factor",
    "rotated_start",
    "squared_norm",
]

SVD = tuple[np.ndarray, np.ndarray, np.ndarray]

_PASSES = 3  # of the alternation; later ones gain less than 0.3 % each
# Of coordinate descent after each feedback pass, for codes that look at few entries at a time; a
# trellis code sees hundreds, and gains 0.1 % from the last of these passes alone.
_SWEEPS, _TRELLIS_SWEEPS = 2, 1
# Share of the mean diagonal added to a Gram matrix: keeps a rank-deficient one factorizable and
# is invisible in the error (measured flat from 1e-9 to 1e-3).
DAMPING = 1e-4


@dataclass
class Factor:
    """A quantized factor, the inner axis first: component k is ``scale[k] * points[k]``."""

    codes: np.ndarray  # (m, ceil(n / group))
    scale: np.ndarray  # (m,), float32
    values: np.ndarray  # (m, n), float32


def feedback_factors(
    A: np.ndarray,
    svd: SVD,
    books: Books,
    rng: np.random.Generator,
) -> LowRank:
    """Factor A at the rank of a given SVD, both factors quantized by feedback.

    Parameters
    ----------
    A : ndarray of shape (n, d), float32
    svd : (U, s, Vt) of shapes (n, m), (m,), (m, d)
        Of (nearly) the best rank-m approximation.
    books : (Codebook, Codebook)
        Of L and R.
    rng : numpy.random.Generator
        Draws the rotation of the rank space.

    Returns
    -------
    LowRank
        Its ``meta["history"]`` has the relative error after each pass.

    Notes
    -----
    Neither paper has this. For a given L the error of R is ``|L (R - W*)|^2`` plus a constant,
    W* the least-squares solution, so each column of R is a quantization problem under the Hessian
    L^T L; rows of L likewise under R R^T. Only the products of the scales of L and R matter: they
    are stored once, and fitted exactly, which includes the optimal shrinkage of the whole product.
    The history is a difference of energies, right to about 1e-3 of the norm.
    """
    energy = squared_norm(A)
    left, right, history = alternate(A, rotated_start(svd, books, rng), books, _PASSES)
    errors = [float(np.sqrt(max(loss, 0.0) / energy)) for loss in history]
    return pack_factors(left, right, right.scale, books, {"history": errors})


def rotated_start(svd: SVD, books: Books, rng: np.random.Generator) -> np.ndarray:
    """The right factor to start from: ``G^T Sigma^(1-a) V^T``, G a random rotation.

    Without the rotation the Hessians of both factors would be diagonal and feedback would gain
    nothing; a balances what the two codes lose (see `lplr.planning.budget.split_exponent`). G is
    Haar-distributed: a randomized Hadamard matrix, all of whose entries have one magnitude, gives
    a Hessian of nearly constant diagonal, whose pivots are 1 % worse and make a two-bit code
    overload.

    Parameters
    ----------
    svd : (U, s, Vt) of shapes (n, m), (m,), (m, d)
    books : (Codebook, Codebook)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (m, d), float32
    """
    _, s, Vt = svd
    a, _ = split_exponent(s, books)
    floor = np.maximum(s, s[0] * 1e-6) ** (1 - a)
    G = haar(len(s), len(s), rng).astype(np.float32)
    return matmul(G, (floor[:, None] * Vt).astype(np.float32))


def alternate(
    A: np.ndarray, R: np.ndarray, books: Books, passes: int
) -> tuple[Factor, Factor, list[float]]:
    """Quantize L for R, then R for L, in turn; the best pair and the squared error of each.

    Parameters
    ----------
    A : ndarray of shape (n, d), float32
    R : ndarray of shape (m, d), float32
        Where to start; need not be quantized.
    books : (Codebook, Codebook)
    passes : int
        At most; it ends early when the error no longer falls.

    Returns
    -------
    left : Factor of L^T, shape (m, n)
    right : Factor of R, shape (m, d), its scales fitted
    history : list of float
        Squared error after each pass, scales fitted. The next pass starts from the scales that
        were rounded to: going on from fitted ones was up to 1.7 % worse.
    """
    energy = squared_norm(A)
    best: tuple[Factor, Factor] | None = None
    history: list[float] = []
    for turn in range(passes):
        rough = turn == 0 and passes > 1
        left = quantize_factor(matmul(R, A.T), gram(R), books[0], rough)
        G = gram(left.values)
        B = matmul(left.values, A)
        right = quantize_factor(B, G, books[1], rough)
        R = right.values
        fitted = _rescaled(right, fit_scales(right, G, B))
        cross = float(np.einsum("ij,ij->", B, fitted.values, dtype=np.float64))
        history.append(energy - 2.0 * cross + float(np.vdot(G, gram(fitted.values))))
        if best is not None and history[-1] >= min(history[:-1]):
            break
        best = left, fitted
    assert best is not None
    return *best, history


def _rescaled(factor: Factor, scale: np.ndarray) -> Factor:
    """The same codes at other scales; what has scale 0 keeps it."""
    ratio = np.divide(scale, factor.scale, out=np.zeros_like(scale), where=factor.scale > 0)
    return Factor(factor.codes, factor.scale * ratio, factor.values * ratio[:, None])


def squared_norm(A: np.ndarray) -> float:
    """Squared Frobenius norm; float32 sums of a block of rows, added in float64."""
    return sum(float(np.vdot(a, a)) for a in (A[i : i + 64] for i in range(0, len(A), 64)))


def quantize_factor(B: np.ndarray, G: np.ndarray, book: Codebook, rough: bool = False) -> Factor:
    """Solve G X = B and quantize X under G; ``rough`` if it will be replaced after another pass."""
    m, n = B.shape
    G = G + DAMPING * np.trace(G) / m * np.eye(m)
    X = solve(G, B)
    if n % book.group:
        X = np.pad(X, ((0, 0), (0, -n % book.group)))
    sweeps = _SWEEPS if not isinstance(book, TrellisCodebook) else 0 if rough else _TRELLIS_SWEEPS
    codes, scale, error = quantize_feedback(X, G, book, sweeps=sweeps)
    return Factor(codes, scale, np.ascontiguousarray((X - error)[:, :n]))


def fit_scales(
    right: Factor, G: np.ndarray, B: np.ndarray, RH: np.ndarray | None = None
) -> np.ndarray:
    """The scales of the rows of R that minimise the error while all codes stay as they are.

    With R = diag(t) R_0 the error is a quadratic in t: ``t^T (G * R_0 H R_0^T) t - 2 b^T t``, *
    the entrywise product and b the row sums of ``B * R_0 H``.

    Parameters
    ----------
    right : Factor
        R_0, of shape (m, d).
    G : ndarray of shape (m, m), float64, L^T L
    B : ndarray of shape (m, d), float32, L^T A
    RH : ndarray of shape (m, d), float32, optional
        R_0 H; by default H is the identity.

    Returns
    -------
    ndarray of shape (m,), float32
    """
    R = right.values
    weighted = R if RH is None else RH
    P = gram(R) if RH is None else matmul(RH.astype(np.float64), R.T.astype(np.float64))
    M = G * (P + P.T) / 2
    b = np.einsum("ij,ij->i", B, weighted, dtype=np.float64)
    t = np.ones(len(b))
    try:
        fitted = np.linalg.solve(M + 1e-9 * np.trace(M) / len(b) * np.eye(len(b)), b)
    except np.linalg.LinAlgError:  # a zero matrix
        fitted = t
    if np.isfinite(fitted).all() and fitted @ M @ fitted - 2 * b @ fitted < t @ M @ t - 2 * b @ t:
        t = fitted
    return (right.scale * t).astype(np.float32)


def pack_factors(
    left: Factor, right: Factor, scale: np.ndarray, books: Books, meta: dict[str, Any] | None = None
) -> LowRank:
    """The packed object; all scales are stored with the rows of R."""
    m = len(scale)
    return LowRank(
        Quantized(
            shape=(left.values.shape[1], m),
            quantizer=books[0].name,
            bits=books[0].bits,
            codes=books[0].pack(left.codes.T, axis=0),
            scale=np.ones((1, 1), np.float32),
            axis=0,
        ),
        Quantized(
            shape=(m, right.values.shape[1]),
            quantizer=books[1].name,
            bits=books[1].bits,
            codes=books[1].pack(right.codes, axis=1),
            scale=(left.scale * scale)[:, None].astype(np.float32),
            axis=1,
        ),
        meta=meta or {},
    )
