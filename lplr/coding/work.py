"""How long the steps of the coding take: the weights of what they report of their progress.

All figures are seconds of one core that multiplies 120 GFLOP/s in float32. Only their ratios
matter, and they are right to a factor of about 1.5.
"""

from __future__ import annotations

from lplr.quantizers.base import Codebook
from lplr.quantizers.trellis_codebook import TrellisCodebook

__all__ = ["code_seconds", "product_seconds", "svd_seconds"]

_FLOP = 1 / 1.2e11
_EIGEN = 1.5e-10  # per cube of the side, with vectors
_ENTRY = 5e-9  # scalar and lattice codes
_STATE = 1.3e-10  # per state of a trellis


def product_seconds(n: int, d: int, k: int) -> float:
    """A product of n x k and k x d."""
    return 2.0 * n * d * k * _FLOP


def code_seconds(k: int, length: int, book: Codebook, sweeps: int) -> float:
    """Feedback and sweeps over k vectors of a length, and the products of the feedback."""
    states = 2 ** int(book.name.split("-")[1]) if isinstance(book, TrellisCodebook) else 0
    entry = _STATE * states if states else _ENTRY
    products = (1 + 3 * sweeps) * _FLOP * k if k > 1 else 0.0
    return float(k) * length * ((1 + sweeps) * entry + products)


def svd_seconds(shape: tuple[int, int], k: int) -> float:
    """Singular values and vectors of the shorter side: a Gram matrix, and eigenvectors."""
    n, d = shape
    short = min(n, d)
    width = min(short, 1.25 * k)
    return float(n) * d * short * _FLOP + 6.0 * short * width * width * _FLOP + _EIGEN * width**3
