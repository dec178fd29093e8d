"""Damaged files: every bit flipped, cut or moved is noticed, as a typed error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lplr.exceptions import LplrError
from lplr.matrices.quantized import Quantized
from lplr.quantizers.packing import pack
from lplr.selftest.trials import Scale, Trial
from lplr.storage.container import load, save

__all__ = ["campaign"]


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Flip bits of a packed file."""
    path = folder / "small.h5"
    codes = np.random.default_rng(0).integers(0, 4, (3, 4))
    save(path, Quantized((3, 4), "uniform", 2, pack(codes, 2), np.full((1, 1), 0.5, np.float32)))
    whole = path.read_bytes()
    rng = scale.rng("flips")
    for i in range(scale.count(4000, 200)):
        data = bytearray(whole)
        at, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        data[at] ^= 1 << bit
        path.write_bytes(data)
        failure = ""
        try:
            load(path)
            failure = f"mutant {i}, bit {bit} of byte {at}: accepted"
        except LplrError:
            pass
        yield Trial("G2 G6", "a bit of a packed file flipped", failure)
