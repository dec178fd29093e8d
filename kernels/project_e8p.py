"""Products with matrices held as E8P code words, and their expansion, at the speed of memory."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def decode(codes, step, points, tail, out):
    """Points of code words, in code units.

    Parameters
    ----------
    codes : uint32 (n,)
    step, points, tail : as in `lplr.kernels.lattice.feedback_panel`
    out : float32 (n, 8), written
    """
    quarter = np.float32(0.25)
    if len(tail) == 0:
        for g in range(len(codes)):
            p, o = points[codes[g]], out[g]
            for i in range(8):
                o[i] = quarter * np.float32(p[i])
    else:
        fine = quarter * step
        for g in range(len(codes)):
            p, q, o = points[codes[g] & 65535], tail[codes[g] >> 16], out[g]
            for i in range(8):
                o[i] = quarter * np.float32(p[i]) + fine * np.float32(q[i])
