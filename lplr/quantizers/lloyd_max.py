"""Lloyd-Max levels: the scalar codebook of least mean squared error on N(0, 1)."""

from __future__ import annotations

import numpy as np

from lplr.quantizers.scalar import ScalarCodebook, gaussian_cells

__all__ = ["lloyd_max"]


def lloyd_max(bits: int) -> ScalarCodebook:
    """The Lloyd-Max codebook of 2**bits levels for N(0, 1) (Max 1960, Lloyd 1982); 1 to 8 bits.

    Each level is the centroid of its cell. Lloyd's iteration for these equations takes thousands of
    rounds at 8 bits; Newton's method, whose Jacobian is tridiagonal here, takes a few. It starts
    from the density of levels that is best for many levels (Panter and Dite 1951): the cube root of
    the normal density, which is a normal density of variance 3.
    """
    from scipy.linalg import solve_banded
    from scipy.special import ndtri

    n = 2**bits
    q = np.sqrt(3.0) * ndtri((np.arange(n) + 0.5) / n)
    for _ in range(50):
        mass, first, density, edges = gaussian_cells(q)
        centroid = first / mass
        # Derivatives of a centroid by the lower and the upper edge of its cell; the outermost
        # edges are at infinity and do not move.
        lower = np.r_[0.0, density[1:-1] * (centroid[1:] - edges[1:-1])] / mass
        upper = np.r_[density[1:-1] * (edges[1:-1] - centroid[:-1]), 0.0] / mass
        jacobian = np.zeros((3, n))
        jacobian[0, 1:] = -upper[:-1] / 2
        jacobian[1] = 1 - (lower + upper) / 2
        jacobian[2, :-1] = -lower[1:] / 2
        step = solve_banded((1, 1), jacobian, centroid - q)
        q = q + step
        q = (q - q[::-1]) / 2  # the solution is odd: keep rounding from breaking that
        if np.abs(step).max() < 1e-12:
            break
    return ScalarCodebook("lloyd-max", q.astype(np.float32), 1.0)
