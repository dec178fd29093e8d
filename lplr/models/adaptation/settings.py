"""What an adaptation is asked to do, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lplr.exceptions import InputError
from lplr.models.adaptation.presets import GROUPS, LOSSES, PRESETS
from lplr.validation.arguments import check_choice, check_integer, check_real

__all__ = ["Settings", "settings_of"]


@dataclass(frozen=True)
class Settings:
    """Checked settings; `lplr.models.adapt` says what they mean."""

    rank: int | None
    bits: int
    steps: int
    batch: int
    rate: float
    loss: str
    trained: tuple[str, ...]
    rng: int

    def describe(self) -> dict[str, Any]:
        """As JSON holds them."""
        return {**asdict(self), "trained": list(self.trained)}


def settings_of(
    preset: Any, rank: Any, bits: Any, loss: Any, trained: Any, rng: Any, given: Mapping[str, Any]
) -> Settings:
    """The settings that arguments of `lplr.models.adapt` ask for.

    ``given`` holds those that a preset decides where they are None.
    """
    check_choice(preset, "preset", tuple(PRESETS))
    chosen = PRESETS[preset] | {key: value for key, value in given.items() if value is not None}
    check_choice(loss, "loss", LOSSES)
    if isinstance(trained, str) or not trained or not set(trained) <= set(GROUPS):
        raise InputError(f"trained: must name some of {', '.join(GROUPS)}, found {trained!r}")
    return Settings(
        rank=None if rank is None else check_integer(rank, "rank", 1),
        bits=check_integer(bits, "bits", 1, 8),
        steps=check_integer(chosen["steps"], "steps", 1),
        batch=check_integer(chosen["batch"], "batch", 1),
        rate=check_real(chosen["rate"], "rate"),
        loss=loss,
        trained=tuple(group for group in GROUPS if group in trained),
        rng=check_integer(rng, "rng", 0),
    )
