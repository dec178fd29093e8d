"""The codebooks that tests go through: all block codebooks, and some trellis codes."""

from __future__ import annotations

from lplr.quantizers import QUANTIZERS

BLOCKS: list[tuple[str, float]] = [
    (name, bits)
    for name, (widths, _) in QUANTIZERS.items()
    if not name.startswith("trellis")
    for bits in widths
]
KINDS = [*BLOCKS, ("trellis-8", 1), ("trellis-8", 2), ("trellis-8", 2.75)]
