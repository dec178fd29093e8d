"""What this machine can do at most: products and copies, on one thread and on several."""

from __future__ import annotations

import numpy as np

from lplr.evaluation.resources import in_turn, threads
from lplr.parallel import run_blocks

__all__ = ["measured_peaks"]

_SIDE = 2048  # of matrices that are multiplied on one thread
_COPY = 1 << 28  # bytes that are copied
_ROUNDS = 3


def measured_peaks(count: int) -> dict[str, float]:
    """The best products and copies on so many threads.

    Parameters
    ----------
    count : int

    Returns
    -------
    dict
        ``float32`` and ``float64``: flop/s of NumPy's product of two square matrices; ``bytes``:
        bytes/s that a copy reads and writes.
    """
    side = int(_SIDE * count ** (1 / 3)) // 64 * 64
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((side, side))
    narrow = wide.astype(np.float32)
    source = np.ones(_COPY // 8)
    target = np.zeros_like(source)

    def copy(i: int, j: int) -> None:
        target[i:j] = source[i:j]

    step = -(-len(source) // count)
    runs = {
        "float32": lambda: np.matmul(narrow, narrow),
        "float64": lambda: np.matmul(wide, wide),
        "bytes": lambda: run_blocks(copy, len(source), step),
    }
    amounts = {"float32": 2.0 * side**3, "float64": 2.0 * side**3, "bytes": 2.0 * source.nbytes}
    with threads(count):
        seconds = in_turn(runs, _ROUNDS)
    return {kind: amounts[kind] / min(seconds[kind]) for kind in runs}
