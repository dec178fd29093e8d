"""Rounding to scalar levels: nearest or dithered for uniform levels, nearest for any others."""

import numpy as np

from lplr.kernels.jit import kernel


@kernel
def round_uniform(x, dither, top, codes):
    """Codes 0 to ``top``, from 1 to 255, of the levels ``code - top / 2`` for ``x``, in code units.

    ``x`` is float32 (n,), ``codes`` uint8 (n,). If ``dither``, float32, is (n,) and uniform on [0,
    1), an entry is rounded up with the probability that makes it unbiased. If ``dither`` is empty,
    each entry gets the nearest level, and a tie goes to the lower one.
    """
    highest = np.float32(top)
    centre = np.float32(0.5) * highest
    zero = np.float32(0.0)
    if len(dither) > 0:
        for i in range(len(x)):
            y = np.floor(x[i] + centre + dither[i])
            codes[i] = np.uint8(np.int32(min(max(y, zero), highest)))
    else:
        below = centre - np.float32(0.5)
        for i in range(len(x)):
            y = np.ceil(x[i] + below)
            codes[i] = np.uint8(np.int32(min(max(y, zero), highest)))


@kernel
def round_columns(x, offset, inverse, scale, top, codes, values):
    """Nearest uniform levels of a matrix, turned: codes and values of its columns as rows.

    Entry by entry ``y = (x - offset) * inverse`` is rounded as `round_uniform` does without dither,
    and its value is ``(code - top / 2) * scale + offset``. ``x`` is float32 (n, m), ``codes`` uint8
    and ``values`` float32, both (m, n); ``offset``, ``inverse`` and ``scale`` are float32.
    """
    n, m = x.shape
    highest = np.float32(top)
    centre = np.float32(0.5) * highest
    below = centre - np.float32(0.5)
    zero = np.float32(0.0)
    tile = 64  # rows whose entries stay in the first-level cache while columns pass over them
    for start in range(0, n, tile):
        stop = min(start + tile, n)
        for j in range(m):
            for i in range(start, stop):
                y = np.ceil((x[i, j] - offset) * inverse + below)
                code = min(max(y, zero), highest)
                codes[j, i] = np.uint8(np.int32(code))
                values[j, i] = (code - centre) * scale + offset


@kernel
def round_levels(x, thresholds, codes):
    """Codes, uint8 (n,), of the nearest levels: the number of thresholds below each entry.

    ``x``, float32 (n,), is in code units; ``thresholds``, float32 (2**B - 1,), ascend.
    """
    chunk = 4096  # stays in the first-level cache while the thresholds pass over it
    for start in range(0, len(x), chunk):
        part, out = x[start : start + chunk], codes[start : start + chunk]
        for i in range(len(part)):
            out[i] = 0
        for threshold in thresholds:
            for i in range(len(part)):
                out[i] += np.uint8(part[i] > threshold)
