"""What ``lplr bench profile`` found, as a table: for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.evaluation.profile import MANY

__all__ = ["profile_cells", "profile_heads", "profile_words"]

_UNITS = {"float32": "flop/s", "float64": "flop/s", "bytes": "B/s", "states": "states/s"}


def profile_heads(found: Mapping[str, Any]) -> list[str]:
    """The heads of the columns."""
    threads = max(map(int, found["peaks"]))
    return [
        "step", "calls", "1 thread", "share", "serial", f"at best on {MANY}",
        f"{threads} threads", "rate", "of peak", f"on {threads}",
    ]  # fmt: skip


def profile_cells(found: Mapping[str, Any]) -> list[list[tuple[str, float | None]]]:
    """The cells of each row, text and number; the last row is the total."""
    total = found["total"]
    rows = [*found["rows"], {"step": "total", "calls": None, "work": {}, **total}]
    return [
        [
            (row["step"], None),
            ("" if row["calls"] is None else str(row["calls"]), row["calls"]),
            _seconds(row["seconds"]),
            _percent(row["seconds"] / total["seconds"]),
            _seconds(row["serial"]),
            _seconds(row["at_best"]),
            _seconds(row["shared_seconds"]),
            _rate(row["work"], row["seconds"]),
            _percent(row.get("of_peak")),
            _percent(row.get("shared_of_peak")),
        ]
        for row in rows
    ]


def profile_words(found: Mapping[str, Any]) -> str:
    """What the columns are, and the sum of it."""
    total = found["total"]
    serial = total["serial"] / total["seconds"]
    peaks = "; ".join(
        f"on {count}: {peak['float32'] / 1e9:.0f} Gflop/s in float32, "
        f"{peak['float64'] / 1e9:.0f} in float64, {peak['bytes'] / 1e9:.1f} GB/s copied"
        for count, peak in found["peaks"].items()
    )
    return (
        f"serial: {serial:.1%} of the time on one thread is outside of blocks that threads share.\n"
        f"at best on {MANY}: that time, the blocks on {MANY} threads, if all of a call took the "
        "same.\nrate: on one thread; states: entries times the states of the trellis. of peak: "
        f"of this machine's\nproduct or copy in the same run ({peaks})."
    )


def _seconds(seconds: float) -> tuple[str, float]:
    return f"{seconds:.3f}", seconds


def _percent(share: float | None) -> tuple[str, float | None]:
    return "" if share is None else f"{share:.1%}", share


def _rate(work: Mapping[str, float], seconds: float) -> tuple[str, float | None]:
    units = {_UNITS[kind] for kind in work}
    if len(units) != 1 or not seconds:
        return "", None
    rate = sum(work.values()) / seconds
    return f"{rate / 1e9:.3g} G{units.pop()}", rate
