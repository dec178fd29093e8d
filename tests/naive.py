"""Oracles too simple to be wrong: plain loops, one entry at a time, in float64."""

from __future__ import annotations

import numpy as np

from lplr.neighbours.search import Neighbours


def nearest(x: float, levels: np.ndarray) -> int:
    """Index of the nearest level; of two equally near ones the lower."""
    return int(np.argmin(np.abs(levels.astype(np.float64) - x)))


def ldl(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H = L diag(D) L^T, L unit lower triangular, by elimination."""
    k = len(H)
    S = np.array(H, np.float64)
    L, D = np.eye(k), np.zeros(k)
    for i in range(k):
        D[i] = S[i, i]
        for j in range(i + 1, k):
            L[j, i] = S[j, i] / S[i, i]
        for j in range(i + 1, k):
            for m in range(i + 1, k):
                S[j, m] -= L[j, i] * D[i] * L[m, i]
    return L, D


def ldlq(
    X: np.ndarray, L: np.ndarray, levels: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LDL feedback quantization, rows from last to first.

    Returns the codes, the error X - Q and the rounding errors eta.
    """
    k, n = X.shape
    codes, error, eta = np.zeros((k, n), int), np.zeros((k, n)), np.zeros((k, n))
    for column in range(n):
        for i in range(k - 1, -1, -1):
            y = float(X[i, column])
            for j in range(i + 1, k):
                y += L[j, i] * error[j, column]
            s = float(scale[i])
            code = nearest(y / s if s > 0 else 0.0, levels)
            q = s * float(levels[code])
            codes[i, column] = code
            error[i, column] = X[i, column] - q
            eta[i, column] = y - q
    return codes, error, eta


def descend(
    X: np.ndarray, codes: np.ndarray, H: np.ndarray, levels: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """One sweep of coordinate descent, rows from last to first: the codes after it.

    Each entry in turn is the level of least loss while all other entries stay.
    """
    codes = codes.astype(int)
    k, n = X.shape
    for column in range(n):
        error = [float(X[i, column]) - float(scale[i] * levels[codes[i, column]]) for i in range(k)]
        for i in range(k - 1, -1, -1):
            pull = sum(H[i, j] * error[j] for j in range(k) if j != i) / H[i, i]
            codes[i, column] = nearest((float(X[i, column]) + pull) / float(scale[i]), levels)
            error[i] = float(X[i, column]) - float(scale[i] * levels[codes[i, column]])
    return codes


def loss(E: np.ndarray, H: np.ndarray) -> float:
    """tr(E^T H E), for E with the feedback axis first."""
    return float(sum(e @ H @ e for e in np.asarray(E, np.float64).T))


def min_max(A: np.ndarray, bits: int) -> np.ndarray:
    """Uniform levels from the least to the largest entry, each entry at its nearest level."""
    levels = np.linspace(A.min(), A.max(), 2**bits)
    return levels[np.abs(A[..., None] - levels).argmin(-1)]


def algorithm_1(A: np.ndarray, S: np.ndarray, bits: int) -> np.ndarray:
    """Algorithm 1 of LPLR, dense: Q(A S) Q'(argmin_W |Q(A S) W - A|)."""
    L = min_max(A @ S, bits)
    W = np.linalg.lstsq(L, A, rcond=None)[0]
    return L @ min_max(W, bits)


def block_ldl(H: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """H = L diag(D_1, D_2, ...) L^T with identity blocks on the diagonal of L, by elimination."""
    k = len(H)
    S, L = np.array(H, np.float64), np.eye(k)
    D = []
    for i in range(0, k, group):
        own, rest = slice(i, i + group), slice(i + group, k)
        D.append(S[own, own].copy())
        L[rest, own] = S[rest, own] @ np.linalg.inv(D[-1])
        S[rest, rest] -= L[rest, own] @ D[-1] @ L[rest, own].T
    return L, np.array(D)


def block_ldlq(x: np.ndarray, L: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Feedback over blocks of one row, last to first, each block at its nearest of all points.

    Returns Q and the rounding errors eta.
    """
    group = points.shape[1]
    q, eta = np.zeros(len(x)), np.zeros(len(x))
    for i in range(len(x) - group, -1, -group):
        own = slice(i, i + group)
        y = x[own].astype(np.float64)
        for j in range(i + group, len(x)):
            y = y + (x[j] - q[j]) * L[j, own]
        q[own] = points[np.sum((points - y) ** 2, axis=1).argmin()]
        eta[own] = y - q[own]
    return q, eta


def neighbours(A: np.ndarray, X: np.ndarray, k: int, metric: str) -> Neighbours:
    """All distances, one pair at a time in float64, and a stable sort."""
    A, X = A.astype(np.float64), X.astype(np.float64)
    if metric == "inner":
        all_of_them = -np.array([A @ x for x in X])
    elif metric == "cosine":
        lengths = np.linalg.norm(A, axis=1)
        all_of_them = np.array([1 - (A @ x) / (lengths * np.linalg.norm(x)) for x in X])
    else:
        all_of_them = np.array([np.sqrt(np.square(A - x).sum(axis=1)) for x in X])
    order = np.argsort(all_of_them, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(all_of_them, order, axis=1)
    return Neighbours(-values if metric == "inner" else values, order)
