"""Feedback quantization of one panel for scalar codebooks.

The same loop serves LDL feedback and coordinate descent, with different arguments (see
`lplr.coding.feedback`). The feedback axis is the first axis of every array, so that the inner loops
run over contiguous, independent entries and vectorise.
"""

import numpy as np

from lplr.kernels.jit import kernel

_CHUNK = 64  # entries handled together: the errors of a 64-row panel then fit in the L1 cache


@kernel
def feedback_panel(target, base, coeff, thresholds, levels, scale, error, codes):
    """Quantize the rows of a panel from last to first, each with the errors of those below it.

    For each row k, from the last to the first, and each entry::

        y = target[k] + sum over j > k of coeff[j, k] * error[j]
        codes[k] = number of thresholds below y / scale[k]
        error[k] = base[k] - scale[k] * levels[codes[k]]

    ``target``, ``base`` and ``error`` are float32 (p, n), ``codes`` uint8 (p, n); the last two are
    written. Only the part below the diagonal of ``coeff``, float32 (p, p), is read. ``levels``,
    float32 (2**B,), ascend, and ``thresholds`` are their midpoints. No ``scale``, float32 (p,), is
    negative; 0 gives every entry of the row the middle level.
    """
    p, n = target.shape
    y = np.empty(_CHUNK, np.float32)
    index = np.empty(_CHUNK, np.int32)
    # A private copy of the chunk's errors: contiguous, of fixed width, and always in cache.
    e = np.zeros((p, _CHUNK), np.float32)
    for start in range(0, n, _CHUNK):
        stop = min(start + _CHUNK, n)
        for k in range(p - 1, -1, -1):
            t = target[k, start:stop]
            for i in range(stop - start):
                y[i] = t[i]
            j = k + 1
            while j + 4 <= p:  # four at a time: y is loaded and stored a quarter as often
                c0, c1, c2, c3 = coeff[j, k], coeff[j + 1, k], coeff[j + 2, k], coeff[j + 3, k]
                e0, e1, e2, e3 = e[j], e[j + 1], e[j + 2], e[j + 3]
                for i in range(_CHUNK):
                    y[i] += (c0 * e0[i] + c1 * e1[i]) + (c2 * e2[i] + c3 * e3[i])
                j += 4
            while j < p:
                c0, e0 = coeff[j, k], e[j]
                for i in range(_CHUNK):
                    y[i] += c0 * e0[i]
                j += 1
            s = scale[k]
            inverse = np.float32(1.0) / s if s > 0 else np.float32(0.0)
            for i in range(_CHUNK):
                y[i] *= inverse
                index[i] = 0
            # Counting thresholds one after the other beats a binary search up to 8 bits, since it
            # compares whole registers and gathers nothing.
            for threshold in thresholds:
                for i in range(_CHUNK):
                    index[i] += np.int32(y[i] > threshold)
            b, c, out, ek = base[k, start:stop], codes[k, start:stop], error[k, start:stop], e[k]
            for i in range(stop - start):
                c[i] = index[i]
                ek[i] = b[i] - s * levels[index[i]]
                out[i] = ek[i]


@kernel
def feedback_columns(target, base, outer, inner, thresholds, levels, scale, error, codes):
    """Quantize vectors from last to first, under a Hessian for their entries as well.

    The Hessian is a Kronecker product, and so is its LDL factor. Vector j, from the last to the
    first, starts from ``t = target[j] + sum over i > j of outer[i, j] * error[i]``. Its entries a
    follow from the last to the first::

        y = t[a] + sum over b > a of inner[b, a] * (t[b] - q[b])
        q[a] = scale[a] * (level nearest to y / scale[a])
        error[j, a] = base[j, a] - q[a]

    The arrays are those of `feedback_panel`, with p vectors of k entries and a ``scale``, float32
    (k,), for each entry; 0 gives it the middle level times 0. Only the parts below the diagonals of
    ``outer``, float32 (p, p), and ``inner``, float32 (k, k), are read.
    """
    p, k = target.shape
    t = np.empty(k, np.float32)
    y = np.empty(k, np.float32)
    for j in range(p - 1, -1, -1):
        goal = target[j]
        for a in range(k):
            t[a] = goal[a]
        for i in range(j + 1, p):
            c, e = outer[i, j], error[i]
            for a in range(k):
                t[a] += c * e[a]
        for a in range(k):
            y[a] = t[a]
        for a in range(k - 1, -1, -1):
            s = scale[a]
            inverse = np.float32(1.0) / s if s > 0 else np.float32(0.0)
            x = y[a] * inverse
            index = 0
            for threshold in thresholds:
                index += x > threshold
            q = s * levels[index]
            codes[j, a] = index
            error[j, a] = base[j, a] - q
            # Push the error to the entries that are still to come.
            rest, row = t[a] - q, inner[a]
            for b in range(a):
                y[b] += rest * row[b]
