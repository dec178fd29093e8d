"""Feedback factorization: both factors by feedback quantization, in alternation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.algorithms.budget import Books, gauge
from lplr.algorithms.feedback import quantize_feedback
from lplr.algorithms.incoherence import RandomizedTransform
from lplr.algorithms.regression import gram, solve
from lplr.factors import LowRank, Quantized
from lplr.parallel import matmul
from lplr.quantizers.base import Codebook
from lplr.storage.packing import pack

__all__ = ["SVD", "feedback_factors", "squared_norm"]

SVD = tuple[np.ndarray, np.ndarray, np.ndarray]

_PASSES = 3  # of the alternation; later ones gain less than 0.3 % each
_SWEEPS = 2  # of coordinate descent after each feedback pass
# Share of the mean diagonal added to a Gram matrix: keeps a rank-deficient one factorizable and
# is invisible in the error (measured flat from 1e-9 to 1e-3).
_DAMPING = 1e-4


@dataclass
class _Factor:
    """A quantized factor, the inner axis first: ``scale[k] * points[k]`` is its k-th component."""

    codes: np.ndarray  # (m, n / group)
    scale: np.ndarray  # (m,)
    values: np.ndarray  # (m, n)


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
    L^T L; rows of L likewise under R R^T. The start is ``U Sigma^a | Sigma^(1-a) V^T`` turned by
    a random orthogonal matrix, without which the Hessians would be diagonal and feedback would
    gain nothing; a balances what the two codes lose (see `lplr.algorithms.budget.gauge`). Only
    the products of the scales of L and R matter: they are stored once, and fitted exactly at the
    end, which includes the optimal shrinkage of the whole product.
    """
    _, s, Vt = svd
    a, _ = gauge(s, books)
    floor = np.maximum(s, s[0] * np.float32(1e-6))
    rotation = RandomizedTransform.sample(len(s), rng)
    R = rotation.apply((floor ** (1 - a))[:, None] * Vt, axis=0).astype(np.float32)
    energy = squared_norm(A)
    best: tuple[_Factor, _Factor, np.ndarray, np.ndarray] | None = None
    history: list[float] = []
    for _ in range(_PASSES):
        left = _quantize(matmul(R, A.T), gram(R), books[0])
        G = gram(left.values)
        B = matmul(left.values, A)
        right = _quantize(B, G, books[1])
        R = right.values
        history.append(_loss(energy, G, B, R))
        if best is not None and history[-1] >= min(history[:-1]):
            break
        best = left, right, G, B
    assert best is not None
    left, right, G, B = best
    scale = left.scale * _fit_scales(right, G, B)
    errors = [float(np.sqrt(max(loss, 0.0) / energy)) for loss in history]
    return _pack(left.codes, right.codes, scale, A.shape, books, {"history": errors})


def squared_norm(A: np.ndarray) -> float:
    """Squared Frobenius norm; float32 sums of a block of rows, added in float64."""
    return sum(float(np.vdot(a, a)) for a in (A[i : i + 64] for i in range(0, len(A), 64)))


def _quantize(B: np.ndarray, G: np.ndarray, book: Codebook) -> _Factor:
    """Solve G X = B and quantize X under G."""
    m, n = B.shape
    G = G + _DAMPING * np.trace(G) / m * np.eye(m)
    X = solve(G, B)
    if n % book.group:
        X = np.pad(X, ((0, 0), (0, -n % book.group)))
    codes, scale, error = quantize_feedback(X, G, book, sweeps=_SWEEPS)
    return _Factor(codes, scale, np.ascontiguousarray((X - error)[:, :n]))


def _loss(energy: float, G: np.ndarray, B: np.ndarray, R: np.ndarray) -> float:
    """|A - L R|^2 from G = L^T L and B = L^T A."""
    cross = np.einsum("ij,ij->", B, R, dtype=np.float64)
    return energy - 2.0 * float(cross) + float(np.vdot(G, gram(R)))


def _fit_scales(right: _Factor, G: np.ndarray, B: np.ndarray) -> np.ndarray:
    """The scales of the rows of R that minimise the error while all codes stay as they are.

    With R = diag(t) R_0 the error is a quadratic in t: ``t^T (G * R_0 R_0^T) t - 2 b^T t``, * the
    entrywise product and b the row sums of ``B * R_0``.
    """
    M = G * gram(right.values)
    b = np.einsum("ij,ij->i", B, right.values, dtype=np.float64)
    t = np.ones(len(b))
    try:
        fitted = np.linalg.solve(M + 1e-9 * np.trace(M) / len(b) * np.eye(len(b)), b)
    except np.linalg.LinAlgError:  # a zero matrix
        fitted = t
    if np.isfinite(fitted).all() and fitted @ M @ fitted - 2 * b @ fitted < t @ M @ t - 2 * b @ t:
        t = fitted
    return (right.scale * t).astype(np.float32)


def _pack(
    left: np.ndarray,
    right: np.ndarray,
    scale: np.ndarray,
    shape: tuple[int, int],
    books: Books,
    meta: dict[str, Any],
) -> LowRank:
    m = len(scale)
    return LowRank(
        Quantized(
            shape=(shape[0], m),
            quantizer=books[0].name,
            bits=books[0].bits,
            codes=pack(left.T, books[0].width),
            scale=np.ones((1, 1), np.float32),
            axis=0,
        ),
        Quantized(
            shape=(m, shape[1]),
            quantizer=books[1].name,
            bits=books[1].bits,
            codes=pack(right, books[1].width),
            scale=scale[:, None].astype(np.float32),
            axis=1,
        ),
        meta=meta,
    )
