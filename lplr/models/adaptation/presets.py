"""The choices that an adaptation offers."""

from __future__ import annotations

from typing import Any

__all__ = ["GROUPS", "LOSSES", "PRESETS"]

GROUPS = ("factors", "scales", "norms", "biases")  # of parameters
LOSSES = ("kl", "cross-entropy")

# Steps, sequences in each, and the largest learning rate.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 64, "batch": 2, "rate": 5e-4},
    "default": {"steps": 150, "batch": 4, "rate": 5e-4},
}
