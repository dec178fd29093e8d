"""The error of an approximation, evaluated in float64 in the plainest way, and what rounding may
change of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["TOLERANCE", "Loss", "moment", "true_error"]

TOLERANCE = 1e-6  # relative, of a stated error


class Loss(NamedTuple):
    """A relative error, and by how much one that is computed otherwise may differ from it.

    ``in_float64`` is what sums in float64 may differ by, and ``weight`` the relative error, at
    most, of a matrix that is off by the norm of A.
    """

    error: float
    in_float64: float
    weight: float


def moment(hessian: Any, size: int) -> np.ndarray:
    """The float64 (size, size) matrix that an argument stands for."""
    if hessian is None:
        return np.eye(size)
    H = np.asarray(hessian, np.float64)
    if H.ndim == 1:
        return np.diag(H)
    return H if H.shape == (size, size) else H.T @ H / len(H)


def true_error(A: Any, dense: Any, H: np.ndarray, G: np.ndarray) -> Loss:
    """``sqrt(tr(G E H E^T) / tr(G A H A^T))`` for moments H (d, d) and G (n, n).

    A sum of m products in float64 is off by at most m times 2**-53 of the sum of their magnitudes.
    """
    A = np.asarray(A).astype(np.float64)
    E = A - np.asarray(dense, np.float64)
    (error, error_size), (norm, norm_size) = _square(E, H, G), _square(A, H, G)
    if norm <= 0:
        return Loss(0.0 if error <= 0 else np.inf, np.inf if norm_size > 0 else 0.0, 0.0)
    eps = (sum(A.shape) + 2) * np.finfo(np.float64).eps
    relative = np.sqrt(max(error, 0.0) / norm)
    lost = eps * (error_size / norm + relative**2 * norm_size / norm)
    # The change of a root: at most the root of the change, and less far from zero.
    in_float64 = min(np.sqrt(lost), lost / relative if relative > 0 else np.inf)
    weight = np.linalg.norm(H, 2) * np.linalg.norm(G, 2)
    at_most = np.linalg.norm(A) * np.sqrt(weight / norm)
    return Loss(float(relative), float(in_float64), float(at_most))


def _square(X: np.ndarray, H: np.ndarray, G: np.ndarray) -> tuple[float, float]:
    """``tr(G X H X^T)``, and the sum of the magnitudes of its terms."""
    signed = np.einsum("ij,jk,kl,il->", G, X, H, X, optimize=False)
    Xa = np.abs(X)
    return float(signed), float(np.einsum("ij,jk,kl,il->", abs(G), Xa, abs(H), Xa, optimize=False))
