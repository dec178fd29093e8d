"""Products of a few decoded columns of a matrix, while they are in the cache, with many vectors."""

from lplr.kernels.jit import kernel
from lplr.kernels.trellis_vectors import MANY, load_many, multiply_add, store

VECTORS = 8  # that are multiplied together: with `MANY` entries of each sum, they fill registers


@kernel
def add_tile(tile, stride, X, first, out, at, rows):
    """Add the product of columns with rows of X to a part of the transposed result.

    ``out[c, at + r] += sum over k of tile[k * stride + r] * X[first + k, c]``, r from 0 to ``rows``

    ``tile`` and ``out`` are flat, float32 of k columns and (c, width); ``X`` is float32 (d, c), c a
    multiple of `VECTORS`, and ``rows`` is one of `MANY`. As many columns count as the tile holds.
    """
    count, width = len(tile) // stride, len(out) // X.shape[1]
    for r in range(0, rows, MANY):
        for c in range(0, X.shape[1], VECTORS):
            to = c * width + at + r
            y0, y1 = load_many(out, to), load_many(out, to + width)
            y2, y3 = load_many(out, to + 2 * width), load_many(out, to + 3 * width)
            y4, y5 = load_many(out, to + 4 * width), load_many(out, to + 5 * width)
            y6, y7 = load_many(out, to + 6 * width), load_many(out, to + 7 * width)
            for k in range(count):
                v, x = load_many(tile, k * stride + r), X[first + k]
                y0, y1 = multiply_add(x[c], v, y0), multiply_add(x[c + 1], v, y1)
                y2, y3 = multiply_add(x[c + 2], v, y2), multiply_add(x[c + 3], v, y3)
                y4, y5 = multiply_add(x[c + 4], v, y4), multiply_add(x[c + 5], v, y5)
                y6, y7 = multiply_add(x[c + 6], v, y6), multiply_add(x[c + 7], v, y7)
            store(out, to, y0)
            store(out, to + width, y1)
            store(out, to + 2 * width, y2)
            store(out, to + 3 * width, y3)
            store(out, to + 4 * width, y4)
            store(out, to + 5 * width, y5)
            store(out, to + 6 * width, y6)
            store(out, to + 7 * width, y7)
