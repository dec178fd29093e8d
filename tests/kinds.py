"""The codebooks that tests go through: all whose code words are independent, and some trellises."""

from __future__ import annotations

from lplr.quantizers import QUANTIZERS

WORDS: list[tuple[str, float]] = [
    (name, bits)
    for name, (widths, _) in QUANTIZERS.items()
    if not name.startswith("trellis")
    for bits in widths
]
KINDS = [*WORDS, ("trellis-8", 1), ("trellis-8", 2), ("trellis-8", 2.75)]
