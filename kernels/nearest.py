"""The k least values of a stream, for many queries at once."""

from lplr.kernels.jit import kernel


@kernel
def keep_least(products, scale, offset, numbers, values, indices):
    """Merge the values ``offset[j] + scale[j] * products[i, j]`` into the k least of query i.

    ``products`` is float64 (m, b), ``scale`` and ``offset`` are float64 (b,), all finite;
    ``numbers``, int64 (b,), says which row of the database each column is, each row once.
    ``values``, float64 (m, k), ascending along each row and infinite where there is none yet, and
    ``indices``, int64 (m, k), are updated. Of equal values those of the lowest numbers stay, in
    this order: the result does not depend on the order in which parts of a stream are merged.
    """
    last = values.shape[1] - 1
    for i in range(products.shape[0]):
        bound = values[i, last]
        for j in range(products.shape[1]):
            value = offset[j] + scale[j] * products[i, j]
            if value > bound:
                continue
            number = numbers[j]
            if value == bound and number > indices[i, last]:
                continue
            p = last
            while p > 0 and (
                values[i, p - 1] > value
                or (values[i, p - 1] == value and indices[i, p - 1] > number)
            ):
                values[i, p] = values[i, p - 1]
                indices[i, p] = indices[i, p - 1]
                p -= 1
            values[i, p] = value
            indices[i, p] = number
            bound = values[i, last]
