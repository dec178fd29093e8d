"""Sylvester-Hadamard transforms of size n = 2^p, ``H[i, j] = (-1)^popcount(i & j)``, unnormalised.

There are two loops, because different entries are contiguous. Along a row, the stages of stride 1,
2 and 4 vectorise only after a rotation of the index bits. Along any other axis, runs of
neighbouring entries undergo the same operations.
"""

import numpy as np
from numba import types

from lplr.kernels.jit import kernel

_PIECE = 8192  # entries that all stages of small stride transform while they are in the L1 cache


@kernel
def _rotate2(x, y):
    """One radix-2 step on the top index bit, which becomes the lowest bit of y's index."""
    q = x.shape[0] // 2
    for j in range(q):
        a = x[j]
        b = x[j + q]
        y[2 * j] = a + b
        y[2 * j + 1] = a - b


@kernel
def _rotate4(x, y):
    """One radix-4 step on the two top index bits, which become the lowest bits of y's index."""
    q = x.shape[0] // 4
    for j in range(q):
        s = x[j] + x[j + q]
        d = x[j] - x[j + q]
        t = x[j + 2 * q] + x[j + 3 * q]
        e = x[j + 2 * q] - x[j + 3 * q]
        y[4 * j] = s + t
        y[4 * j + 1] = d + e
        y[4 * j + 2] = s - t
        y[4 * j + 3] = d - e


@kernel
def _butterflies(x, h):
    """All stages of stride h, 2h, ... of the flat array x, in place; h neighbours are alike."""
    n = x.shape[0]
    while 4 * h <= n:
        for b in range(0, n, 4 * h):
            # Slices, not offsets: the loop then needs no wrap-around test and vectorises.
            x0 = x[b : b + h]
            x1 = x[b + h : b + 2 * h]
            x2 = x[b + 2 * h : b + 3 * h]
            x3 = x[b + 3 * h : b + 4 * h]
            for j in range(h):
                s = x0[j] + x1[j]
                d = x0[j] - x1[j]
                t = x2[j] + x3[j]
                e = x2[j] - x3[j]
                x0[j] = s + t
                x1[j] = d + e
                x2[j] = s - t
                x3[j] = d - e
        h *= 4
    if h < n:
        x0 = x[:h]
        x1 = x[h : 2 * h]
        for j in range(h):
            s = x0[j]
            x0[j] = s + x1[j]
            x1[j] = s - x1[j]


@kernel
def _all_stages(x, width):
    """``x = (H kron I_width) @ x``; small strides come first, piece by piece in the L1 cache."""
    piece = width
    while piece < x.shape[0] and 2 * piece <= _PIECE:
        piece *= 2
    for start in range(0, x.shape[0], piece):
        _butterflies(x[start : start + piece], width)
    _butterflies(x, piece)


@kernel
def hadamard_rows(X, pre, post, out, first, last):
    """``out[i] = post * (H @ (pre * X[i]))`` for the rows i from ``first`` to ``last``.

    X and ``out``, which may be X, are float32 or float64 (r, n), n a power of two; ``pre`` and
    ``post`` are (n,) of the same dtype. Each step works on the top bits of the index and rotates
    them to the bottom, so every loop runs over contiguous entries, and the order is the natural one
    again after the last step.
    """
    n = X.shape[1]
    x = np.empty(n, X.dtype)
    y = np.empty(n, X.dtype)
    for i in range(first, last):
        for j in range(n):
            x[j] = X[i, j] * pre[j]
        left = n
        if n & 0x5555555555555555 == 0:  # an odd power of two
            _rotate2(x, y)
            for j in range(n):
                x[j] = y[j]
            left //= 2
        while left > 4:
            _rotate4(x, y)
            _rotate4(y, x)
            left //= 16
        if left == 4:
            _rotate4(x, y)
            for j in range(n):
                x[j] = y[j]
        for j in range(n):
            out[i, j] = x[j] * post[j]


@kernel
def hadamard_strided(X, width, first, last):
    """Replace the rows i from ``first`` to ``last`` by ``(H kron I_width) @ X[i]``, in place.

    X is float32 or float64 (r, n * width), n a power of two.
    """
    for i in range(first, last):
        _all_stages(X[i], width)


@kernel
def hadamard_columns(X, pre, post, out, first, last):
    """``out[:, c] = post * (H @ (pre * X[:, c]))`` for the columns c from ``first`` to ``last``.

    X and ``out``, which may be X, are float32 or float64 (n, d), n a power of two; ``pre`` and
    ``post`` are (n,) of the same dtype. The columns are copied side by side, transformed together
    and copied back, so that memory is read and written once. Choose so few columns that the copy
    stays in the second-level cache.
    """
    n = X.shape[0]
    width = last - first
    tile = np.empty(n * width, X.dtype)
    for k in range(n):
        factor = pre[k]
        x = X[k, first:last]
        y = tile[k * width : (k + 1) * width]
        for c in range(width):
            y[c] = factor * x[c]
    _all_stages(tile, width)
    for k in range(n):
        factor = post[k]
        x = tile[k * width : (k + 1) * width]
        y = out[k, first:last]
        for c in range(width):
            y[c] = factor * x[c]


def _vector_signature(dtype):
    # Arguments that are only read have read-only types, which accept writable arrays as well.
    vector, matrix = (types.Array(dtype, ndim, "C", readonly=True) for ndim in (1, 2))
    return types.void(vector, vector, matrix, dtype[::1], types.boolean)


@kernel([_vector_signature(types.float32), _vector_signature(types.float64)])
def hadamard_vector(x, factors, block, out, inverse):
    """``out = (H kron P) @ (factors * x)``, or with ``inverse`` ``factors * ((H kron P.T) @ x)``.

    ``x``, ``factors`` and ``out`` are float32 or float64 (n,); ``block`` is (b, b), the transpose
    of what stands for P or P.T here, and n / b is a power of two. One vector takes a few
    microseconds, which the general path would spend on its way here.
    """
    n, order = len(x), len(block)
    group = np.empty(order, out.dtype)
    for start in range(0, n, order):
        group[:] = 0
        for c in range(order):
            value = x[start + c]
            if not inverse:
                value *= factors[start + c]
            row = block[c]
            for r in range(order):
                group[r] += row[r] * value
        out[start : start + order] = group
    _all_stages(out, order)
    if inverse:
        for i in range(n):
            out[i] *= factors[i]
