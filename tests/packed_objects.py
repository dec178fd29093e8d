"""Small packed matrices, and what makes two of them the same."""

from __future__ import annotations

import numpy as np

from lplr.matrices.base import PackedMatrix
from lplr.matrices.low_rank import LowRank
from lplr.matrices.quantized import Quantized
from lplr.quantizers.packing import pack


def quantized(n: int, d: int, bits: int = 3, seed: int = 0, **fields: object) -> Quantized:
    rng = np.random.default_rng(seed)
    codes = pack(rng.integers(0, 2**bits, (n, d)), bits)
    scale = rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
    return Quantized((n, d), "uniform", bits, codes, scale, **fields)


def low_rank(**fields: object) -> LowRank:
    meta = {"rng": 7, "note": 'layer "up/0" ünïcode', "history": [1.0, 0.5]}
    return LowRank(quantized(9, 4), quantized(4, 7, seed=1), meta=meta, **fields)


def assert_same(a: PackedMatrix, b: PackedMatrix) -> None:
    """Equal class, encoding, metadata and state, down to the bits of every array."""
    assert type(a) is type(b)
    assert dict(a.meta) == dict(b.meta)
    x, y = a._state(), b._state()
    assert x.keys() == y.keys()
    for key, value in x.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == y[key].dtype
            assert value.shape == y[key].shape
            assert value.tobytes() == y[key].tobytes()
        elif isinstance(value, PackedMatrix):
            assert_same(value, y[key])
        else:
            assert (type(value), value) == (type(y[key]), y[key])
