"""Ways to divide bits among the layers of a network, and how far predictions are with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.models.evaluation.estimate import Estimate, ratio_of

__all__ = ["Allocation", "Candidate"]

_SURE = 2.0  # standard errors by which equal bits must be beaten


@dataclass(frozen=True)
class Candidate:
    """Bits per weight, and how far predictions then are from the original.

    Parameters
    ----------
    name : {"equal", "measured", "predicted"}
    bits_per_weight : float or dict of str to float
        As `lplr.models.compress` takes them.
    kl : tuple of float
        Mean divergence over the tokens of each sequence, in nats.
    """

    name: str
    bits_per_weight: float | dict[str, float]
    kl: tuple[float, ...]


@dataclass(frozen=True)
class Allocation:
    """What `allocate` has compared; prints as a table.

    Parameters
    ----------
    candidates : tuple of Candidate
        Equal bits first.
    kinds : dict of str to float
        The divergence that the layers of one kind make when they alone are coded.
    blocks : tuple of float
        The same of each block.
    tokens : tuple of int
        Of each sequence on which the candidates were compared.
    """

    candidates: tuple[Candidate, ...]
    kinds: dict[str, float]
    blocks: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def chosen(self) -> Candidate:
        """The best of those that beat equal bits beyond doubt; else equal bits."""

        def gap(candidate: Candidate) -> float:
            found = self.change(candidate)
            return found.value if found.value < -_SURE * found.standard_error else 0.0

        return min(self.candidates, key=gap)

    @property
    def bits_per_weight(self) -> float | dict[str, float]:
        """Those to compress with."""
        return self.chosen.bits_per_weight

    def kl(self, candidate: Candidate) -> Estimate:
        """The mean divergence over all tokens."""
        return ratio_of(np.multiply(candidate.kl, self.tokens), self.tokens)

    def change(self, candidate: Candidate) -> Estimate:
        """Of the divergence, against equal bits on the same sequences."""
        gaps = np.subtract(candidate.kl, self.candidates[0].kl)
        return ratio_of(gaps * self.tokens, self.tokens)

    def describe(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "chosen": self.chosen.name,
            "candidates": [
                {
                    "name": each.name,
                    "kl": self.kl(each).value,
                    "kl_standard_error": self.kl(each).standard_error,
                    "change": self.change(each).value,
                    "change_standard_error": self.change(each).standard_error,
                    "bits_per_weight": each.bits_per_weight,
                    "kl_of_sequences": list(each.kl),
                }
                for each in self.candidates
            ],
            "kinds": self.kinds,
            "blocks": list(self.blocks),
            "tokens": list(self.tokens),
        }

    def __str__(self) -> str:
        rows = [("bits", "KL", "against equal bits")]
        for each in self.candidates:
            change = "" if each is self.candidates[0] else str(self.change(each))
            rows.append((each.name, str(self.kl(each)), change))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, f"chosen: {self.chosen.name}"])
