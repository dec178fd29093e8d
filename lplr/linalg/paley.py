"""Hadamard matrices of sizes that are not powers of two, from Paley's two formulas.

With chi the quadratic character modulo a prime q and ``Q[i, j] = chi(i - j)``, bordered by ones
(R. Paley, On orthogonal matrices, J. Math. Phys. 12, 1933):

1. q = 3 (mod 4): ``P = I + [[0, 1], [-1, Q]]`` has order q + 1: 12, 20, 24, 44, 48, 60 ...
2. q = 1 (mod 4): ``P = C kron [[1, 1], [1, -1]] + I kron [[1, -1], [-1, -1]]`` with
   ``C = [[0, 1], [1, Q]]`` has order 2 (q + 1): 28, 36 ... (12 and 60 are left to the first).

Prime powers, which the formulas allow too, would add only the order 52.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["block_order", "paley"]

LARGEST_BLOCK = 64  # the block is applied as a dense matrix; beyond, a Fourier transform is faster


@lru_cache(maxsize=256)
def block_order(n: int) -> int:
    """Order b of the Paley block of a Hadamard matrix of size n = b 2^p; 0 if there is none.

    For n = m 2^t with m odd: 1 if m = 1, else 4m if that is at most 64, divides n and has one of
    the two forms, which only 52 has not.

    >>> [block_order(n) for n in (4096, 1536, 576, 784)]
    [1, 12, 36, 0]
    """
    odd = n
    while odd % 2 == 0:
        odd //= 2
    order = 1 if odd == 1 else 4 * odd
    if order == 1 or (order <= LARGEST_BLOCK and n % order == 0 and _paley_prime(order)):
        return order
    return 0


def _paley_prime(order: int) -> int:
    """The prime q of Paley's construction of a Hadamard matrix of this order, 0 if none."""
    for q, residue in ((order - 1, 3), (order // 2 - 1, 1)):
        if q % 4 == residue and q > 2 and all(q % p for p in range(2, int(q**0.5) + 1)):
            return q
    return 0


@lru_cache(maxsize=16)
def paley(order: int, dtype: np.dtype, transposed: bool) -> np.ndarray:
    """Paley's Hadamard matrix P of an order of `block_order`, or its transpose; read-only.

    Its entries are ±1, and ``P @ P.T = order * I``.
    """
    q = _paley_prime(order)
    character = np.full(q, -1.0)
    character[np.arange(1, q) ** 2 % q] = 1
    character[0] = 0
    bordered = np.ones((q + 1, q + 1))
    bordered[0, 0] = 0
    index = np.arange(q)
    bordered[1:, 1:] = character[(index[:, None] - index) % q]
    if q % 4 == 3:
        bordered[1:, 0] = -1  # skew: then I + bordered is orthogonal up to scale
        P = np.eye(order) + bordered
    else:
        P = np.kron(bordered, [[1, 1], [1, -1]]) + np.kron(np.eye(q + 1), [[1, -1], [-1, -1]])
    P = np.ascontiguousarray(P.T if transposed else P, dtype)
    P.flags.writeable = False  # the cache hands the same array to every caller
    return P
