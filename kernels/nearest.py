"""The k least values of a stream, for many queries at once."""

from lplr.kernels.jit import kernel


@kernel
def keep_least(products, scale, offset, first, values, indices):
    """Merge the values ``offset[j] + scale[j] * products[i, j]`` into the k least of query i.

    ``products`` is float64 (m, b), ``scale`` and ``offset`` are float64 (b,), all finite; ``first``
    is the index of the first of the b values. ``values``, float64 (m, k), ascending along each row
    and infinite where there is none yet, and ``indices``, int64 (m, k), are updated. Among equal
    values the one that comes first stays, so that a stream in the order of its indices gives the
    same result as a stable sort.
    """
    last = values.shape[1] - 1
    for i in range(products.shape[0]):
        bound = values[i, last]
        for j in range(products.shape[1]):
            value = offset[j] + scale[j] * products[i, j]
            if value < bound:
                p = last
                while p > 0 and values[i, p - 1] > value:
                    values[i, p] = values[i, p - 1]
                    indices[i, p] = indices[i, p - 1]
                    p -= 1
                values[i, p] = value
                indices[i, p] = first + j
                bound = values[i, last]
