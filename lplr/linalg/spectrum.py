"""All singular values of a large matrix, estimated from few products."""

from __future__ import annotations

import numpy as np

from lplr.linalg.least_squares import gram
from lplr.linalg.qr import orthonormal_basis
from lplr.parallel import matmul

__all__ = ["estimated_singular_values"]

_BLOCK = 64  # random starting vectors
_STEPS = 4  # blocks of the Krylov space: of 1 to 8, the fewest that err by a few percent
# A Ritz value of at most this weight stands for one singular value: weights of such spread by
# ``sqrt(2 / _BLOCK)`` = 0.18 around 1.
_ONE = 1.6


def estimated_singular_values(A: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All min(n, d) singular values of a float32 matrix (n, d), descending, float64.

    Block Lanczos from random vectors Z yields Ritz values of ``A^T A``, each with the share of Z
    in its vector; d times this share is how many singular values it stands for (stochastic Lanczos
    quadrature: Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017). The leading ones, which
    the Krylov space contains, stand for themselves and are nearly exact; between them and the
    others values are interpolated, as powers of their number. On layers and on flat spectra sums of
    squares from any number on err by 1 to 10 %, in the time of half a product with a square matrix
    for each thousand columns. Where the spectrum falls by orders of magnitude, the smallest values
    are wrong by a factor, and weigh nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.spectrum import estimated_singular_values
    >>> A = np.random.default_rng(0).standard_normal((600, 500), dtype=np.float32)
    >>> s = estimated_singular_values(A, np.random.default_rng(1))
    >>> exact = np.linalg.svd(A, compute_uv=False)
    >>> bool(abs(s[:100] / exact[:100] - 1).max() < 0.03)
    True
    """
    X = A if A.shape[0] >= A.shape[1] else A.T
    d = X.shape[1]
    block = min(_BLOCK, d)
    basis = orthonormal_basis(rng.standard_normal((d, block), dtype=np.float32))
    Y = matmul(X, basis)
    images = [Y]
    while basis.shape[1] + block <= min(d, _STEPS * block):
        new = matmul(X.T, Y)
        # Twice: what the first projection leaves can be small, and lean back to the basis.
        for _ in range(2):
            new = orthonormal_basis(new - matmul(basis, matmul(basis.T, new)))
        basis = np.hstack([basis, new])
        Y = matmul(X, new)
        images.append(Y)
    w, V = np.linalg.eigh(gram(np.hstack(images).T))
    w = np.maximum(w[::-1], np.finfo(np.float64).tiny)
    weights = np.square(V[:block, ::-1]).sum(axis=0) * (d / block)
    single = int(np.argmax(np.append(weights, np.inf) > _ONE))
    weights[:single] = 1.0
    weights[single:] *= (d - single) / weights[single:].sum() if single < len(w) else 1.0
    number = np.cumsum(weights) - weights / 2
    return np.exp(np.interp(np.log(np.arange(d) + 0.5), np.log(number), np.log(w)) / 2)
