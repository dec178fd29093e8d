"""Products with sparse sketches."""

import numpy as np

from lplr.kernels.jit import kernel

_ROWS = 16  # rows of A handled together: one or two vector registers
_INNER = 256  # entries of those rows that are transposed at a time: 16 KB in float32


@kernel
def sparse_project(A, positions, values, out, first, last):
    """``out[i] = A[i] @ S`` for the rows i from ``first`` to ``last``, S given by its rows.

    Row j of S holds ``values[j, t]`` at column ``positions[j, t]``. A is float32 or float64 (n, d),
    ``positions`` int32 (d, s); ``values`` (d, s) and ``out`` (n, m) have the dtype of A. The loop
    transposes sixteen rows of A, so that each non-zero of S costs one multiply-add of a whole
    register.
    """
    d = A.shape[1]
    m = out.shape[1]
    strip = np.zeros(_INNER * _ROWS, A.dtype)
    total = np.empty(m * _ROWS, A.dtype)
    for top in range(first, last, _ROWS):
        count = min(_ROWS, last - top)
        total[:] = 0
        for start in range(0, d, _INNER):
            stop = min(start + _INNER, d)
            for i in range(count):
                row = A[top + i, start:stop]
                for j in range(stop - start):
                    strip[j * _ROWS + i] = row[j]
            for j in range(start, stop):
                x = strip[(j - start) * _ROWS : (j - start + 1) * _ROWS]
                for t in range(positions.shape[1]):
                    p = positions[j, t]
                    v = values[j, t]
                    y = total[p * _ROWS : (p + 1) * _ROWS]
                    for i in range(_ROWS):
                        y[i] += v * x[i]
        for i in range(count):
            row = out[top + i]
            for p in range(m):
                row[p] = total[p * _ROWS + i]
