"""Multilinear hashing of words."""

import numpy as np

from lplr.kernels.jit import kernel


@kernel
def weighted_sums(words, weights, sums):
    """Sums of words times weights, modulo 2**64, of as many words at a time as there are weights.

    ``words``, uint64 (k m,), ``weights``, uint64 (m,), and ``sums``, uint64 (k,), which is written.
    """
    m = len(weights)
    for i in range(len(sums)):
        part = words[i * m : (i + 1) * m]
        total = np.uint64(0)
        for j in range(m):
            total += part[j] * weights[j]
        sums[i] = total
