"""What tests of matrices in passes share."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked

Packed = LowRank | QPlusLowRank | Quantized | Stacked
N, D = 9001, 24  # several tiles, the last of which is short, and rows beyond whole lattice words
LARGE = "1GB"


def clusters() -> np.ndarray:
    """Clusters in the order of the rows, on a falling spectrum, (N, D) float32."""
    rng = np.random.default_rng(0)
    label = np.sort(rng.integers(0, 7, N))
    noise = rng.standard_normal((N, D)) / np.arange(1, D + 1) ** 0.7
    return (noise + rng.standard_normal((7, D))[label]).astype(np.float32)


def stored(f: Packed) -> bytes:
    """All that is packed."""
    if isinstance(f, QPlusLowRank):
        seeds = repr((f.left, f.right)).encode()
        return seeds + stored(f.backbone) + (b"" if f.low_rank is None else stored(f.low_rank))
    if isinstance(f, LowRank):
        return stored(f.left) + stored(f.right)
    if isinstance(f, Stacked):
        return b"".join(map(stored, f.blocks))
    offset = b"" if f.offset is None else f.offset.tobytes()
    return f.codes.tobytes() + f.scale.tobytes() + offset


def least_limit(call: Any) -> str:
    """The limit that the refusal of a tiny one names."""
    with pytest.raises(InputError, match="use at least") as refusal:
        call("1KB")
    return re.findall(r"use at least '(.*)'", str(refusal.value))[0]
